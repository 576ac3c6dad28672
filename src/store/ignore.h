// Ignore rules: what .gitignore and .ignore files say, in the language of gitignore(5).
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hone::store {

// A glob over a path with '/' between its parts: * ? [a-z] within a part, **/ over any number of parts, \ escapes.
// Takes time proportional to pattern length times path length, whatever the pattern.
class Glob {
 public:
  explicit Glob(std::string_view pattern);
  bool matches(std::string_view path) const;

 private:
  enum class Kind : uint8_t { literal, any, set, star, folders, inside_folder, rest, never };
  struct Element {
    Kind kind;
    char literal = 0;
    std::bitset<256> set = {};
  };
  size_t parse_set(std::string_view pattern, size_t open);

  std::vector<Element> elements_;
};

enum class Verdict { undecided, ignored, wanted };

// The rules of one folder, in order; the last one that matches decides.
class IgnoreRules {
 public:
  // Adds the lines of a file; they outrank what was added before.
  void add(std::string_view text);
  // `path` is relative to the folder that holds the rules.
  Verdict judge(std::string_view path, bool is_folder) const;

 private:
  struct Rule {
    Glob glob;
    bool negated;
    bool folders_only;
  };
  void add_line(std::string_view line);

  std::vector<Rule> rules_;
};

}  // namespace hone::store
