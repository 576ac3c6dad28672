// BERT's basic tokenizer: cleans a text and cuts it into the words that WordPiece takes apart.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace hone {

// Immutable; split() may be called from many threads at once.
class BasicTokenizer {
 public:
  struct Options {
    bool lower_case = true;
    bool strip_accents = true;     // canonical decomposition, then nonspacing marks are left out
    bool split_ideographs = true;  // every CJK ideograph is a word
  };
  explicit BasicTokenizer(const Options& options) : options_(options) {}

  // Calls visit with every word: what lies between white space, a punctuation character being a word of its own.
  // Control characters, U+FFFD and bytes that are not UTF-8 are left out. A word is valid during its call only.
  void split(std::string_view text, const std::function<void(std::string_view)>& visit) const;

 private:
  void split_ascii(std::string_view text, const std::function<void(std::string_view)>& visit) const;
  std::string clean(std::string_view text) const;

  Options options_;
};

}  // namespace hone
