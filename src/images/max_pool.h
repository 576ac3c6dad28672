// max(0, maximum of 2 × 2) and its gradient, for activations [images, rows, columns, channels].
#pragma once

#include <cstddef>

namespace hone {

struct PoolShape {
  size_t images, rows, cols, channels;  // of the input; a last odd row or column is left out
};

// y [images, rows/2, cols/2, channels]
void max_pool(const PoolShape& shape, const float* x, float* y);
// dx for dy, given the x and y of max_pool: the first of equal maxima takes all, nothing passes where y = 0.
void max_pool_backward(const PoolShape& shape, const float* x, const float* y, const float* dy, float* dx);

}  // namespace hone
