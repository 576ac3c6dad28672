#include "cli/terminal_text.h"

#include <algorithm>

namespace hone::cli {
namespace {

bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// C0, DEL, or, in UTF-8, C1: some terminals obey these like an escape sequence.
bool is_control(std::string_view text, size_t i) {
  const auto byte = static_cast<unsigned char>(text[i]);
  if (byte < 0x20 || byte == 0x7F) return true;
  const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
  return byte == 0xC2 && next >= 0x80 && next < 0xA0;
}

}  // namespace

std::string one_line(std::string_view text, size_t width) {
  size_t end = std::min(width, text.size());
  while (end > 0 && end < text.size() && continues_character(text[end])) --end;
  std::string line;
  for (size_t i = 0; i < end; ++i) {
    if (!is_control(text, i)) {
      line += text[i];
      continue;
    }
    if (static_cast<unsigned char>(text[i]) == 0xC2) ++i;
    line += ' ';
  }
  return end < text.size() ? line + "..." : line;
}

}  // namespace hone::cli
