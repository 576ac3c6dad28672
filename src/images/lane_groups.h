// Images side by side in the lanes of a vector: a group holds as many images as a vector has lanes on this CPU, and
// lies as [value][lane]. What is computed of an image then needs no sum across lanes, whatever the number of channels.
#pragma once

#include "hone/base.h"

namespace hone {

// Images in a group.
size_t group_lanes();
// Groups that `images` need; the last one's other lanes hold no image, but are computed with.
size_t groups_of(size_t images);

// images [n, d] to grouped [groups_of(n)][d][lane]; lanes beyond n stay as they are.
void to_groups(ConstMatrixView images, float* grouped);
// And back.
void from_groups(const float* grouped, MatrixView images);

}  // namespace hone
