#include "images/convolution.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "images/convolution.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Float = hn::ScalableTag<float>;
using Vec = hn::Vec<Float>;

// Functions that end in _tile keep up to 12 sums in registers: enough to hide a product's latency, few
// enough for the 16 registers of AVX2. Where columns overlap from one step to the next the lanes come from memory: if
// GCC knows their number it keeps the overlap in registers too, and a sum has none left. Only weights_tile has room for
// both, and is faster so. (-O3 changes nothing.)

// Calls body(size, first) for parts of at most `most` that cover [0, count): as many of `most` as fit, then of half.
template <size_t most, class Body>
HWY_INLINE void for_parts(size_t count, const Body& body, size_t first = 0) {
  for (; first + most <= count; first += most) body(std::integral_constant<size_t, most>(), first);
  if constexpr (most > 1) {
    if (first < count) for_parts<most / 2>(count, body, first);
  }
}

// Where x, y and dy of one group lie.
struct Strides {
  explicit Strides(const ConvolutionShape& s)
      : lanes(hn::Lanes(Float())),
        x_row(s.cols * lanes),
        x_channel(s.rows * x_row),
        x_group(s.in_channels * x_channel),
        y_row(s.out_cols() * lanes),
        y_channel(s.out_rows() * y_row),
        y_group(s.out_channels * y_channel),
        dy_row((s.out_cols() + 2 * gradient_margin) * lanes),
        dy_channel(s.out_rows() * dy_row),
        dy_group(s.out_channels * dy_channel),
        w_out(s.in_channels * s.kernel * s.kernel),
        w_in(s.kernel * s.kernel) {}

  size_t lanes;
  size_t x_row, x_channel, x_group;
  size_t y_row, y_channel, y_group;
  size_t dy_row, dy_channel, dy_group;
  size_t w_out, w_in;
};

// `channels` × `columns` values of y from x at the kernel's upper left; w and b begin at the first channel.
template <size_t channels, size_t columns>
HWY_NOINLINE void forward_tile(const ConvolutionShape& s, const Strides& at, const float* x, const float* w,
                               const float* b, float* y) {
  const Float d;
  const size_t n = at.lanes;
  Vec sum[channels][columns];
#pragma GCC unroll 8
  for (size_t o = 0; o < channels; ++o)
#pragma GCC unroll 8
    for (size_t c = 0; c < columns; ++c) sum[o][c] = hn::Set(d, b[o]);
  for (size_t in = 0; in < s.in_channels; ++in)
    for (size_t row = 0; row < s.kernel; ++row) {
      const float* from = x + in * at.x_channel + row * at.x_row;
      for (size_t col = 0; col < s.kernel; ++col, ++w, from += n) {
        Vec value[columns];
#pragma GCC unroll 8
        for (size_t c = 0; c < columns; ++c) value[c] = hn::LoadU(d, from + c * n);
#pragma GCC unroll 8
        for (size_t o = 0; o < channels; ++o) {
          const Vec weight = hn::Set(d, w[o * at.w_out]);
#pragma GCC unroll 8
          for (size_t c = 0; c < columns; ++c) sum[o][c] = hn::MulAdd(weight, value[c], sum[o][c]);
        }
      }
    }
#pragma GCC unroll 8
  for (size_t o = 0; o < channels; ++o)
#pragma GCC unroll 8
    for (size_t c = 0; c < columns; ++c) hn::StoreU(sum[o][c], d, y + o * at.y_channel + c * n);
}

void Forward(const ConvolutionShape& s, const float* x, const float* w, const float* b, float* y) {
  const Strides at(s);
  for (size_t group = 0; group < s.groups; ++group, x += at.x_group, y += at.y_group)
    for (size_t row = 0; row < s.out_rows(); ++row)
      for_parts<3>(s.out_channels, [&](auto channels, size_t o) {
        for_parts<channels == 1 ? 8 : 4>(s.out_cols(), [&](auto columns, size_t col) {
          forward_tile<channels, columns>(s, at, x + row * at.x_row + col * at.lanes, w + o * at.w_out, b + o,
                                          y + o * at.y_channel + row * at.y_row + col * at.lanes);
        });
      });
}

// Adds one group's products to the sums [channel][tap of the kernel][lane] of `channels` × `taps` neighbours in a row
// of the kernel. x begins at the first tap, dy at the first channel's first column.
template <size_t channels, size_t taps>
HWY_NOINLINE void weights_tile(const ConvolutionShape& s, const Strides& at, const float* x, const float* dy,
                               float* sums) {
  const Float d;
  const size_t n = hn::Lanes(d);
  Vec sum[channels][taps];
#pragma GCC unroll 8
  for (size_t o = 0; o < channels; ++o)
#pragma GCC unroll 8
    for (size_t t = 0; t < taps; ++t) sum[o][t] = hn::LoadU(d, sums + (o * at.w_in + t) * n);
  for (size_t row = 0; row < s.out_rows(); ++row) {
    const float* from = x + row * at.x_row;
    const float* gradient = dy + row * at.dy_row;
    for (size_t col = 0; col < s.out_cols(); ++col, from += n, gradient += n) {
      Vec slope[channels];
#pragma GCC unroll 8
      for (size_t o = 0; o < channels; ++o) slope[o] = hn::LoadU(d, gradient + o * at.dy_channel);
#pragma GCC unroll 8
      for (size_t t = 0; t < taps; ++t) {
        const Vec value = hn::LoadU(d, from + t * n);
#pragma GCC unroll 8
        for (size_t o = 0; o < channels; ++o) sum[o][t] = hn::MulAdd(slope[o], value, sum[o][t]);
      }
    }
  }
#pragma GCC unroll 8
  for (size_t o = 0; o < channels; ++o)
#pragma GCC unroll 8
    for (size_t t = 0; t < taps; ++t) hn::StoreU(sum[o][t], d, sums + (o * at.w_in + t) * n);
}

float sum_of_channel(const ConvolutionShape& s, const Strides& at, const float* dy) {
  const Float d;
  const size_t n = hn::Lanes(d);
  Vec sum = hn::Zero(d);
  for (size_t group = 0; group < s.groups; ++group)
    for (size_t row = 0; row < s.out_rows(); ++row)
      for (size_t col = 0; col < s.out_cols(); ++col)
        sum = hn::Add(sum, hn::LoadU(d, dy + group * at.dy_group + row * at.dy_row + col * n));
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

void BackwardWeights(const ConvolutionShape& s, const float* x, const float* dy, float* dw, float* db) {
  const Float d;
  const Strides at(s);
  dy += gradient_margin * at.lanes;
  for (size_t o = 0; o < s.out_channels; ++o) db[o] = sum_of_channel(s, at, dy + o * at.dy_channel);
  std::vector<float> sums;
  for_parts<2>(s.out_channels, [&](auto channels, size_t o) {
    for (size_t in = 0; in < s.in_channels; ++in) {
      sums.assign(channels * at.w_in * at.lanes, 0);
      for (size_t group = 0; group < s.groups; ++group)
        for (size_t row = 0; row < s.kernel; ++row)
          for_parts<5>(s.kernel, [&](auto taps, size_t col) {
            weights_tile<channels, taps>(
                s, at, x + group * at.x_group + in * at.x_channel + row * at.x_row + col * at.lanes,
                dy + group * at.dy_group + o * at.dy_channel, sums.data() + (row * s.kernel + col) * at.lanes);
          });
      for (size_t c = 0; c < channels; ++c)
        for (size_t tap = 0; tap < at.w_in; ++tap)
          dw[(o + c) * at.w_out + in * at.w_in + tap] =
              hn::GetLane(hn::SumOfLanes(d, hn::LoadU(d, sums.data() + (c * at.w_in + tap) * at.lanes)));
    }
  });
}

// What the first `outs` out channels add to `channels` × `columns` values of dx at (row, col); w begins at the first in
// channel. Kernel rows that hang over the output's edge are left out, kernel columns that do so for some of the columns
// read zeros of the margin.
template <size_t channels, size_t columns>
HWY_NOINLINE void input_tile(const ConvolutionShape& s, const Strides& at, size_t outs, size_t row, size_t col,
                             const float* dy, const float* w, float* dx) {
  static_assert(columns <= gradient_margin + 1);
  const Float d;
  const size_t n = at.lanes;
  Vec sum[channels][columns];
#pragma GCC unroll 8
  for (size_t i = 0; i < channels; ++i)
#pragma GCC unroll 8
    for (size_t c = 0; c < columns; ++c) sum[i][c] = hn::LoadU(d, dx + i * at.x_channel + c * n);
  const size_t first_row = row >= s.out_rows() ? row - s.out_rows() + 1 : 0;
  const size_t last_row = std::min(row, s.kernel - 1);
  const size_t first_col = col >= s.out_cols() ? col - s.out_cols() + 1 : 0;
  const size_t last_col = std::min(col + columns - 1, s.kernel - 1);
  for (size_t o = 0; o < outs; ++o)
    for (size_t kernel_row = first_row; kernel_row <= last_row; ++kernel_row) {
      const float* gradient = dy + o * at.dy_channel + (row - kernel_row) * at.dy_row;
      const float* weights = w + o * at.w_out + kernel_row * s.kernel;
      for (size_t kernel_col = first_col; kernel_col <= last_col; ++kernel_col) {
        Vec slope[columns];
#pragma GCC unroll 8
        for (size_t c = 0; c < columns; ++c)
          slope[c] = hn::LoadU(d, gradient + (gradient_margin + col + c - kernel_col) * n);
#pragma GCC unroll 8
        for (size_t i = 0; i < channels; ++i) {
          const Vec weight = hn::Set(d, weights[i * at.w_in + kernel_col]);
#pragma GCC unroll 8
          for (size_t c = 0; c < columns; ++c) sum[i][c] = hn::MulAdd(weight, slope[c], sum[i][c]);
        }
      }
    }
#pragma GCC unroll 8
  for (size_t i = 0; i < channels; ++i)
#pragma GCC unroll 8
    for (size_t c = 0; c < columns; ++c) hn::StoreU(sum[i][c], d, dx + i * at.x_channel + c * n);
}

void BackwardInput(const ConvolutionShape& s, const float* dy, const float* w, float* dx) {
  const Strides at(s);
  std::fill_n(dx, s.groups * at.x_group, 0.0F);
  constexpr size_t outs_at_a_time = 6;  // whose rows of dy stay in the nearest cache
  for (size_t group = 0; group < s.groups; ++group, dy += at.dy_group, dx += at.x_group)
    for (size_t o = 0; o < s.out_channels; o += outs_at_a_time)
      for (size_t row = 0; row < s.rows; ++row)
        for_parts<4>(s.in_channels, [&](auto channels, size_t in) {
          for_parts<gradient_margin + 1>(s.cols, [&](auto columns, size_t col) {
            input_tile<channels, columns>(s, at, std::min(outs_at_a_time, s.out_channels - o), row, col,
                                          dy + o * at.dy_channel, w + o * at.w_out + in * at.w_in,
                                          dx + in * at.x_channel + row * at.x_row + col * at.lanes);
          });
        });
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(Forward);
HWY_EXPORT(BackwardWeights);
HWY_EXPORT(BackwardInput);

void convolution(const ConvolutionShape& s, const float* x, const float* w, const float* b, float* y) {
  HWY_DYNAMIC_DISPATCH(Forward)(s, x, w, b, y);
}

void convolution_backward_weights(const ConvolutionShape& s, const float* x, const float* dy, float* dw, float* db) {
  HWY_DYNAMIC_DISPATCH(BackwardWeights)(s, x, dy, dw, db);
}

void convolution_backward_input(const ConvolutionShape& s, const float* dy, const float* w, float* dx) {
  HWY_DYNAMIC_DISPATCH(BackwardInput)(s, dy, w, dx);
}

}  // namespace hone
#endif
