// SentencePiece's BPE (tokenizer.ggml.model "llama"): adjacent pieces whose concatenation is a piece merge, best score
// first; characters that are no piece fall back to byte tokens. Spaces are U+2581 in the vocabulary.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "model/literal_trie.h"
#include "model/pair_merger.h"
#include "model/vocabulary.h"

namespace hone {

class SpmTokenizer final : public VocabularyTokenizer {
 public:
  explicit SpmTokenizer(const Gguf& file);
  std::vector<Token> encode(std::string_view text, bool special) const override;

 private:
  void read_bytes();
  void read_mergeable(const Gguf& file);
  void encode_text(std::string_view text, PairMerger& merger, std::vector<Token>& out) const;
  void encode_escaped(std::string_view text, PairMerger& merger, std::vector<Token>& out) const;
  void encode_segment(std::string_view segment, PairMerger& merger, std::vector<Token>& out) const;

  bool add_space_prefix_ = true;
  std::vector<std::string> escaped_;                           // token texts with U+2581 for spaces
  std::unordered_map<std::string_view, PairMerge> mergeable_;  // into escaped_; rank 0 is the best score
  size_t longest_mergeable_ = 0;                               // bytes
  // Neighbouring characters inside a mergeable piece. No merge can cross two characters that are not here, so a text is
  // cut there without changing its tokens.
  std::unordered_set<uint64_t> neighbours_;
  std::array<Token, 256> byte_tokens_{};
  LiteralTrie user_defined_;  // escaped
  LiteralTrie control_;
};

}  // namespace hone
