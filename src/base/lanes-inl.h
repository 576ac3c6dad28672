// Elementwise loops, compiled once for each instruction set (see Highway's quick reference on -inl.h files).
#if defined(HONE_BASE_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_BASE_LANES_INL_H_
#undef HONE_BASE_LANES_INL_H_
#else
#define HONE_BASE_LANES_INL_H_
#endif

#include <cstddef>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

// Calls body(vector tag, offset) for whole vectors and body(one-lane tag, offset) for the rest of [0, count).
template <class Body>
HWY_INLINE void for_lanes(size_t count, const Body& body) {
  const hwy::HWY_NAMESPACE::ScalableTag<float> d;
  size_t i = 0;
  for (; i + hwy::HWY_NAMESPACE::Lanes(d) <= count; i += hwy::HWY_NAMESPACE::Lanes(d)) body(d, i);
  const hwy::HWY_NAMESPACE::CappedTag<float, 1> one;
  for (; i < count; ++i) body(one, i);
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HONE_BASE_LANES_INL_H_
