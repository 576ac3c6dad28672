// What every fit asks of its points.
#pragma once

#include <cstdint>
#include <span>

#include "hone/base.h"

namespace hone {

// Throws Error{bad_input} naming `what` and the row.
void check_finite(ConstMatrixView x, std::string_view what);
void check_points(ConstMatrixView x, std::span<const int> y, size_t classes);

}  // namespace hone
