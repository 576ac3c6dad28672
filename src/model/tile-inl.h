// The inner product kernel, compiled once for each instruction set (see Highway's quick reference on -inl.h files).
#if defined(HONE_MODEL_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_MODEL_TILE_INL_H_
#undef HONE_MODEL_TILE_INL_H_
#else
#define HONE_MODEL_TILE_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Float = hn::ScalableTag<float>;

// 24 accumulators fit AVX-512's 32 registers, 12 fit the 16 of AVX2 and below.
constexpr size_t tile_rows = HWY_TARGET <= HWY_AVX3 ? 8 : 4;
constexpr size_t tile_vectors = 3;

inline size_t lanes() { return hn::Lanes(Float()); }
inline size_t tile_columns() { return tile_vectors * lanes(); }

// How a(r, k) lies in memory.
enum class Layout {
  rows,     // a[r·stride + k]
  columns,  // a[k·stride + r]
};

// What becomes of c.
enum class Into {
  stored,     // c = Σ
  added,      // c = c + Σ
  continued,  // the sum goes on from c: to the last bit as if it had begun with what made c
};

// c[r][·] (+)= Σ_k a(r, k) · b[k·b_row + ·] for r < rows ≤ height and `vectors` vectors of columns. b and c need not be
// aligned.
template <Layout layout, Into into, size_t vectors, size_t height>
HWY_NOINLINE void tile(const float* HWY_RESTRICT a, size_t a_stride, const float* HWY_RESTRICT b, size_t b_row,
                       size_t depth, float* HWY_RESTRICT c, size_t c_row, size_t rows) {
  const Float d;
  const size_t n = lanes();
  using Vec = hn::Vec<Float>;
  Vec sum[height][vectors];
  const float* source[height];
#pragma GCC unroll 8
  for (size_t r = 0; r < height; ++r) {
    const size_t row = std::min(r, rows - 1);
    source[r] = a + (layout == Layout::rows ? row * a_stride : row);
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v)
      sum[r][v] = into == Into::continued ? hn::LoadU(d, c + row * c_row + v * n) : hn::Zero(d);
  }
  const size_t step = layout == Layout::rows ? 1 : a_stride;
  for (size_t k = 0, at = 0; k < depth; ++k, at += step) {
    Vec column[vectors];
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) column[v] = hn::LoadU(d, b + k * b_row + v * n);
#pragma GCC unroll 8
    for (size_t r = 0; r < height; ++r) {
      const Vec value = hn::Set(d, source[r][at]);
#pragma GCC unroll 3
      for (size_t v = 0; v < vectors; ++v) sum[r][v] = hn::MulAdd(value, column[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < height; ++r) {
    if (r >= rows) continue;
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; ++v) {
      float* to = c + r * c_row + v * n;
      hn::StoreU(into == Into::added ? hn::Add(hn::LoadU(d, to), sum[r][v]) : sum[r][v], d, to);
    }
  }
}

template <Layout layout, Into into, size_t vectors>
HWY_INLINE void tile_of_height(const float* a, size_t a_stride, const float* b, size_t b_row, size_t depth, float* c,
                               size_t c_row, size_t rows) {
  if (rows > tile_rows / 2) return tile<layout, into, vectors, tile_rows>(a, a_stride, b, b_row, depth, c, c_row, rows);
  if (rows > 1) return tile<layout, into, vectors, tile_rows / 2>(a, a_stride, b, b_row, depth, c, c_row, rows);
  tile<layout, into, vectors, 1>(a, a_stride, b, b_row, depth, c, c_row, rows);
}

template <Layout layout, Into into>
HWY_INLINE void tile_of_width(size_t vectors, const float* a, size_t a_stride, const float* b, size_t b_row,
                              size_t depth, float* c, size_t c_row, size_t rows) {
  switch (vectors) {
    case 1: return tile_of_height<layout, into, 1>(a, a_stride, b, b_row, depth, c, c_row, rows);
    case 2: return tile_of_height<layout, into, 2>(a, a_stride, b, b_row, depth, c, c_row, rows);
    default: return tile_of_height<layout, into, 3>(a, a_stride, b, b_row, depth, c, c_row, rows);
  }
}

// tile() for what is known at run time only: 1 to tile_rows rows, 1 to tile_vectors vectors, and whether to accumulate.
template <Layout layout>
HWY_INLINE void tile_of(size_t vectors, const float* a, size_t a_stride, const float* b, size_t b_row, size_t depth,
                        float* c, size_t c_row, size_t rows, bool accumulate) {
  if (accumulate) return tile_of_width<layout, Into::added>(vectors, a, a_stride, b, b_row, depth, c, c_row, rows);
  tile_of_width<layout, Into::stored>(vectors, a, a_stride, b, b_row, depth, c, c_row, rows);
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
