#include "model/byte_products.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/byte_products.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Everywhere below: x [rows, in] is 16 bits wide; a row is followed by zeros up to x_stride, which is even.

#if HWY_TARGET == HWY_SCALAR

void MultiplyBytes(const int16_t* x, size_t rows, size_t x_stride, const Int8Weights& w, int32_t* sums) {
  const size_t stride = w.stride ? w.stride : w.in;
  parallel_ranges(w.out, 16, [&](size_t begin, size_t end) {
    for (size_t o = begin; o < end; ++o)
      for (size_t r = 0; r < rows; ++r) {
        int32_t sum = 0;
        for (size_t k = 0; k < w.in; ++k) sum += x[r * x_stride + k] * w.values[o * stride + k];
        sums[r * w.out + o] = sum;
      }
  });
}

#else

using Wide = hn::ScalableTag<int32_t>;
using Pairs = hn::Repartition<int16_t, Wide>;
using Bytes = hn::Rebind<int8_t, Pairs>;
using Sum = hn::Vec<Wide>;

// 24 sums fit 32 registers; of 16, products and what they are made of take half.
constexpr size_t tile_rows = HWY_TARGET <= HWY_AVX3 ? 8 : 4;
constexpr size_t tile_vectors = HWY_TARGET <= HWY_AVX3 ? 3 : 2;
constexpr size_t max_width = tile_vectors * HWY_MAX_BYTES / sizeof(int32_t);
constexpr size_t strip_depth = 256;  // so that a strip stays in L1
constexpr size_t part_rows = 512;    // so that rows stay in L2 while strips pass

inline size_t tile_width() { return tile_vectors * hn::Lanes(Wide()); }

// sums[r][·] (+)= Σ_k x[r][k] · strip[k / 2][·][k % 2] for r < rows ≤ height and tile_width() outputs.
template <size_t height>
HWY_NOINLINE void tile(const int16_t* HWY_RESTRICT x, size_t x_stride, const int16_t* HWY_RESTRICT strip, size_t pairs,
                       int32_t* HWY_RESTRICT sums, size_t sums_stride, size_t rows, bool accumulate) {
  const Wide d;
  const Pairs d16;
  const size_t n = hn::Lanes(d);
  Sum sum[height][tile_vectors], more[height][tile_vectors];
  const int16_t* source[height];
#pragma GCC unroll 8
  for (size_t r = 0; r < height; ++r) {
    source[r] = x + std::min(r, rows - 1) * x_stride;
#pragma GCC unroll 3
    for (size_t v = 0; v < tile_vectors; ++v) sum[r][v] = more[r][v] = hn::Zero(d);
  }
#pragma GCC unroll 4
  for (size_t k = 0; k < pairs; ++k) {
    hn::Vec<Pairs> weights[tile_vectors];
#pragma GCC unroll 3
    for (size_t v = 0; v < tile_vectors; ++v) weights[v] = hn::LoadU(d16, strip + 2 * (k * tile_vectors + v) * n);
#pragma GCC unroll 8
    for (size_t r = 0; r < height; ++r) {
      int32_t pair = 0;
      std::memcpy(&pair, source[r] + 2 * k, sizeof pair);
      const auto value = hn::BitCast(d16, hn::Set(d, pair));
#pragma GCC unroll 3
      for (size_t v = 0; v < tile_vectors; ++v)
        sum[r][v] = hn::ReorderWidenMulAccumulate(d, value, weights[v], sum[r][v], more[r][v]);
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < height; ++r) {
    if (r >= rows) continue;
#pragma GCC unroll 3
    for (size_t v = 0; v < tile_vectors; ++v) {
      int32_t* to = sums + r * sums_stride + v * n;
      const auto all = hn::RearrangeToOddPlusEven(sum[r][v], more[r][v]);
      hn::StoreU(accumulate ? hn::Add(hn::LoadU(d, to), all) : all, d, to);
    }
  }
}

void tile_of(const int16_t* x, size_t x_stride, const int16_t* strip, size_t pairs, int32_t* sums, size_t sums_stride,
             size_t rows, bool accumulate) {
  if (rows > tile_rows / 2) return tile<tile_rows>(x, x_stride, strip, pairs, sums, sums_stride, rows, accumulate);
  if (rows > 1) return tile<tile_rows / 2>(x, x_stride, strip, pairs, sums, sums_stride, rows, accumulate);
  tile<1>(x, x_stride, strip, pairs, sums, sums_stride, rows, accumulate);
}

constexpr size_t block = 8;  // outputs, and pairs of k

// to[pair][lane][·] = from[lane][pair][·] for 8 lanes of 8 pairs of bytes.
void transpose_pairs(const int8_t* from, size_t stride, int8_t* to, size_t to_stride) {
  const hn::FixedTag<uint16_t, block> d;
  std::array<hn::Vec<decltype(d)>, block> a, b;
  for (size_t i = 0; i < block; ++i)
    a[i] = hn::BitCast(d, hn::LoadU(hn::FixedTag<int8_t, 2 * block>(), from + i * stride));
  for (int round = 0; round < 3; ++round) {  // each rotates the bits of (lane, pair) by one
    for (size_t i = 0; i < block / 2; ++i) {
      b[2 * i] = hn::InterleaveLower(d, a[i], a[i + block / 2]);
      b[2 * i + 1] = hn::InterleaveUpper(d, a[i], a[i + block / 2]);
    }
    a = b;
  }
  for (size_t i = 0; i < block; ++i)
    hn::StoreU(hn::BitCast(hn::FixedTag<int8_t, 2 * block>(), a[i]), hn::FixedTag<int8_t, 2 * block>(),
               to + i * to_stride);
}

// strip[k / 2][lane][k % 2] = values[first + lane][k0 + k] for k < count, 16 bits wide; 0 for lanes beyond the last
// output and, if count is odd, for one more k.
void pack_strip(const Int8Weights& w, size_t first, size_t k0, size_t count, int8_t* bytes, int16_t* strip) {
  const size_t width = tile_width(), lanes = std::min(width, w.out - first), stride = w.stride ? w.stride : w.in;
  const size_t pairs = (count + 1) / 2;
  const size_t block_lanes = lanes / block * block, block_pairs = count / 2 / block * block;
  const int8_t* from = w.values + first * stride + k0;
  for (size_t lane = 0; lane < block_lanes; lane += block)
    for (size_t pair = 0; pair < block_pairs; pair += block)
      transpose_pairs(from + lane * stride + 2 * pair, stride, bytes + 2 * (pair * width + lane), 2 * width);
  for (size_t lane = 0; lane < width; ++lane)
    for (size_t k = lane < block_lanes ? 2 * block_pairs : 0; k < 2 * pairs; ++k)
      bytes[2 * (k / 2 * width + lane) + k % 2] = lane < lanes && k < count ? from[lane * stride + k] : int8_t{0};
  const Pairs d16;
  const Bytes d8;
  for (size_t i = 0; i < 2 * pairs * width; i += hn::Lanes(d16))
    hn::StoreU(hn::PromoteTo(d16, hn::LoadU(d8, bytes + i)), d16, strip + i);
}

// A strip of weights at a time, read by all rows.
void multiply_by_strips(const int16_t* x, size_t rows, size_t x_stride, const Int8Weights& w, int32_t* sums) {
  const size_t width = tile_width(), strips = (w.out + width - 1) / width, parts = (rows + part_rows - 1) / part_rows;
  parallel_for(parts * strips, [&](size_t task) {
    const size_t first = task % strips * width, columns = std::min(width, w.out - first);
    const size_t row_begin = task / strips * part_rows, row_end = std::min(rows, row_begin + part_rows);
    std::vector<int8_t> bytes(strip_depth * width);
    std::vector<int16_t> strip(strip_depth * width);
    std::array<int32_t, tile_rows * max_width> partial;
    for (size_t k = 0; k < w.in; k += strip_depth) {
      const size_t count = std::min(strip_depth, w.in - k), pairs = (count + 1) / 2;
      pack_strip(w, first, k, count, bytes.data(), strip.data());
      for (size_t row = row_begin; row < row_end; row += tile_rows) {
        const size_t height = std::min(tile_rows, row_end - row);
        const int16_t* from = x + row * x_stride + k;
        int32_t* to = sums + row * w.out + first;
        if (columns == width) {
          tile_of(from, x_stride, strip.data(), pairs, to, w.out, height, k > 0);
          continue;
        }
        tile_of(from, x_stride, strip.data(), pairs, partial.data(), width, height, false);
        for (size_t r = 0; r < height; ++r)
          for (size_t c = 0; c < columns; ++c)
            to[r * w.out + c] = partial[r * width + c] + (k > 0 ? to[r * w.out + c] : 0);
      }
    }
  });
}

// sums[r · out] = Σ_k x[r][k] · values[k] for r < rows.
template <size_t rows>
HWY_INLINE void dot(const int16_t* HWY_RESTRICT x, size_t x_stride, const int8_t* HWY_RESTRICT values, size_t in,
                    int32_t* sums, size_t out) {
  const Wide d;
  const Pairs d16;
  const Bytes d8;
  const size_t whole = in / hn::Lanes(d16) * hn::Lanes(d16);
  Sum sum[rows], more[rows];
  for (size_t r = 0; r < rows; ++r) sum[r] = more[r] = hn::Zero(d);
  for (size_t k = 0; k < whole; k += hn::Lanes(d16)) {
    const auto weights = hn::PromoteTo(d16, hn::LoadU(d8, values + k));
    for (size_t r = 0; r < rows; ++r)
      sum[r] = hn::ReorderWidenMulAccumulate(d, hn::LoadU(d16, x + r * x_stride + k), weights, sum[r], more[r]);
  }
  for (size_t r = 0; r < rows; ++r) {
    int32_t total = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum[r], more[r])));
    for (size_t k = whole; k < in; ++k) total += x[r * x_stride + k] * values[k];
    sums[r * out] = total;
  }
}

// Every weight is read from memory once, as it stands.
void multiply_few(const int16_t* x, size_t rows, size_t x_stride, const Int8Weights& w, int32_t* sums) {
  constexpr size_t some = 4;
  const size_t stride = w.stride ? w.stride : w.in;
  parallel_ranges(w.out, 64, [&](size_t begin, size_t end) {
    for (size_t o = begin; o < end; ++o)
      for (size_t r = 0; r < rows; r += some) {
        const int16_t* from = x + r * x_stride;
        const int8_t* values = w.values + o * stride;
        int32_t* to = sums + r * w.out + o;
        switch (rows - r) {
          case 1: dot<1>(from, x_stride, values, w.in, to, w.out); break;
          case 2: dot<2>(from, x_stride, values, w.in, to, w.out); break;
          case 3: dot<3>(from, x_stride, values, w.in, to, w.out); break;
          default: dot<some>(from, x_stride, values, w.in, to, w.out);
        }
      }
  });
}

void MultiplyBytes(const int16_t* x, size_t rows, size_t x_stride, const Int8Weights& w, int32_t* sums) {
  constexpr size_t few = 16;  // not worth a strip of the weights
  if (rows <= few) return multiply_few(x, rows, x_stride, w, sums);
  multiply_by_strips(x, rows, x_stride, w, sums);
}

#endif

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {
namespace {
HWY_EXPORT(MultiplyBytes);
}

void multiply_bytes_exactly(const uint8_t* x, size_t rows, const Int8Weights& w, int32_t* sums) {
  const size_t stride = (w.in + 1) / 2 * 2;
  const auto wide = std::make_unique_for_overwrite<int16_t[]>(rows * stride);
  parallel_ranges(rows, 16, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      int16_t* row = wide.get() + r * stride;
      std::fill(std::copy_n(x + r * w.in, w.in, row), row + stride, int16_t{0});
    }
  });
  HWY_DYNAMIC_DISPATCH(MultiplyBytes)(wide.get(), rows, stride, w, sums);
}

}  // namespace hone
#endif
