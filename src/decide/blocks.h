// What the two files on blocks share.
#pragma once

#include "hone/directions.h"

namespace hone::decide {

// The shapes fit and there is something to choose from.
void check_blocks(const BlockKernels& blocks);
// s² is not negative; +inf is allowed.
void check_noise(double noise);

}  // namespace hone::decide
