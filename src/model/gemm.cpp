#include "model/gemm.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/gemm.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "hwy/highway.h"
#include "model/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

constexpr size_t max_tile = 8 * 3 * (HWY_MAX_BYTES / sizeof(float));
// Sums over the inner dimension are made of partial sums of this length: less rounding, and a strip that stays in
// L1/L2.
constexpr size_t reduction_block = 256;

inline size_t vectors_for(size_t columns) { return (std::min(columns, tile_columns()) + lanes() - 1) / lanes(); }

void store_element(float value, float* to, bool accumulate) { *to = accumulate ? *to + value : value; }

#if HWY_TARGET == HWY_SCALAR
constexpr size_t block = 1;

void store_block(const float* tile, size_t, float* y, size_t, bool accumulate) { store_element(*tile, y, accumulate); }
#else
constexpr size_t block = 4;

// y[i][j] = tile[j][i] for i, j < 4.
void store_block(const float* tile, size_t tile_row, float* y, size_t y_row, bool accumulate) {
  const hn::FixedTag<float, 4> d;
  const auto a = hn::LoadU(d, tile), b = hn::LoadU(d, tile + tile_row);
  const auto c = hn::LoadU(d, tile + 2 * tile_row), e = hn::LoadU(d, tile + 3 * tile_row);
  const auto ab_low = hn::InterleaveLower(d, a, b), ab_high = hn::InterleaveUpper(d, a, b);
  const auto ce_low = hn::InterleaveLower(d, c, e), ce_high = hn::InterleaveUpper(d, c, e);
  const auto store = [&](auto values, float* to) {
    hn::StoreU(accumulate ? hn::Add(hn::LoadU(d, to), values) : values, d, to);
  };
  store(hn::ConcatLowerLower(d, ce_low, ab_low), y);
  store(hn::ConcatUpperUpper(d, ce_low, ab_low), y + y_row);
  store(hn::ConcatLowerLower(d, ce_high, ab_high), y + 2 * y_row);
  store(hn::ConcatUpperUpper(d, ce_high, ab_high), y + 3 * y_row);
}
#endif

// panel[k][lane] = x[first + lane][k]; lanes beyond `count` are zero.
void pack_panel(ConstMatrixView x, size_t first, size_t count, size_t width, float* panel) {
  constexpr size_t step = 16;
  const size_t block_lanes = count / block * block;
  for (size_t k0 = 0; k0 < x.cols; k0 += step) {
    const size_t k1 = std::min(k0 + step, x.cols), block_k1 = k0 + (k1 - k0) / block * block;
    for (size_t lane = 0; lane < block_lanes; lane += block)
      for (size_t k = k0; k < block_k1; k += block)
        store_block(x.row(first + lane).data() + k, x.cols, panel + k * width + lane, width, false);
    for (size_t lane = 0; lane < width; ++lane) {
      const float* row = x.data + (first + std::min(lane, count - 1)) * x.cols;
      for (size_t k = lane < block_lanes ? block_k1 : k0; k < k1; ++k)
        panel[k * width + lane] = lane < count ? row[k] : 0.0f;
    }
  }
}

void PackPanels(ConstMatrixView x, PackedRows& packed) {
  packed.width = tile_columns();
  const size_t count = (x.rows + packed.width - 1) / packed.width;
  packed.panels = Matrix::uninitialized(count, x.cols * packed.width);
  parallel_for(count, [&](size_t p) {
    const size_t first = p * packed.width, some = std::min(packed.width, x.rows - first);
    pack_panel(x, first, some, vectors_for(some) * lanes(), packed.panels.row(p).data());
  });
}

// y[lane][r] (+)= tile[r][lane] for r < rows, lane < count.
void store_transposed(const float* tile, size_t tile_row, size_t rows, size_t count, float* y, size_t y_row,
                      bool accumulate) {
  const size_t block_rows = rows / block * block, block_lanes = count / block * block;
  for (size_t r = 0; r < block_rows; r += block)
    for (size_t lane = 0; lane < block_lanes; lane += block)
      store_block(tile + r * tile_row + lane, tile_row, y + lane * y_row + r, y_row, accumulate);
  for (size_t r = 0; r < rows; ++r)
    for (size_t lane = r < block_rows ? block_lanes : 0; lane < count; ++lane)
      store_element(tile[r * tile_row + lane], y + lane * y_row + r, accumulate);
}

// How many equal parts make `parts` tasks enough for all threads.
size_t splits(size_t parts, size_t most) {
  const auto wanted = static_cast<size_t>(threads()) * 2;
  return parts >= wanted ? 1 : std::min(most, (wanted + parts - 1) / parts);
}

void scale_lanes(float* tile, size_t stride, size_t rows, const float* scale, size_t lane_begin, size_t lane_end) {
  for (size_t r = 0; r < rows; ++r)
    for (size_t lane = lane_begin; lane < lane_end; ++lane) tile[r * stride + lane] *= scale[lane - lane_begin];
}

// tile[r][·] += bias[r]; a row is whole vectors.
void add_bias(float* tile, size_t stride, size_t rows, const float* bias) {
  const Float d;
  for (size_t r = 0; r < rows; ++r)
    for (float* to = tile + r * stride; to < tile + (r + 1) * stride; to += lanes())
      hn::StoreU(hn::Add(hn::LoadU(d, to), hn::Set(d, bias[r])), d, to);
}

void LinearForward(const PackedRows& x, size_t first, size_t count, ConstMatrixView w, MatrixView y, bool accumulate,
                   const float* row_scale, const float* bias) {
  const size_t width = x.width, depth = x.depth;
  const size_t first_panel = first / width, panels = (first + count + width - 1) / width - first_panel;
  const size_t target = w.rows / (static_cast<size_t>(threads()) * 4) / tile_rows * tile_rows;
  const size_t rows_per_task = std::clamp<size_t>(target, tile_rows, 64);
  const size_t row_tasks = (w.rows + rows_per_task - 1) / rows_per_task, panel_tasks = splits(row_tasks, panels);
  parallel_for(row_tasks * panel_tasks, [&](size_t task) {
    alignas(64) float result[max_tile];
    const size_t begin = task / panel_tasks * rows_per_task, end = std::min(w.rows, begin + rows_per_task);
    const size_t part = task % panel_tasks;
    for (size_t p = first_panel + panels * part / panel_tasks; p < first_panel + panels * (part + 1) / panel_tasks;
         ++p) {
      const size_t panel_rows = std::min(width, x.rows - p * width);
      const size_t vectors = vectors_for(panel_rows), stride = vectors * lanes();
      const size_t lane_begin = std::max(first, p * width) - p * width;
      const size_t lane_end = std::min(first + count, p * width + panel_rows) - p * width;
      const size_t to_row = p * width + lane_begin - first;
      const float* panel = x.panels.row(p).data();
      for (size_t row = begin; row < end; row += tile_rows) {
        const size_t rows = std::min(tile_rows, end - row);
        for (size_t k = 0; k < depth; k += reduction_block)
          tile_of<Layout::rows>(vectors, w.data + row * depth + k, depth, panel + k * stride, stride,
                                std::min(reduction_block, depth - k), result, stride, rows, k > 0);
        if (row_scale) scale_lanes(result, stride, rows, row_scale + to_row, lane_begin, lane_end);
        if (bias) add_bias(result, stride, rows, bias + row);
        store_transposed(result + lane_begin, stride, rows, lane_end - lane_begin, y.data + to_row * y.cols + row,
                         y.cols, accumulate);
      }
    }
  });
}

// strip[k][column] = w[k0 + k][first + column] for k < count; columns beyond w.in are zero.
void pack_strip(const WeightView& w, size_t k0, size_t count, size_t first, size_t width, float* strip) {
  const size_t columns = std::min(width, w.in - first);
  for (size_t k = 0; k < count; ++k, strip += width) {
    const size_t offset = (k0 + k) * w.in + first;
    if (w.f32) {
      std::memcpy(strip, w.f32 + offset, columns * sizeof(float));
    } else {
      const float scale = w.scales[k0 + k];
      for (size_t c = 0; c < columns; ++c) strip[c] = scale * static_cast<float>(w.i8[offset + c]);
    }
    std::fill(strip + columns, strip + width, 0.0f);
  }
}

// c [rows, b.in] (+)= a b, a [rows, depth] in the given layout, b [depth, in].
template <Layout layout>
void product(const float* a, size_t a_stride, const WeightView& b, MatrixView c, bool accumulate) {
  const size_t width = tile_columns(), depth = b.out;
  const size_t strips = (b.in + width - 1) / width, row_tiles = (c.rows + tile_rows - 1) / tile_rows;
  const size_t row_tasks = splits(strips, row_tiles);
  parallel_for(strips * row_tasks, [&](size_t task) {
    const size_t first = task / row_tasks * width, columns = std::min(width, b.in - first), part = task % row_tasks;
    const size_t row_begin = row_tiles * part / row_tasks * tile_rows;
    const size_t row_end = std::min(c.rows, row_tiles * (part + 1) / row_tasks * tile_rows);
    const size_t vectors = vectors_for(columns), stride = vectors * lanes();
    const bool whole = columns == stride;
    Matrix strip = Matrix::uninitialized(std::min(depth, reduction_block), stride);
    alignas(64) float partial[max_tile];
    for (size_t k = 0; k < depth; k += reduction_block) {
      const size_t count = std::min(reduction_block, depth - k);
      pack_strip(b, k, count, first, stride, strip.data());
      const bool add = accumulate || k > 0;
      for (size_t row = row_begin; row < row_end; row += tile_rows) {
        const size_t rows = std::min(tile_rows, row_end - row);
        float* to = c.data + row * c.cols + first;
        const float* from = layout == Layout::rows ? a + row * a_stride + k : a + k * a_stride + row;
        if (whole) {
          tile_of<layout>(vectors, from, a_stride, strip.data(), stride, count, to, c.cols, rows, add);
          continue;
        }
        if (add)
          for (size_t r = 0; r < rows; ++r) std::copy_n(to + r * c.cols, columns, partial + r * stride);
        tile_of<layout>(vectors, from, a_stride, strip.data(), stride, count, partial, stride, rows, add);
        for (size_t r = 0; r < rows; ++r) std::copy_n(partial + r * stride, columns, to + r * c.cols);
      }
    }
  });
}

void LinearBackwardInput(ConstMatrixView dy, const WeightView& w, MatrixView dx, bool accumulate,
                         const float* row_scale) {
  if (!row_scale) return product<Layout::rows>(dy.data, dy.cols, w, dx, accumulate);
  Matrix scaled = Matrix::uninitialized(dy.rows, dy.cols);
  for (size_t r = 0; r < dy.rows; ++r)
    for (size_t i = 0; i < dy.cols; ++i) scaled.data()[r * dy.cols + i] = row_scale[r] * dy.data[r * dy.cols + i];
  product<Layout::rows>(scaled.data(), dy.cols, w, dx, accumulate);
}

void LinearBackwardWeight(ConstMatrixView dy, ConstMatrixView x, MatrixView dw, bool accumulate) {
  product<Layout::columns>(dy.data, dy.cols, weight_view(x), dw, accumulate);
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(PackPanels);
HWY_EXPORT(LinearForward);
HWY_EXPORT(LinearBackwardInput);
HWY_EXPORT(LinearBackwardWeight);

PackedRows::PackedRows(ConstMatrixView x) : rows(x.rows), depth(x.cols) { HWY_DYNAMIC_DISPATCH(PackPanels)(x, *this); }

void linear_forward(const PackedRows& x, size_t first, size_t count, ConstMatrixView w, MatrixView y, bool accumulate,
                    const float* row_scale, const float* bias) {
  if (count == 0) return;
  HWY_DYNAMIC_DISPATCH(LinearForward)(x, first, count, w, y, accumulate, row_scale, bias);
}

void linear_forward(ConstMatrixView x, ConstMatrixView w, MatrixView y, bool accumulate, const float* row_scale) {
  linear_forward(PackedRows(x), 0, x.rows, w, y, accumulate, row_scale);
}

void linear_backward_input(ConstMatrixView dy, const WeightView& w, MatrixView dx, bool accumulate,
                           const float* row_scale) {
  if (dy.rows == 0) return;
  HWY_DYNAMIC_DISPATCH(LinearBackwardInput)(dy, w, dx, accumulate, row_scale);
}

void linear_backward_weight(ConstMatrixView dy, ConstMatrixView x, MatrixView dw, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(LinearBackwardWeight)(dy, x, dw, accumulate);
}

}  // namespace hone
#endif
