// What every fit asks of its points.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "hone/base.h"

namespace hone {

// Throws Error{bad_input}.
[[noreturn]] void refuse(std::string message);

bool is_finite(std::span<const float> values);
bool is_finite(ConstMatrixView values);
// Throws Error{bad_input} naming `what` and the row of the first NaN or infinity.
void check_finite(ConstMatrixView x, std::string_view what);
// check_points in parts: of the whole, and of one point.
void check_sizes(ConstMatrixView x, std::span<const int> y, size_t classes);
void check_point(ConstMatrixView x, std::span<const int> y, size_t classes, size_t i);
void check_points(ConstMatrixView x, std::span<const int> y, size_t classes);

}  // namespace hone
