// Between UTF-8 and UTF-32, without trusting the text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hone {

// Appends the character; false, and nothing appended, for a number that is none (above U+10FFFF, surrogates).
bool append_utf8(std::string& to, uint32_t code);

// Nothing for text that is not UTF-8.
std::optional<std::u32string> utf32(std::string_view text);

}  // namespace hone
