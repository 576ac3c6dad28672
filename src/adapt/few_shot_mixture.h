// The mixture over numbers of steps that leave-one-out evidence makes.
#pragma once

#include <span>
#include <vector>

#include "hone/spectrum.h"

namespace hone {

// Weights over T [|T|]: prior ½ on T = 0 and ½ `trusted`, moved by log p(y_i) of every example under every T
// [|T|, n], then floored.
std::vector<double> weigh_steps(std::span<const double> trusted, const decide::Matrix64& log_p, double floor);

}  // namespace hone
