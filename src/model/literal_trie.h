// Finds tokens that are written out in a text: control tokens, and tokens that users defined.
#pragma once

#include <bitset>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "hone/tokenizer.h"

namespace hone {

// Const methods may be called from many threads at once.
class LiteralTrie {
 public:
  struct Match {
    Token token = -1;
    size_t length = 0;  // 0: no literal starts here
  };

  void add(std::string_view literal, Token token);
  // The longest literal that starts at `at`.
  Match longest(std::string_view text, size_t at) const;

  // Calls on_text(std::string_view) and on_token(Token) from left to right: the leftmost literal first, the longest of
  // those that start there; the text between literals is never empty.
  template <class OnText, class OnToken>
  void partition(std::string_view text, const OnText& on_text, const OnToken& on_token) const {
    size_t plain = 0;
    for (size_t at = 0; at < text.size();) {
      const Match match = longest(text, at);
      if (match.length == 0) {
        ++at;
        continue;
      }
      if (at > plain) on_text(text.substr(plain, at - plain));
      on_token(match.token);
      plain = at += match.length;
    }
    if (plain < text.size()) on_text(text.substr(plain));
  }

 private:
  static uint64_t edge(uint32_t node, char byte) { return uint64_t{node} << 8 | static_cast<unsigned char>(byte); }

  std::bitset<256> first_bytes_;
  std::unordered_map<uint64_t, uint32_t> edges_;
  std::vector<Token> tokens_{-1};  // of each node; -1 where no literal ends
};

}  // namespace hone
