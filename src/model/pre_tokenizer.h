// Cuts a text into the words inside which byte-level BPE merges, by the published regular expression of each model.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

struct pcre2_real_code_8;

namespace hone {

// Immutable; split() may be called from many threads at once.
class PreTokenizer {
 public:
  // "smollm", "gpt-2", "llama-bpe" or "qwen2"; is_known() says whether it is one of them.
  static bool is_known(std::string_view name);
  explicit PreTokenizer(std::string_view name);

  // Calls visit with every word; together they are the text. A byte that is not part of well-formed UTF-8 is a word.
  void split(std::string_view text, const std::function<void(std::string_view)>& visit) const;

 private:
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::unique_ptr<pcre2_real_code_8, Free> code_;
};

}  // namespace hone
