// UTF-8: where characters begin and end, without trusting the text.
#pragma once

#include <cstddef>
#include <string_view>

namespace hone {

// Bytes of the well-formed character that starts at `at` (1 to 4), or 0 if none does. at < text.size().
inline size_t utf8_length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const auto continues = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const size_t left = text.size() - at;
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4 || left < 2 || !continues(1)) return 0;
  if (lead < 0xE0) return 2;
  const bool overlong = (lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xF0 && byte(1) < 0x90);
  const bool surrogate = lead == 0xED && byte(1) > 0x9F;
  const bool above_unicode = lead == 0xF4 && byte(1) > 0x8F;
  if (overlong || surrogate || above_unicode || left < 3 || !continues(2)) return 0;
  if (lead < 0xF0) return 3;
  return left >= 4 && continues(3) ? 4 : 0;
}

}  // namespace hone
