#include "decide/block_products.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "decide/block_products.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::decide::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Double = hn::ScalableTag<double>;
using HalfFloat = hn::Rebind<float, Double>;

HWY_INLINE hn::Vec<Double> load(const double* from) { return hn::LoadU(Double(), from); }
HWY_INLINE hn::Vec<Double> load(const float* from) { return hn::PromoteTo(Double(), hn::LoadU(HalfFloat(), from)); }

void Add(const float* x, double* sum, size_t count) {
  const Double d;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) hn::StoreU(hn::Add(load(sum + i), load(x + i)), d, sum + i);
  for (; i < count; ++i) sum[i] += static_cast<double>(x[i]);
}

template <class A>
HWY_INLINE double sum_of_products(const A* a, const double* b, size_t count) {
  const Double d;
  const size_t lanes = hn::Lanes(d);
  auto even = hn::Zero(d), odd = hn::Zero(d);
  size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    even = hn::MulAdd(load(a + i), load(b + i), even);
    odd = hn::MulAdd(load(a + i + lanes), load(b + i + lanes), odd);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (; i < count; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

double DotFloat(const float* a, const double* b, size_t count) { return sum_of_products(a, b, count); }
double DotDouble(const double* a, const double* b, size_t count) { return sum_of_products(a, b, count); }

// Column by column, four at a time: y stays in registers or the first cache.
void SymmetricProduct(const double* kernel, const double* v, size_t n, double* y) {
  const Double d;
  std::fill_n(y, n, 0.0);
  for (size_t j = 0; j < n; j += 4) {
    const size_t columns = std::min<size_t>(4, n - j);
    const double* k[4];
    double x[4] = {};
    for (size_t c = 0; c < 4; ++c) {
      k[c] = kernel + (j + std::min(c, columns - 1)) * n;
      if (c < columns) x[c] = v[j + c];
    }
    const auto x0 = hn::Set(d, x[0]), x1 = hn::Set(d, x[1]), x2 = hn::Set(d, x[2]), x3 = hn::Set(d, x[3]);
    size_t i = 0;
    for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
      const auto first = hn::MulAdd(load(k[1] + i), x1, hn::MulAdd(load(k[0] + i), x0, load(y + i)));
      const auto second = hn::MulAdd(load(k[3] + i), x3, hn::Mul(load(k[2] + i), x2));
      hn::StoreU(hn::Add(first, second), d, y + i);
    }
    for (; i < n; ++i) y[i] += k[0][i] * x[0] + k[1][i] * x[1] + k[2][i] * x[2] + k[3][i] * x[3];
  }
}

}  // namespace hone::decide::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone::decide {

HWY_EXPORT(Add);
HWY_EXPORT(DotFloat);
HWY_EXPORT(DotDouble);
HWY_EXPORT(SymmetricProduct);

void add(const float* x, double* sum, size_t count) { HWY_DYNAMIC_DISPATCH(Add)(x, sum, count); }
double dot(const float* a, const double* b, size_t count) { return HWY_DYNAMIC_DISPATCH(DotFloat)(a, b, count); }
double dot(const double* a, const double* b, size_t count) { return HWY_DYNAMIC_DISPATCH(DotDouble)(a, b, count); }
void symmetric_product(const double* kernel, const double* v, size_t n, double* y) {
  HWY_DYNAMIC_DISPATCH(SymmetricProduct)(kernel, v, n, y);
}

}  // namespace hone::decide
#endif
