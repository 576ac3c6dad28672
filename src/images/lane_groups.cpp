#include "images/lane_groups.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "images/lane_groups.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

size_t GroupLanes() { return hwy::HWY_NAMESPACE::Lanes(hwy::HWY_NAMESPACE::ScalableTag<float>()); }

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(GroupLanes);

size_t group_lanes() { return HWY_DYNAMIC_DISPATCH(GroupLanes)(); }

size_t groups_of(size_t images) { return (images + group_lanes() - 1) / group_lanes(); }

void to_groups(ConstMatrixView images, float* grouped) {
  const size_t lanes = group_lanes();
  for (size_t i = 0; i < images.rows; ++i) {
    float* to = grouped + i / lanes * images.cols * lanes + i % lanes;
    for (size_t c = 0; c < images.cols; ++c) to[c * lanes] = images.row(i)[c];
  }
}

void from_groups(const float* grouped, MatrixView images) {
  const size_t lanes = group_lanes();
  for (size_t i = 0; i < images.rows; ++i) {
    const float* from = grouped + i / lanes * images.cols * lanes + i % lanes;
    for (size_t c = 0; c < images.cols; ++c) images.row(i)[c] = from[c * lanes];
  }
}

}  // namespace hone
#endif
