#include "data/utf32.h"

#include "model/utf8.h"

namespace hone {

bool append_utf8(std::string& to, uint32_t code) {
  if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return false;
  const int following = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  constexpr unsigned leads[] = {0x00, 0xC0, 0xE0, 0xF0};
  to += static_cast<char>(leads[following] | code >> 6 * following);
  for (int i = following - 1; i >= 0; --i) to += static_cast<char>(0x80 | (code >> 6 * i & 0x3F));
  return true;
}

std::optional<std::u32string> utf32(std::string_view text) {
  std::u32string result;
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text, at);
    if (length == 0) return std::nullopt;
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
    uint32_t code = length == 1 ? byte(0) : byte(0) & (0x7FU >> length);
    for (size_t i = 1; i < length; ++i) code = code << 6 | (byte(i) & 0x3FU);
    result += static_cast<char32_t>(code);
    at += length;
  }
  return result;
}

}  // namespace hone
