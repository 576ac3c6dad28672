#include "images/max_pool.h"

#include "images/convolution.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "images/max_pool.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void MaxPool(const PoolShape& s, const float* x, float* y) {
  const hn::ScalableTag<float> d;
  const size_t right = hn::Lanes(d), below = s.cols * right;
  for (size_t plane = 0; plane < s.planes; ++plane)
    for (size_t row = 0; row < s.rows / 2; ++row) {
      const float* value = x + (plane * s.rows + 2 * row) * below;
      for (size_t col = 0; col < s.cols / 2; ++col, value += 2 * right, y += right) {
        const auto upper = hn::Max(hn::LoadU(d, value), hn::LoadU(d, value + right));
        const auto lower = hn::Max(hn::LoadU(d, value + below), hn::LoadU(d, value + below + right));
        hn::StoreU(hn::Max(hn::Zero(d), hn::Max(upper, lower)), d, y);
      }
    }
}

void MaxPoolBackward(const PoolShape& s, const float* x, const float* y, const float* dy, float* dx) {
  const hn::ScalableTag<float> d;
  const size_t right = hn::Lanes(d), below = s.cols * right, gradient_below = below + 2 * gradient_margin * right;
  for (size_t plane = 0; plane < s.planes; ++plane)
    for (size_t row = 0; row < s.rows / 2; ++row) {
      const float* value = x + (plane * s.rows + 2 * row) * below;
      float* gradient = dx + (plane * s.rows + 2 * row) * gradient_below + gradient_margin * right;
      for (size_t col = 0; col < s.cols / 2; ++col) {
        const auto most = hn::LoadU(d, y);
        auto left = hn::IfThenElseZero(hn::Gt(most, hn::Zero(d)), hn::LoadU(d, dy));
        const auto give = [&](const float* from, float* to) {
          const auto takes = hn::Eq(hn::LoadU(d, from), most);
          hn::StoreU(hn::IfThenElseZero(takes, left), d, to);
          left = hn::IfThenZeroElse(takes, left);
        };
        give(value, gradient);
        give(value + right, gradient + right);
        give(value + below, gradient + gradient_below);
        hn::StoreU(left, d, gradient + gradient_below + right);
        value += 2 * right;
        gradient += 2 * right;
        y += right;
        dy += right;
      }
    }
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(MaxPool);
HWY_EXPORT(MaxPoolBackward);

void max_pool(const PoolShape& s, const float* x, float* y) { HWY_DYNAMIC_DISPATCH(MaxPool)(s, x, y); }

void max_pool_backward(const PoolShape& s, const float* x, const float* y, const float* dy, float* dx) {
  HWY_DYNAMIC_DISPATCH(MaxPoolBackward)(s, x, y, dy, dx);
}

}  // namespace hone
#endif
