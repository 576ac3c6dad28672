#include "lab/number_list.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>

#include "hone/base.h"

namespace hone::lab {

std::string number_list(std::span<const double> values) { return fmt::format("{}", fmt::join(values, " ")); }

std::vector<double> read_number_list(std::string_view text, std::string_view column) {
  std::vector<double> values;
  const char *at = text.data(), *const end = at + text.size();
  while (at != end) {
    double value = 0;
    const auto [next, error] = std::from_chars(at, end, value);
    if (error != std::errc() || (next != end && (*next != ' ' || next + 1 == end)))
      throw Error(ErrorCode::corrupt, fmt::format("column {}: '{}' is not a list of numbers", column, text));
    values.push_back(value);
    at = next == end ? end : next + 1;
  }
  return values;
}

}  // namespace hone::lab
