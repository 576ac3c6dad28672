#include "store/ignore.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace hone::store {
namespace {

using CharacterTest = int (*)(int);
constexpr std::array<std::pair<std::string_view, CharacterTest>, 12> named_sets = {{
    {"alnum", [](int c) { return std::isalnum(c); }},
    {"alpha", [](int c) { return std::isalpha(c); }},
    {"blank", [](int c) { return std::isblank(c); }},
    {"cntrl", [](int c) { return std::iscntrl(c); }},
    {"digit", [](int c) { return std::isdigit(c); }},
    {"graph", [](int c) { return std::isgraph(c); }},
    {"lower", [](int c) { return std::islower(c); }},
    {"print", [](int c) { return std::isprint(c); }},
    {"punct", [](int c) { return std::ispunct(c); }},
    {"space", [](int c) { return std::isspace(c); }},
    {"upper", [](int c) { return std::isupper(c); }},
    {"xdigit", [](int c) { return std::isxdigit(c); }},
}};

bool add_named_set(std::string_view name, std::bitset<256>& set) {
  for (const auto& [known, test] : named_sets) {
    if (known != name) continue;
    for (int c = 0; c < 128; ++c) {
      if (test(c)) set.set(static_cast<size_t>(c));
    }
    return true;
  }
  return false;
}

bool is_continuation(unsigned char c) { return (c & 0xC0) == 0x80; }

std::string_view without_trailing_spaces(std::string_view line) {
  while (!line.empty() && (line.back() == ' ' || line.back() == '\t')) {
    size_t slashes = 0;
    while (slashes + 1 < line.size() && line[line.size() - 2 - slashes] == '\\') ++slashes;
    if (slashes % 2 == 1) break;
    line.remove_suffix(1);
  }
  return line;
}

}  // namespace

Glob::Glob(std::string_view pattern) {
  size_t i = 0;
  while (i < pattern.size()) {
    const char c = pattern[i];
    if (c == '*') {
      size_t end = i;
      while (end < pattern.size() && pattern[end] == '*') ++end;
      const bool whole_part =
          end - i == 2 && (i == 0 || pattern[i - 1] == '/') && (end == pattern.size() || pattern[end] == '/');
      if (!whole_part) {
        elements_.push_back({Kind::star});
      } else if (end == pattern.size()) {
        elements_.push_back({Kind::rest});
      } else {
        elements_.push_back({Kind::folders});
        elements_.push_back({Kind::inside_folder});
        ++end;
      }
      i = end;
    } else if (c == '?') {
      elements_.push_back({Kind::any});
      ++i;
    } else if (c == '[') {
      i = parse_set(pattern, i);
    } else if (c == '\\' && i + 1 == pattern.size()) {
      elements_.push_back({Kind::never});
      ++i;
    } else {
      if (c == '\\') ++i;
      elements_.push_back({Kind::literal, pattern[i]});
      ++i;
    }
  }
}

// Returns the position after the closing bracket. A set that is never closed matches nothing.
size_t Glob::parse_set(std::string_view pattern, size_t open) {
  std::bitset<256> set;
  size_t i = open + 1;
  const bool negated = i < pattern.size() && (pattern[i] == '!' || pattern[i] == '^');
  if (negated) ++i;
  const size_t first = i;
  while (i < pattern.size() && (pattern[i] != ']' || i == first)) {
    if (pattern.substr(i, 2) == "[:") {
      const size_t end = pattern.find(":]", i + 2);
      if (end != std::string_view::npos && add_named_set(pattern.substr(i + 2, end - i - 2), set)) {
        i = end + 2;
        continue;
      }
    }
    const auto character = [&]() -> unsigned char {
      if (pattern[i] == '\\' && i + 1 < pattern.size()) ++i;
      return static_cast<unsigned char>(pattern[i++]);
    };
    const unsigned char low = character();
    unsigned char high = low;
    if (i + 1 < pattern.size() && pattern[i] == '-' && pattern[i + 1] != ']') {
      ++i;
      high = character();
    }
    for (unsigned c = low; c <= high; ++c) set.set(c);
  }
  if (i >= pattern.size()) {
    elements_.push_back({Kind::never});
    return pattern.size();
  }
  if (negated) set.flip();
  set.reset('/');
  elements_.push_back({Kind::set, 0, set});
  return i + 1;
}

bool Glob::matches(std::string_view path) const {
  const size_t end = elements_.size();
  std::vector<char> now(end + 1, 0);
  std::vector<char> next(end + 1, 0);
  const auto reach = [&](std::vector<char>& states, size_t state) {
    while (!states[state]) {
      states[state] = 1;
      if (state == end) return;
      const Kind kind = elements_[state].kind;
      if (kind == Kind::star || kind == Kind::rest)
        state += 1;
      else if (kind == Kind::folders)
        state += 2;
      else
        return;
    }
  };
  reach(now, 0);
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    std::fill(next.begin(), next.end(), 0);
    for (size_t state = 0; state <= end; ++state) {
      if (!now[state]) continue;
      if (state > 0 && elements_[state - 1].kind == Kind::any && is_continuation(byte)) reach(next, state);
      if (state == end) continue;
      const Element& element = elements_[state];
      switch (element.kind) {
        case Kind::literal:
          if (c == element.literal) reach(next, state + 1);
          break;
        case Kind::any:
          if (c != '/') reach(next, state + 1);
          break;
        case Kind::set:
          if (element.set[byte]) reach(next, state + 1);
          break;
        case Kind::star:
          if (c != '/') reach(next, state);
          break;
        case Kind::rest: reach(next, state); break;
        case Kind::folders:
          if (c != '/') reach(next, state + 1);
          break;
        case Kind::inside_folder: reach(next, c == '/' ? state - 1 : state); break;
        case Kind::never: break;
      }
    }
    std::swap(now, next);
  }
  return now[end];
}

void IgnoreRules::add(std::string_view text) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    add_line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void IgnoreRules::add_line(std::string_view line) {
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  line = without_trailing_spaces(line);
  if (line.empty() || line.front() == '#') return;
  const bool negated = line.front() == '!';
  if (negated) line.remove_prefix(1);
  const bool folders_only = !line.empty() && line.back() == '/';
  if (folders_only) line.remove_suffix(1);
  const bool anchored = line.find('/') != std::string_view::npos;
  if (!line.empty() && line.front() == '/') line.remove_prefix(1);
  if (line.empty()) return;
  rules_.push_back({Glob(anchored ? std::string(line) : "**/" + std::string(line)), negated, folders_only});
}

Verdict IgnoreRules::judge(std::string_view path, bool is_folder) const {
  for (auto rule = rules_.rbegin(); rule != rules_.rend(); ++rule) {
    if (rule->folders_only && !is_folder) continue;
    if (rule->glob.matches(path)) return rule->negated ? Verdict::wanted : Verdict::ignored;
  }
  return Verdict::undecided;
}

}  // namespace hone::store
