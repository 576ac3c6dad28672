// Frozen products in int8. A weight row has one scale; so has an activation row, whose few largest values, which would
// make that scale coarse, stay fp32 (cf. LLM.int8(), Dettmers et al. 2022).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "hone/base.h"

namespace hone {

// From so many inputs on, sums of products of bytes have no room in 32 bits.
inline constexpr size_t most_int8_inputs = size_t{1} << 16;

// weight[o, i] = scales[o] · values[o, i]. A view; owns nothing.
struct Int8Weights {
  size_t out = 0;
  size_t in = 0;
  const int8_t* values = nullptr;     // [out, in]
  const int8_t* columns = nullptr;    // [in, out], the same values
  const float* scales = nullptr;      // [out], or nullptr for ones
  const int32_t* row_sums = nullptr;  // [out]: Σ of a row of values
  // [⌈out / backward_outputs⌉, in]: Σ of so many of a column's values; only int8_backward_input() reads it.
  const int32_t* column_sums = nullptr;
  size_t stride = 0;  // from a row of values to the next; 0: in
};

// So many outputs' gradients have a scale of their own. A softmax's gradient is large for a few of many thousand tokens
// and small but not nothing for the rest: with one scale for all of them the rest would be rounded to 0.
inline constexpr size_t backward_outputs = 1024;
// column_sums from columns [in, out].
void sum_columns(const int8_t* columns, size_t out, size_t in, int32_t* column_sums);

// Symmetric: the largest magnitude of row o of w [out, in] becomes 127.
void quantize_weights(ConstMatrixView w, int8_t* values, float* scales, int32_t* row_sums);
// columns [in, out] from values [out, in].
void transpose(const int8_t* values, size_t out, size_t in, int8_t* columns);

inline constexpr size_t outliers_per_row = 4;

// x[p, i] = scales[p] · (values[p, i] − 128), or the fp32 outlier of column i.
struct Int8Rows {
  size_t rows = 0;
  size_t cols = 0;
  std::vector<uint8_t> values;  // [P, in]; 128 where an outlier stands
  std::vector<float> scales;    // [P]
  struct Outlier {
    uint32_t column = 0;
    float value = 0;
  };
  std::vector<std::array<Outlier, outliers_per_row>> outliers;  // [P], largest first
};

Int8Rows quantize_rows(ConstMatrixView x);
// Of `count` columns of x diag(factors) from `first` on.
Int8Rows quantize_columns(ConstMatrixView x, size_t first, size_t count, const float* factors);
// y [count, out] = x[first, first + count) Wᵀ, or with `steps` [count] y += diag(steps) x[first, first + count) Wᵀ;
// with `bias` [out] it comes to what W x is.
void int8_forward(const Int8Rows& x, size_t first, size_t count, const Int8Weights& w, MatrixView y,
                  const float* steps = nullptr, const float* bias = nullptr);

// dx [P, in] (+)= dy [P, out] W: dy is quantised with the scales of W in it, backward_outputs at a time.
void int8_backward_input(ConstMatrixView dy, const Int8Weights& w, MatrixView dx, bool accumulate = false);

}  // namespace hone
