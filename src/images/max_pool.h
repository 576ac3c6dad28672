// max(0, maximum of 2 × 2) and its gradient, for planes [row, column, lane] of groups of images (lane_groups.h).
#pragma once

#include <cstddef>

namespace hone {

struct PoolShape {
  size_t planes;      // groups · channels
  size_t rows, cols;  // of the input; a last odd row or column is left out
};

// y [plane, rows/2, cols/2, lane]
void max_pool(const PoolShape& shape, const float* x, float* y);
// dx for dy, given the x and y of max_pool: the first of equal maxima takes all, nothing passes where y = 0. Rows of dx
// have convolution.h's margins; these, and a last odd row or column, are not written and must be zero already.
void max_pool_backward(const PoolShape& shape, const float* x, const float* y, const float* dy, float* dx);

}  // namespace hone
