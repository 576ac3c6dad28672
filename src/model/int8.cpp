#include "model/int8.h"

#include <dnnl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <numeric>

#include "base/parallel.h"
#include "base/vnni.h"
#include "model/byte_dots.h"
#include "model/byte_products.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/int8.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Outliers = std::array<Int8Rows::Outlier, outliers_per_row>;

void insert_outlier(const float* x, size_t i, Outliers& top) {
  if (!(std::fabs(x[i]) > std::fabs(top.back().value))) return;
  size_t at = outliers_per_row - 1;
  for (; at > 0 && std::fabs(top[at - 1].value) < std::fabs(x[i]); --at) top[at] = top[at - 1];
  top[at] = {static_cast<uint32_t>(i), x[i]};
}

// A magnitude that at least outliers_per_row of the values reach, close to the largest such; 0 if there are few values.
float outlier_bound(const float* x, size_t count) {
  const hn::ScalableTag<float> d;
  auto top = hn::Zero(d);
  for (size_t i = 0; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) top = hn::Max(top, hn::Abs(hn::LoadU(d, x + i)));
  HWY_ALIGN std::array<float, HWY_MAX_BYTES / sizeof(float)> lanes;
  hn::Store(top, d, lanes.data());
  Outliers largest{};
  for (size_t lane = 0; lane < hn::Lanes(d); ++lane) insert_outlier(lanes.data(), lane, largest);
  return std::fabs(largest.back().value);
}

// The columns of largest magnitude, largest first; a row with fewer columns leaves zeros.
Outliers find_outliers(const float* x, size_t count) {
  const hn::ScalableTag<float> d;
  Outliers top{};
  const auto bound = hn::Set(d, outlier_bound(x, count));
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto large = hn::Ge(hn::Abs(hn::LoadU(d, x + i)), bound);
    if (hn::AllFalse(d, large)) continue;
    uint64_t lanes = 0;
    hn::StoreMaskBits(d, large, reinterpret_cast<uint8_t*>(&lanes));
    for (; lanes != 0; lanes &= lanes - 1) insert_outlier(x, i + static_cast<size_t>(std::countr_zero(lanes)), top);
  }
  for (; i < count; ++i) insert_outlier(x, i, top);
  return top;
}

float largest_magnitude(const float* x, size_t count) {
  const hn::ScalableTag<float> d;
  auto top = hn::Zero(d);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) top = hn::Max(top, hn::Abs(hn::LoadU(d, x + i)));
  float result = hn::GetLane(hn::MaxOfLanes(d, top));
  for (; i < count; ++i) result = std::max(result, std::fabs(x[i]));
  return result;
}

// to[i] = round(x[i] / scale), the largest magnitude becoming 127. Returns the scale.
float QuantizeWeightRow(const float* x, size_t count, int8_t* to) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<int8_t, decltype(d)> d8;
  const float top = largest_magnitude(x, count), inverse = top > 0 ? 127 / top : 0;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d))
    hn::StoreU(hn::DemoteTo(d8, hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse)))), d8, to + i);
  for (; i < count; ++i) to[i] = static_cast<int8_t>(std::lrintf(x[i] * inverse));
  return top / 127;
}

// Overwrites `x`. to[i] = round(x[i] / scale) + 128, where the outliers count as zero. Returns the scale.
float QuantizeRow(float* x, size_t count, uint8_t* to, Outliers& outliers) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  outliers = find_outliers(x, count);
  for (const Int8Rows::Outlier& outlier : outliers) x[outlier.column] = 0;
  const float top = largest_magnitude(x, count);
  const float inverse = top > 0 ? 127 / top : 0;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto steps = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse)));
    hn::StoreU(hn::DemoteTo(d8, hn::Add(steps, hn::Set(di, 128))), d8, to + i);
  }
  for (; i < count; ++i) to[i] = static_cast<uint8_t>(std::lrintf(x[i] * inverse) + 128);
  return top / 127;
}

// Outputs [begin, end) of a row: value[o] = scales[o] · (row_scale · (sums[o] − 128 · row_sums[o]) +
// Σ_k outlier_k · columns[column_k, o]) + bias[o], to[o] = value[o], or with a step to[o] += step · value[o].
void ScaleRow(const int32_t* sums, float row_scale, const Outliers& outliers, const Int8Weights& w, size_t begin,
              size_t end, const float* step, const float* bias, float* to) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<int8_t, decltype(d)> d8;
  size_t o = begin;
  for (; o + hn::Lanes(d) <= end; o += hn::Lanes(d)) {
    const auto sum = hn::Sub(hn::LoadU(di, sums + o), hn::ShiftLeft<7>(hn::LoadU(di, w.row_sums + o)));
    auto value = hn::Mul(hn::ConvertTo(d, sum), hn::Set(d, row_scale));
    for (const Int8Rows::Outlier& outlier : outliers) {
      const auto column = hn::PromoteTo(di, hn::LoadU(d8, w.columns + outlier.column * w.out + o));
      value = hn::MulAdd(hn::ConvertTo(d, column), hn::Set(d, outlier.value), value);
    }
    if (w.scales) value = hn::Mul(value, hn::LoadU(d, w.scales + o));
    if (bias) value = hn::Add(value, hn::LoadU(d, bias + o));
    hn::StoreU(step ? hn::MulAdd(value, hn::Set(d, *step), hn::LoadU(d, to + o)) : value, d, to + o);
  }
  for (; o < end; ++o) {
    float value = row_scale * static_cast<float>(sums[o] - 128 * w.row_sums[o]);
    for (const Int8Rows::Outlier& outlier : outliers)
      value = std::fma(static_cast<float>(w.columns[outlier.column * w.out + o]), outlier.value, value);
    if (w.scales) value *= w.scales[o];
    if (bias) value += bias[o];
    to[o] = step ? std::fma(value, *step, to[o]) : value;
  }
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(QuantizeWeightRow);
HWY_EXPORT(QuantizeRow);
HWY_EXPORT(ScaleRow);

namespace {

// Whether oneDNN sums products of bytes in 32 bits here. Without VNNI it sums pairs of them in 16 bits, where
// 2 · 255 · 127 has no room.
bool sums_have_room() {
  return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_vnni) == dnnl_cpu_isa_avx512_core_vnni;
}

// How many rows' sums are held at a time: a wide layer needs no large buffer, and sums that our own products write in
// several passes stay in the cache until they are scaled.
size_t rows_at_a_time(size_t out) {
  constexpr size_t most_sums = size_t{1} << 22, most_rows = 512;
  const size_t rows = std::max<size_t>(1, most_sums / out);
  return sums_have_room() ? rows : std::min(rows, most_rows);
}

// sums [rows, out] = x [rows, in] · valuesᵀ, the same on every processor.
void multiply_bytes(const uint8_t* x, size_t rows, const Int8Weights& w, int32_t* sums) {
  if (!sums_have_room()) return multiply_bytes_exactly(x, rows, w, sums);
  const auto p = static_cast<dnnl_dim_t>(rows), in = static_cast<dnnl_dim_t>(w.in),
             out = static_cast<dnnl_dim_t>(w.out), stride = static_cast<dnnl_dim_t>(w.stride ? w.stride : w.in);
  const int32_t zero = 0;
  const dnnl_status_t status =
      dnnl_gemm_u8s8s32('N', 'T', 'F', p, out, in, 1, x, in, 0, w.values, stride, 0, 0, sums, out, &zero);
  if (status != dnnl_success)
    throw Error(ErrorCode::unsupported,
                fmt::format("oneDNN cannot multiply in int8 here (status {}); use fp32", static_cast<int>(status)));
}

}  // namespace

void quantize_weights(ConstMatrixView w, int8_t* values, float* scales, int32_t* row_sums) {
  parallel_ranges(w.rows, 16, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      int8_t* to = values + r * w.cols;
      scales[r] = HWY_DYNAMIC_DISPATCH(QuantizeWeightRow)(w.row(r).data(), w.cols, to);
      row_sums[r] = std::accumulate(to, to + w.cols, int32_t{0});
    }
  });
}

void sum_columns(const int8_t* columns, size_t out, size_t in, int32_t* column_sums) {
  parallel_ranges(in, 16, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i)
      for (size_t first = 0; first < out; first += backward_outputs)
        column_sums[first / backward_outputs * in + i] =
            std::accumulate(columns + i * out + first, columns + i * out + std::min(out, first + backward_outputs), 0);
  });
}

void transpose(const int8_t* values, size_t out, size_t in, int8_t* columns) {
  constexpr size_t block = 64;
  parallel_for((in + block - 1) / block, [&](size_t b) {
    for (size_t first = 0; first < out; first += block)
      for (size_t i = b * block; i < std::min(in, (b + 1) * block); ++i)
        for (size_t o = first; o < std::min(out, first + block); ++o) columns[i * out + o] = values[o * in + i];
  });
}

namespace {

// fill(row, values) gives a row's values.
template <class Fill>
Int8Rows quantized(size_t rows, size_t cols, const Fill& fill) {
  Int8Rows result{rows, cols, std::vector<uint8_t>(rows * cols), std::vector<float>(rows), {}};
  result.outliers.resize(rows);
  parallel_ranges(rows, 2, [&](size_t begin, size_t end) {
    std::vector<float> values(cols);
    for (size_t p = begin; p < end; ++p) {
      fill(p, values);
      result.scales[p] =
          HWY_DYNAMIC_DISPATCH(QuantizeRow)(values.data(), cols, result.values.data() + p * cols, result.outliers[p]);
    }
  });
  return result;
}

}  // namespace

Int8Rows quantize_rows(ConstMatrixView x) {
  return quantized(x.rows, x.cols,
                   [&](size_t row, std::span<float> values) { std::ranges::copy(x.row(row), values.begin()); });
}

Int8Rows quantize_columns(ConstMatrixView x, size_t first, size_t count, const float* factors) {
  return quantized(x.rows, count, [&](size_t row, std::span<float> values) {
    const std::span<const float> from = x.row(row).subspan(first, count);
    std::transform(from.begin(), from.end(), factors + first, values.begin(), std::multiplies());
  });
}

void int8_forward(const Int8Rows& x, size_t first, size_t count, const Int8Weights& w, MatrixView y, const float* steps,
                  const float* bias) {
  const size_t block = rows_at_a_time(w.out);
  Matrix buffer = Matrix::uninitialized(std::min(block, count), w.out);
  auto* sums = reinterpret_cast<int32_t*>(buffer.data());
  // Outputs [begin, end) of row `done + r`.
  const auto scale = [&](size_t done, size_t r, size_t begin, size_t end) {
    const size_t p = first + done + r;
    HWY_DYNAMIC_DISPATCH(ScaleRow)
    (sums + r * w.out, x.scales[p], x.outliers[p], w, begin, end, steps ? steps + done + r : nullptr, bias,
     y.row(done + r).data());
  };
  if (count <= std::min(max_dot_rows, block) && has_vnni() && sums_have_room()) {
    constexpr size_t outputs = 64;
    parallel_ranges((w.out + outputs - 1) / outputs, 1, [&](size_t from, size_t to) {
      const size_t begin = from * outputs, end = std::min(to * outputs, w.out);
      dot_bytes(x.values.data() + first * w.in, count, w, begin, end, sums);
      for (size_t r = 0; r < count; ++r) scale(0, r, begin, end);
    });
    return;
  }
  for (size_t done = 0; done < count; done += block) {
    const size_t some = std::min(block, count - done);
    multiply_bytes(x.values.data() + (first + done) * w.in, some, w, sums);
    parallel_ranges(some, 4, [&](size_t begin, size_t end) {
      for (size_t r = begin; r < end; ++r) scale(done, r, 0, w.out);
    });
  }
}

void int8_backward_input(ConstMatrixView dy, const Int8Weights& w, MatrixView dx, bool accumulate) {
  const std::vector<float> ones(dy.rows, 1.0f);
  for (size_t first = 0; first < w.out; first += backward_outputs) {
    const size_t count = std::min(backward_outputs, w.out - first);
    const Int8Weights transposed{.out = w.in,
                                 .in = count,
                                 .values = w.columns + first,
                                 .columns = w.values + first * w.in,
                                 .row_sums = w.column_sums + first / backward_outputs * w.in,
                                 .stride = w.out};
    int8_forward(quantize_columns(dy, first, count, w.scales), 0, dy.rows, transposed, dx,
                 accumulate || first > 0 ? ones.data() : nullptr);
  }
}

}  // namespace hone
#endif
