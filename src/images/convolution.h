// One convolution without padding, stride 1, of groups of images (lane_groups.h), forward and backward. The calling
// thread does all the work, so that no sum depends on the number of threads.
#pragma once

#include <cstddef>

namespace hone {

// Columns of zeros before and after every row of an output's gradient: where the kernel hangs over the edge,
// convolution_backward_input reads them in place of asking.
constexpr size_t gradient_margin = 2;

// 1 ≤ kernel ≤ rows and cols.
struct ConvolutionShape {
  size_t groups;
  size_t rows, cols, in_channels;
  size_t out_channels, kernel;

  size_t out_rows() const { return rows - kernel + 1; }
  size_t out_cols() const { return cols - kernel + 1; }
  size_t weights() const { return out_channels * in_channels * kernel * kernel; }
};

// x [group, in channel, row, column, lane], y [group, out channel, row, column, lane], w [out, in, kernel, kernel],
// b [out]: y = w * x + b.
void convolution(const ConvolutionShape& shape, const float* x, const float* w, const float* b, float* y);

// The gradients dw and db, overwritten, for dy [group, out channel, row, margin + column + margin, lane]; margins are
// not read. Both are sums over all lanes: in one that holds no image x must be finite and dy 0.
void convolution_backward_weights(const ConvolutionShape& shape, const float* x, const float* dy, float* dw, float* db);

// The gradient dx, laid out as x, overwritten, for dy as above with margins of 0.
void convolution_backward_input(const ConvolutionShape& shape, const float* dy, const float* w, float* dx);

}  // namespace hone
