// Lists of numbers in one cell of a table: "0.5 0.25 1", each with the fewest digits that read back as the same double.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hone::lab {

std::string number_list(std::span<const double> values);
// Throws Error{corrupt} for anything but numbers with single spaces between them, naming the column; "" is no numbers.
std::vector<double> read_number_list(std::string_view text, std::string_view column);

}  // namespace hone::lab
