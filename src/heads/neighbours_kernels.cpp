#include "heads/neighbours_kernels.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "heads/neighbours_kernels.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void PushScores(const float* products, const float* bias, size_t count, uint32_t first, Least& least) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  HWY_ALIGN float scores[HWY_MAX_BYTES / sizeof(float)];
  const auto push = [&](float score, size_t i) {
    if (score < least.limit()) least.push({score, first + static_cast<uint32_t>(i)});
  };
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto score = hn::Sub(hn::LoadU(d, bias + i), hn::LoadU(d, products + i));
    if (hn::AllFalse(d, hn::Lt(score, hn::Set(d, least.limit())))) continue;
    hn::Store(score, d, scores);
    for (size_t lane = 0; lane < lanes; ++lane) push(scores[lane], i + lane);
  }
  for (; i < count; ++i) push(bias[i] - products[i], i);
}

// Σ term(a_i, b_i), with term of two vectors of double and a sum to add to.
template <class Term>
HWY_INLINE double sum_of(const float* a, const float* b, size_t length, const Term& term) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> narrow;
  const size_t lanes = hn::Lanes(d);
  auto even = hn::Zero(d), odd = hn::Zero(d);
  const auto wide = [&](const float* from) { return hn::PromoteTo(d, hn::LoadU(narrow, from)); };
  size_t i = 0;
  for (; i + 2 * lanes <= length; i += 2 * lanes) {
    even = term(wide(a + i), wide(b + i), even);
    odd = term(wide(a + i + lanes), wide(b + i + lanes), odd);
  }
  if (i + lanes <= length) {
    even = term(wide(a + i), wide(b + i), even);
    i += lanes;
  }
  const hn::CappedTag<double, 1> one;
  auto rest = hn::Zero(one);
  for (; i < length; ++i)
    rest = term(hn::Set(one, static_cast<double>(a[i])), hn::Set(one, static_cast<double>(b[i])), rest);
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd))) + hn::GetLane(rest);
}

double SquaredDistance(const float* a, const float* b, size_t length) {
  return sum_of(a, b, length, [](auto x, auto y, auto sum) {
    const auto difference = hn::Sub(x, y);
    return hn::MulAdd(difference, difference, sum);
  });
}

double InnerProduct(const float* a, const float* b, size_t length) {
  return sum_of(a, b, length, [](auto x, auto y, auto sum) { return hn::MulAdd(x, y, sum); });
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(PushScores);
HWY_EXPORT(SquaredDistance);
HWY_EXPORT(InnerProduct);

void Least::shrink() {
  const auto last = kept_.begin() + static_cast<std::ptrdiff_t>(keep_ - 1);
  std::nth_element(kept_.begin(), last, kept_.end());
  kept_.resize(keep_);
  limit_ = kept_.back().score;
}

void push_scores(const float* products, const float* bias, size_t count, uint32_t first, Least& least) {
  HWY_DYNAMIC_DISPATCH(PushScores)(products, bias, count, first, least);
}

double squared_distance(const float* a, const float* b, size_t length) {
  return HWY_DYNAMIC_DISPATCH(SquaredDistance)(a, b, length);
}

double inner_product(const float* a, const float* b, size_t length) {
  return HWY_DYNAMIC_DISPATCH(InnerProduct)(a, b, length);
}

}  // namespace hone
#endif
