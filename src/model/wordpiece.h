// WordPiece (tokenizer.ggml.model "bert", or vocab.txt): each word is the longest piece that it starts with, then again
// for what is left; a word that is not made of pieces is the unknown token.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>
#include <unordered_map>

#include "model/basic_tokenizer.h"
#include "model/literal_trie.h"
#include "model/vocabulary.h"

namespace hone {

class WordPieceTokenizer final : public VocabularyTokenizer {
 public:
  // Throws Error{corrupt} naming file and field.
  explicit WordPieceTokenizer(const Gguf& file);
  // Of vocab.txt, with tokenizer_config.json if that is there, else of tokenizer.json. Throws Error{not_found} if
  // neither is there, Error{corrupt, unsupported} naming file and field.
  static std::unique_ptr<const WordPieceTokenizer> open_folder(const std::filesystem::path& folder);

  // Of a text that is not UTF-8 everywhere, the bytes that are not are left out.
  std::vector<Token> encode(std::string_view text, bool special = false) const override;
  // The tokens that stand before and after every text. bos() is the first, too.
  Token cls() const { return vocabulary_.bos; }
  Token sep() const { return sep_; }

 private:
  // A vocabulary whose words' first pieces start with U+2581, as GGUF files write them.
  struct Definition {
    Vocabulary vocabulary;
    Token unknown = -1, sep = -1;
    BasicTokenizer::Options words;
    size_t longest_word = 100;  // characters; a longer word is unknown

    // [UNK], [CLS] and [SEP]; throws Error{corrupt} if one is missing.
    void find_special_tokens();
  };
  explicit WordPieceTokenizer(Definition definition);
  static Definition read(const Gguf& file);
  static Definition read_vocabulary_text(const std::filesystem::path& folder);
  static Definition read_tokenizer_json(const std::filesystem::path& file);
  void encode_word(std::string_view word, std::vector<Token>& out) const;

  Token unknown_, sep_;
  BasicTokenizer basic_;
  size_t longest_word_;
  size_t longest_piece_ = 0;                               // bytes
  std::unordered_map<std::string_view, Token> starts_;     // of words; into pieces_
  std::unordered_map<std::string_view, Token> continues_;  // into pieces_
  LiteralTrie control_;
};

}  // namespace hone
