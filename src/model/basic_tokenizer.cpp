#include "model/basic_tokenizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <new>
#include <vector>

#include "hone/base.h"
#include "model/utf8.h"

namespace hone {
namespace {

using Point = utf8proc_int32_t;

constexpr Point replacement = 0xFFFD;
constexpr Point dotted_capital_i = 0x130, combining_dot = 0x307;

bool is_ascii_punctuation(Point c) {
  return (c > 0x20 && c < '0') || (c > '9' && c < 'A') || (c > 'Z' && c < 'a') || (c > 'z' && c < 0x7F);
}

bool is_punctuation(Point c) {
  if (c < 0x80) return is_ascii_punctuation(c);
  const utf8proc_category_t category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

// Control characters are no white space, except these three.
bool is_space(Point c) {
  if (c == '\t' || c == '\n' || c == '\r') return true;
  const utf8proc_category_t category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP;
}

bool is_other(Point c) {
  const utf8proc_category_t category = utf8proc_category(c);
  return category == UTF8PROC_CATEGORY_CN || category >= UTF8PROC_CATEGORY_CC;
}

// The blocks that BERT's multilingual README counts as Chinese characters.
bool is_ideograph(Point c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

void append(Point c, std::string& text) {
  utf8proc_uint8_t bytes[4];
  const auto count = utf8proc_encode_char(c, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(count));
}

// The code points of well-formed UTF-8.
std::vector<Point> points_of(std::string_view text, bool decompose) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const auto size = static_cast<utf8proc_ssize_t>(text.size());
  const auto options = static_cast<utf8proc_option_t>(decompose ? UTF8PROC_DECOMPOSE | UTF8PROC_STABLE : 0);
  std::vector<Point> points(text.size());
  for (;;) {
    const auto room = static_cast<utf8proc_ssize_t>(points.size());
    const utf8proc_ssize_t count = utf8proc_decompose(bytes, size, points.data(), room, options);
    if (count < 0)
      throw Error(ErrorCode::bad_input,
                  fmt::format("cannot normalise a text of {} bytes: {}", text.size(), utf8proc_errmsg(count)));
    points.resize(static_cast<size_t>(count));
    if (count <= room) return points;
  }
}

}  // namespace

std::string BasicTokenizer::clean(std::string_view text) const {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text, at);
    if (length == 0) {
      ++at;
      continue;
    }
    Point c = 0;
    utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at, static_cast<utf8proc_ssize_t>(length),
                     &c);
    const std::string_view character = text.substr(at, length);
    at += length;
    if (is_space(c))
      result += ' ';
    else if (options_.split_ideographs && is_ideograph(c))
      result.append(" ").append(character).append(" ");
    else if (c != replacement && !is_other(c))
      result += character;
  }
  return result;
}

void BasicTokenizer::split(std::string_view text, const std::function<void(std::string_view)>& visit) const {
  if (std::ranges::all_of(text, [](char byte) { return static_cast<unsigned char>(byte) < 0x80; }))
    return split_ascii(text, visit);
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) visit(word);
    word.clear();
  };
  for (const Point c : points_of(clean(text), options_.strip_accents)) {
    if (options_.strip_accents && utf8proc_category(c) == UTF8PROC_CATEGORY_MN) continue;
    const Point lower = options_.lower_case ? utf8proc_tolower(c) : c;
    const bool alone = is_punctuation(lower);
    if (alone || is_space(lower)) end_word();
    if (is_space(lower)) continue;
    append(lower, word);
    if (options_.lower_case && c == dotted_capital_i) append(combining_dot, word);
    if (alone) end_word();
  }
  end_word();
}

void BasicTokenizer::split_ascii(std::string_view text, const std::function<void(std::string_view)>& visit) const {
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) visit(word);
    word.clear();
  };
  for (const char c : text) {
    const bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r', alone = is_ascii_punctuation(c);
    if (space || alone) end_word();
    if (space || c < 0x20 || c == 0x7F) continue;
    word += options_.lower_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (alone) end_word();
  }
  end_word();
}

}  // namespace hone
