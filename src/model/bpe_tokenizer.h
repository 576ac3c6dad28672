// Byte-level BPE (tokenizer.ggml.model "gpt2"): a text is cut into words, and the bytes of a word are merged by rank.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>

#include "model/literal_trie.h"
#include "model/pair_merger.h"
#include "model/pre_tokenizer.h"
#include "model/vocabulary.h"

namespace hone {

class BpeTokenizer final : public VocabularyTokenizer {
 public:
  explicit BpeTokenizer(const Gguf& file);
  std::vector<Token> encode(std::string_view text, bool special) const override;

 private:
  struct PairHash {
    size_t operator()(uint64_t pair) const { return (pair ^ pair >> 29) * 0x9E3779B97F4A7C15U; }
  };

  void read_merges(const Gguf& file);
  void encode_word(std::string_view word, PairMerger& merger, std::vector<Token>& out) const;

  PreTokenizer pre_tokenizer_;
  bool ignore_merges_ = false;  // a word that is a token is that token, whatever the merges say
  std::unordered_map<std::string_view, Token> by_bytes_;  // into pieces_
  std::array<Token, 256> byte_tokens_{};                  // -1 where the vocabulary lacks the byte
  std::unordered_map<uint64_t, PairMerge, PairHash> merges_;
  LiteralTrie user_defined_;
  LiteralTrie user_defined_and_control_;
};

}  // namespace hone
