#include "images/max_pool.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "images/max_pool.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Calls window(input offset, output offset) for the upper left value of every 2 × 2 window, all channels together.
template <class Window>
HWY_INLINE void for_each_window(const PoolShape& s, const Window& window) {
  size_t to = 0;
  for (size_t image = 0; image < s.images; ++image)
    for (size_t row = 0; row < s.rows / 2; ++row)
      for (size_t col = 0; col < s.cols / 2; ++col, to += s.channels)
        window(((image * s.rows + 2 * row) * s.cols + 2 * col) * s.channels, to);
}

// Calls body(vector tag, channel): whole vectors, then four lanes, then one. LeNet has 1 to 72 channels.
template <class Body>
HWY_INLINE void for_channels(size_t channels, const Body& body) {
  const hn::ScalableTag<float> whole;
  const hn::CappedTag<float, 4> four;
  const hn::CappedTag<float, 1> one;
  size_t c = 0;
  for (; c + hn::Lanes(whole) <= channels; c += hn::Lanes(whole)) body(whole, c);
  for (; c + hn::Lanes(four) <= channels; c += hn::Lanes(four)) body(four, c);
  for (; c < channels; ++c) body(one, c);
}

void MaxPool(const PoolShape& s, const float* x, float* y) {
  const size_t right = s.channels, below = s.cols * s.channels;
  for_each_window(s, [&](size_t from, size_t to) {
    for_channels(s.channels, [&](auto d, size_t c) {
      const float* value = x + from + c;
      const auto upper = hn::Max(hn::LoadU(d, value), hn::LoadU(d, value + right));
      const auto lower = hn::Max(hn::LoadU(d, value + below), hn::LoadU(d, value + below + right));
      hn::StoreU(hn::Max(hn::Zero(d), hn::Max(upper, lower)), d, y + to + c);
    });
  });
}

void MaxPoolBackward(const PoolShape& s, const float* x, const float* y, const float* dy, float* dx) {
  const size_t right = s.channels, below = s.cols * s.channels;
  if (s.rows % 2 == 1 || s.cols % 2 == 1) std::fill_n(dx, s.images * s.rows * s.cols * s.channels, 0.0F);
  for_each_window(s, [&](size_t from, size_t to) {
    for_channels(s.channels, [&](auto d, size_t c) {
      const float* value = x + from + c;
      float* gradient = dx + from + c;
      const auto most = hn::LoadU(d, y + to + c);
      auto left = hn::IfThenElseZero(hn::Gt(most, hn::Zero(d)), hn::LoadU(d, dy + to + c));
      for (const size_t place : {size_t{0}, right, below}) {
        const auto takes = hn::Eq(hn::LoadU(d, value + place), most);
        hn::StoreU(hn::IfThenElseZero(takes, left), d, gradient + place);
        left = hn::IfThenZeroElse(takes, left);
      }
      hn::StoreU(left, d, gradient + below + right);
    });
  });
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
