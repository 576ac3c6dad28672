// Strangers' texts and file names on a terminal.
#pragma once

#include <filesystem>
#include <limits>
#include <string>
#include <string_view>

namespace hone::cli {

// On one line, without control characters; of more than `width` bytes the first, whole characters, and "...".
std::string one_line(std::string_view text, size_t width = std::numeric_limits<size_t>::max());

}  // namespace hone::cli
