// The lines of a text.
#pragma once

#include <algorithm>
#include <string_view>

namespace hone {

// What some programs write before UTF-8.
inline constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

// Calls visit(number, line) for every line, also an empty one, without its end (\n or \r\n) and without a byte order
// mark before the first. Numbers count from 1.
template <class Visit>
void for_each_line(std::string_view text, const Visit& visit) {
  if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
  for (size_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    visit(number, line);
  }
}

}  // namespace hone
