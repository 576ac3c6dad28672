// What is promised is never printed better than it is.
#pragma once

#include <string>

namespace hone {

// `value` ≥ 0 with that many decimals, rounded up: for bounds.
std::string rounded_up(double value, int decimals);

}  // namespace hone
