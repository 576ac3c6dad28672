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

// Rows x [P, in] in the layout that linear_forward reads, made once for all layers that are given the same rows.
struct PackedRows {
  explicit PackedRows(ConstMatrixView x);

  size_t rows = 0;   // P
  size_t depth = 0;  // in
  size_t width = 0;  // rows that share a panel
  Matrix panels;     // [⌈P / width⌉, in · width]: panel[k][row]
};

// y [count, out] (+)= diag(row_scale) x[first, first + count) wᵀ + bias, w [out, in]. row_scale is [count], or nullptr
// for ones; bias is [out], or nullptr for zeros.
void linear_forward(const PackedRows& x, size_t first, size_t count, ConstMatrixView w, MatrixView y,
                    bool accumulate = false, const float* row_scale = nullptr, const float* bias = nullptr);
// The same for all rows of x [P, in].
void linear_forward(ConstMatrixView x, ConstMatrixView w, MatrixView y, bool accumulate = false,
                    const float* row_scale = nullptr);

// dx [P, in] (+)= diag(row_scale) dy [P, out] w [out, in].
void linear_backward_input(ConstMatrixView dy, const WeightView& w, MatrixView dx, bool accumulate = false,
                           const float* row_scale = nullptr);

// dw [out, in] (+)= dy [P, out]ᵀ x [P, in].
void linear_backward_weight(ConstMatrixView dy, ConstMatrixView x, MatrixView dw, bool accumulate = false);

}  // namespace hone
