#include "model/int8.h"

#include <dnnl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "base/parallel.h"

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

// The columns of largest magnitude, largest first; a row with fewer columns leaves zeros.
Outliers find_outliers(const float* x, size_t count) {
  const hn::ScalableTag<float> d;
  Outliers top{};
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto larger = hn::Gt(hn::Abs(hn::LoadU(d, x + i)), hn::Set(d, std::fabs(top.back().value)));
    if (hn::AllFalse(d, larger)) continue;
    for (size_t k = i; k < i + hn::Lanes(d); ++k) insert_outlier(x, k, top);
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

// A column is an outlier of its row if it exceeds the largest of the others so many times.
constexpr float outlier_ratio = 1.5f;

// Overwrites `x`. to[i] = round(x[i] / scale) + 128, where the outliers count as zero. Returns the scale.
float QuantizeRow(float* x, size_t count, uint8_t* to, Outliers& outliers) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  outliers = find_outliers(x, count);
  for (const Int8Rows::Outlier& outlier : outliers)
    if (outlier.value != 0) x[outlier.column] = 0;
  float top = largest_magnitude(x, count);
  for (size_t k = outliers_per_row; k-- > 0 && std::fabs(outliers[k].value) <= outlier_ratio * top;) {
    if (outliers[k].value != 0) x[outliers[k].column] = outliers[k].value;
    top = std::max(top, std::fabs(outliers[k].value));
    outliers[k] = {};
  }
  const float inverse = top > 0 ? 127 / top : 0;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto steps = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse)));
    hn::StoreU(hn::DemoteTo(d8, hn::Add(steps, hn::Set(di, 128))), d8, to + i);
  }
  for (; i < count; ++i) to[i] = static_cast<uint8_t>(std::lrintf(x[i] * inverse) + 128);
  return top / 127;
}

// One output row: value[o] = scales[o] · (row_scale · (sums[o] − 128 · row_sums[o]) + Σ_k factors[k] · columns[k][o]),
// to[o] = value[o], or with accumulate to[o] += step · value[o].
void ScaleRow(const int32_t* sums, float row_scale, std::span<const float> factors, const int8_t* const* columns,
              const Int8Weights& w, bool accumulate, float step, float* to) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<int8_t, decltype(d)> d8;
  size_t o = 0;
  for (; o + hn::Lanes(d) <= w.out; o += hn::Lanes(d)) {
    const auto sum = hn::Sub(hn::LoadU(di, sums + o), hn::ShiftLeft<7>(hn::LoadU(di, w.row_sums + o)));
    auto value = hn::Mul(hn::ConvertTo(d, sum), hn::Set(d, row_scale));
    for (size_t k = 0; k < factors.size(); ++k) {
      const auto column = hn::PromoteTo(di, hn::LoadU(d8, columns[k] + o));
      value = hn::MulAdd(hn::ConvertTo(d, column), hn::Set(d, factors[k]), value);
    }
    value = hn::Mul(value, hn::LoadU(d, w.scales + o));
    hn::StoreU(accumulate ? hn::MulAdd(value, hn::Set(d, step), hn::LoadU(d, to + o)) : value, d, to + o);
  }
  for (; o < w.out; ++o) {
    float value = row_scale * static_cast<float>(sums[o] - 128 * w.row_sums[o]);
    for (size_t k = 0; k < factors.size(); ++k) value = std::fma(static_cast<float>(columns[k][o]), factors[k], value);
    value *= w.scales[o];
    to[o] = accumulate ? std::fma(value, step, to[o]) : value;
  }
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(QuantizeRow);
HWY_EXPORT(ScaleRow);

namespace {

// How many int32 results are held at a time, so that a wide layer needs no large buffer.
constexpr size_t accumulator_values = size_t{1} << 22;

}  // namespace

void quantize_weights(ConstMatrixView w, int8_t* values, float* scales, int32_t* row_sums) {
  parallel_ranges(w.rows, 16, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      float top = 0;
      for (const float value : w.row(r)) top = std::max(top, std::fabs(value));
      const float inverse = top > 0 ? 127 / top : 0;
      scales[r] = top / 127;
      row_sums[r] = 0;
      for (size_t i = 0; i < w.cols; ++i) {
        const auto value = static_cast<int8_t>(std::lrintf(w.row(r)[i] * inverse));
        values[r * w.cols + i] = value;
        row_sums[r] += value;
      }
    }
  });
}

Int8Rows quantize_rows(ConstMatrixView x) {
  Int8Rows result{x.rows, x.cols, std::vector<uint8_t>(x.rows * x.cols), std::vector<float>(x.rows), {}};
  result.outliers.resize(x.rows);
  parallel_ranges(x.rows, 4, [&](size_t begin, size_t end) {
    std::vector<float> rest(x.cols);
    for (size_t p = begin; p < end; ++p) {
      std::ranges::copy(x.row(p), rest.begin());
      result.scales[p] =
          HWY_DYNAMIC_DISPATCH(QuantizeRow)(rest.data(), x.cols, result.values.data() + p * x.cols, result.outliers[p]);
    }
  });
  return result;
}

namespace {

// The weights' columns that outliers of rows [first, first + count) meet, each copied together once.
class OutlierColumns {
 public:
  OutlierColumns(const Int8Rows& x, size_t first, size_t count, const Int8Weights& w) : out_(w.out), place_(w.in) {
    std::vector<size_t> columns;
    for (size_t p = first; p < first + count; ++p)
      for (const auto& [column, value] : x.outliers[p]) {
        if (value == 0 || place_[column] > 0) continue;
        columns.push_back(column);
        place_[column] = columns.size();
      }
    values_.resize(columns.size() * out_);
    parallel_ranges(columns.empty() ? 0 : out_, 256, [&](size_t begin, size_t end) {
      for (size_t o = begin; o < end; ++o)
        for (size_t k = 0; k < columns.size(); ++k) values_[k * out_ + o] = w.values[o * w.in + columns[k]];
    });
  }
  const int8_t* column(size_t c) const { return values_.data() + (place_[c] - 1) * out_; }

 private:
  size_t out_;
  std::vector<size_t> place_;  // 1 + where the column stands in values_, 0: nowhere
  std::vector<int8_t> values_;
};

}  // namespace

void int8_forward(const Int8Rows& x, size_t first, size_t count, const Int8Weights& w, MatrixView y,
                  const float* steps) {
  const OutlierColumns columns(x, first, count, w);
  const size_t block = std::max<size_t>(1, accumulator_values / w.out);
  Matrix buffer = Matrix::uninitialized(std::min(block, count), w.out);
  auto* sums = reinterpret_cast<int32_t*>(buffer.data());
  for (size_t done = 0; done < count; done += block) {
    const size_t some = std::min(block, count - done);
    const auto rows = static_cast<dnnl_dim_t>(some), in = static_cast<dnnl_dim_t>(w.in),
               out = static_cast<dnnl_dim_t>(w.out);
    const int32_t zero = 0;
    const dnnl_status_t status =
        dnnl_gemm_u8s8s32('N', 'T', 'F', rows, out, in, 1, x.values.data() + (first + done) * w.in, in, 0, w.values, in,
                          0, 0, sums, out, &zero);
    if (status != dnnl_success)
      throw Error(ErrorCode::unsupported,
                  fmt::format("oneDNN cannot multiply in int8 here (status {}); use fp32", static_cast<int>(status)));
    parallel_ranges(some, 4, [&](size_t begin, size_t end) {
      std::array<float, outliers_per_row> factors{};
      std::array<const int8_t*, outliers_per_row> values{};
      for (size_t r = begin; r < end; ++r) {
        const size_t p = first + done + r;
        size_t outliers = 0;
        for (const auto& [column, value] : x.outliers[p]) {
          if (value == 0) break;
          factors[outliers] = value;
          values[outliers++] = columns.column(column);
        }
        HWY_DYNAMIC_DISPATCH(ScaleRow)
        (sums + r * w.out, x.scales[p], std::span(factors).first(outliers), values.data(), w, steps != nullptr,
         steps ? steps[done + r] : 1, y.row(done + r).data());
      }
    });
  }
}

}  // namespace hone
#endif
