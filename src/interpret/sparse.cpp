#include "interpret/sparse.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "interpret/sparse.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "base/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Float = hn::ScalableTag<float>;
using Vec = hn::Vec<Float>;

constexpr float lowest = -std::numeric_limits<float>::infinity();

// A value that at least k of `values` reach.
float lower_bound_of_largest(std::span<const float> values, size_t k, std::vector<float>& maxima) {
  const Float d;
  const size_t n = hn::Lanes(d);
  const size_t groups = (4 * k + n - 1) / n * n;  // one a lane
  if (2 * groups > values.size()) return lowest;
  maxima.assign(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(groups));
  for (size_t i = groups; i + n <= values.size(); i += groups)
    for (size_t g = 0; g < groups && i + g + n <= values.size(); g += n)
      hn::StoreU(hn::Max(hn::LoadU(d, values.data() + i + g), hn::LoadU(d, maxima.data() + g)), d, maxima.data() + g);
  for (float& value : maxima)
    if (std::isnan(value)) value = lowest;
  const auto kth = maxima.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(maxima.begin(), kth, maxima.end(), std::greater<>());
  return *kth;
}

// Places of the values that reach the threshold, ascending.
void places_from(std::span<const float> values, float threshold, std::vector<uint32_t>& places) {
  const Float d;
  const hn::RebindToUnsigned<Float> du;
  const size_t n = hn::Lanes(d);
  places.resize(values.size() + n);
  size_t count = 0, i = 0;
  for (; i + n <= values.size(); i += n) {
    const auto reached = hn::Ge(hn::LoadU(d, values.data() + i), hn::Set(d, threshold));
    if (hn::AllFalse(d, reached)) continue;
    count += hn::CompressStore(hn::Iota(du, static_cast<uint32_t>(i)), hn::RebindMask(du, reached), du,
                               places.data() + count);
  }
  for (; i < values.size(); ++i)
    if (values[i] >= threshold) places[count++] = static_cast<uint32_t>(i);
  places.resize(count);
}

void SelectLargest(std::span<const float> values, size_t k, Selection& selection) {
  std::vector<uint32_t>& places = selection.features;
  places_from(values, lower_bound_of_largest(values, k, selection.maxima), places);
  if (places.size() <= k) return;
  std::vector<float>& candidates = selection.values;
  candidates.resize(places.size());
  for (size_t i = 0; i < places.size(); ++i) candidates[i] = values[places[i]];
  const auto kth = candidates.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(candidates.begin(), kth, candidates.end(), std::greater<>());
  const float threshold = *kth;
  const auto above =
      static_cast<size_t>(std::ranges::count_if(candidates, [&](float value) { return value > threshold; }));
  size_t equal = k - above, kept = 0;
  for (const uint32_t place : places) {
    if (values[place] < threshold) continue;
    if (values[place] == threshold && equal == 0) continue;
    if (values[place] == threshold) --equal;
    places[kept++] = place;
  }
  places.resize(kept);
}

// Adds up `vectors` vectors of columns, kept in registers meanwhile.
template <size_t vectors>
HWY_INLINE void add_columns(ConstMatrixView rows, std::span<const uint32_t> ids, std::span<const float> weights,
                            size_t column, float* sum) {
  const Float d;
  const size_t n = hn::Lanes(d);
  Vec total[vectors];
#pragma GCC unroll 8
  for (size_t v = 0; v < vectors; ++v) total[v] = hn::LoadU(d, sum + column + v * n);
  for (size_t i = 0; i < ids.size(); ++i) {
    const float* from = rows.data + ids[i] * rows.cols + column;
    const Vec weight = hn::Set(d, weights[i]);
#pragma GCC unroll 8
    for (size_t v = 0; v < vectors; ++v) total[v] = hn::MulAdd(weight, hn::LoadU(d, from + v * n), total[v]);
  }
#pragma GCC unroll 8
  for (size_t v = 0; v < vectors; ++v) hn::StoreU(total[v], d, sum + column + v * n);
}

void AddRows(ConstMatrixView rows, std::span<const uint32_t> ids, std::span<const float> weights,
             std::span<float> sum) {
  const size_t n = hn::Lanes(Float());
  size_t column = 0;
  for (; column + 8 * n <= rows.cols; column += 8 * n) add_columns<8>(rows, ids, weights, column, sum.data());
  for (; column + n <= rows.cols; column += n) add_columns<1>(rows, ids, weights, column, sum.data());
  for (; column < rows.cols; ++column)
    for (size_t i = 0; i < ids.size(); ++i) sum[column] += weights[i] * rows.data[ids[i] * rows.cols + column];
}

float InnerProduct(std::span<const float> a, std::span<const float> b) {
  const Float d;
  const size_t n = hn::Lanes(d), count = a.size();
  Vec sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  size_t i = 0;
  for (; i + 2 * n <= count; i += 2 * n) {
    sum0 = hn::MulAdd(hn::LoadU(d, a.data() + i), hn::LoadU(d, b.data() + i), sum0);
    sum1 = hn::MulAdd(hn::LoadU(d, a.data() + i + n), hn::LoadU(d, b.data() + i + n), sum1);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
  for (; i < count; ++i) total += a[i] * b[i];
  return total;
}

void RowProducts(ConstMatrixView rows, std::span<const uint32_t> ids, std::span<const float> x,
                 std::span<float> products) {
  for (size_t i = 0; i < ids.size(); ++i) products[i] = InnerProduct(rows.row(ids[i]), x);
}

void AddScaled(float scale, std::span<const float> x, std::span<float> y) {
  for_lanes(x.size(), [&](auto d, size_t i) {
    hn::StoreU(hn::MulAdd(hn::Set(d, scale), hn::LoadU(d, x.data() + i), hn::LoadU(d, y.data() + i)), d, y.data() + i);
  });
}

void ScaleBy(float factor, std::span<float> values) {
  for_lanes(values.size(), [&](auto d, size_t i) {
    hn::StoreU(hn::Mul(hn::Set(d, factor), hn::LoadU(d, values.data() + i)), d, values.data() + i);
  });
}

void DropOut(std::span<float> values, float rate, RandomStream& random) {
  const auto dropped = static_cast<int32_t>(std::lround(rate * 65536));  // of the 2¹⁶ draws
  const float scale = 1 / (1 - rate);
  constexpr size_t block = 256;
  uint64_t draws[block / 4] = {};
  uint16_t bits[block];
  for (size_t start = 0; start < values.size(); start += block) {
    const size_t count = std::min(block, values.size() - start);
    for (size_t i = 0; i < (count + 3) / 4; ++i) draws[i] = random.next();
    std::memcpy(bits, draws, sizeof(bits));
    float* to = values.data() + start;
    for_lanes(count, [&](auto d, size_t i) {
      const hn::RebindToSigned<decltype(d)> di;
      const auto draw = hn::PromoteTo(di, hn::LoadU(hn::Rebind<uint16_t, decltype(d)>(), bits + i));
      const auto kept = hn::RebindMask(d, hn::Gt(draw, hn::Set(di, dropped - 1)));
      hn::StoreU(hn::IfThenElseZero(kept, hn::Mul(hn::LoadU(d, to + i), hn::Set(d, scale))), d, to + i);
    });
  }
}

constexpr float beta1 = 0.9F, rest1 = 0.1F, beta2 = 0.999F, rest2 = 0.001F, epsilon = 1e-8F;

void TakeAdamStep(const SparseAdamStep& step, std::span<const float> gradient, std::span<float> first,
                  std::span<float> second, std::span<float> values) {
  const float rate = step.learning_rate / step.correction1, root = 1 / std::sqrt(step.correction2);
  for_lanes(values.size(), [&](auto d, size_t i) {
    const auto g = hn::Mul(hn::LoadU(d, gradient.data() + i), hn::Set(d, step.scale));
    const auto m = hn::MulAdd(hn::Set(d, beta1), hn::LoadU(d, first.data() + i), hn::Mul(hn::Set(d, rest1), g));
    const auto v =
        hn::MulAdd(hn::Set(d, beta2), hn::LoadU(d, second.data() + i), hn::Mul(hn::Set(d, rest2), hn::Mul(g, g)));
    hn::StoreU(m, d, first.data() + i);
    hn::StoreU(v, d, second.data() + i);
    const auto size = hn::MulAdd(hn::Sqrt(v), hn::Set(d, root), hn::Set(d, epsilon));
    const auto value = hn::LoadU(d, values.data() + i);
    hn::StoreU(hn::Sub(value, hn::Div(hn::Mul(hn::Set(d, rate), m), size)), d, values.data() + i);
  });
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(SelectLargest);
HWY_EXPORT(AddRows);
HWY_EXPORT(RowProducts);
HWY_EXPORT(InnerProduct);
HWY_EXPORT(AddScaled);
HWY_EXPORT(ScaleBy);
HWY_EXPORT(DropOut);
HWY_EXPORT(TakeAdamStep);

void select_largest(std::span<const float> values, size_t k, Selection& selection) {
  selection.features.clear();
  if (k > 0) HWY_DYNAMIC_DISPATCH(SelectLargest)(values, k, selection);
}

void add_rows(ConstMatrixView rows, std::span<const uint32_t> ids, std::span<const float> weights,
              std::span<float> sum) {
  HWY_DYNAMIC_DISPATCH(AddRows)(rows, ids, weights, sum);
}

void row_products(ConstMatrixView rows, std::span<const uint32_t> ids, std::span<const float> x,
                  std::span<float> products) {
  HWY_DYNAMIC_DISPATCH(RowProducts)(rows, ids, x, products);
}

float inner_product(std::span<const float> a, std::span<const float> b) {
  return HWY_DYNAMIC_DISPATCH(InnerProduct)(a, b);
}

void add_scaled(float scale, std::span<const float> x, std::span<float> y) {
  HWY_DYNAMIC_DISPATCH(AddScaled)(scale, x, y);
}

void scale_by(float factor, std::span<float> values) { HWY_DYNAMIC_DISPATCH(ScaleBy)(factor, values); }

void drop_out(std::span<float> values, float rate, RandomStream& random) {
  HWY_DYNAMIC_DISPATCH(DropOut)(values, rate, random);
}

void adam_step(const SparseAdamStep& step, std::span<const float> gradient, std::span<float> first,
               std::span<float> second, std::span<float> values) {
  HWY_DYNAMIC_DISPATCH(TakeAdamStep)(step, gradient, first, second, values);
}

}  // namespace hone
#endif
