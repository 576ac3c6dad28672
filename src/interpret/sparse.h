// Products of a few rows out of many, and the selection of those few.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
#include "hone/base.h"

namespace hone {

// Places that select_largest works in; one a thread.
struct Selection {
  std::vector<uint32_t> features;  // result: ascending
  std::vector<float> maxima;
  std::vector<float> values;
};

// The k largest of `values`, of equal ones the first; fewer if NaNs are among them. The k-th largest maximum of
// disjoint groups is a threshold that at least k values reach, and few others do.
void select_largest(std::span<const float> values, size_t k, Selection& selection);

// sum += Σ_i weights[i] rows[ids[i]].
void add_rows(ConstMatrixView rows, std::span<const uint32_t> ids, std::span<const float> weights,
              std::span<float> sum);
// products[i] = ⟨rows[ids[i]], x⟩.
void row_products(ConstMatrixView rows, std::span<const uint32_t> ids, std::span<const float> x,
                  std::span<float> products);
float inner_product(std::span<const float> a, std::span<const float> b);
// values *= factor.
void scale_by(float factor, std::span<float> values);
// y += scale · x.
void add_scaled(float scale, std::span<const float> x, std::span<float> y);

// Multiplies each value by 1/(1 − rate) with probability 1 − rate (to 2⁻¹⁶), and by 0 otherwise.
void drop_out(std::span<float> values, float rate, RandomStream& random);

// One step of Adam (Kingma & Ba 2015) with gradient · scale; correction_i = 1 − β_iᵗ.
struct SparseAdamStep {
  float learning_rate;
  float scale;
  float correction1;
  float correction2;
};
void adam_step(const SparseAdamStep& step, std::span<const float> gradient, std::span<float> first,
               std::span<float> second, std::span<float> values);

}  // namespace hone
