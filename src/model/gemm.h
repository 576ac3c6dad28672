// The three fp32 matrix products of a linear layer y = W x, over all cores. Every output element is summed
// in an order that depends on the inner dimension alone, so a row's result does not depend on the other rows.
#pragma once

#include <cstdint>

#include "hone/base.h"

namespace hone {

// A weight matrix [out, in] in one of the two precisions; row o of the int8 form means scales[o] · values[o].
struct WeightView {
  const float* f32 = nullptr;
  const int8_t* i8 = nullptr;
  const float* scales = nullptr;
  size_t out = 0;
  size_t in = 0;
};

inline WeightView weight_view(ConstMatrixView w) { return {w.data, nullptr, nullptr, w.rows, w.cols}; }

// y [P, out] (+)= diag(row_scale) x [P, in] wᵀ, w [out, in]. row_scale is [P], or nullptr for ones.
void linear_forward(ConstMatrixView x, ConstMatrixView w, MatrixView y, bool accumulate = false,
                    const float* row_scale = nullptr);

// dx [P, in] (+)= diag(row_scale) dy [P, out] w [out, in].
void linear_backward_input(ConstMatrixView dy, const WeightView& w, MatrixView dx, bool accumulate = false,
                           const float* row_scale = nullptr);

// dw [out, in] (+)= dy [P, out]ᵀ x [P, in].
void linear_backward_weight(ConstMatrixView dy, ConstMatrixView x, MatrixView dw, bool accumulate = false);

}  // namespace hone
