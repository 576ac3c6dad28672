// What every tokenizer reads from `tokenizer.ggml.*`.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "hone/tokenizer.h"
#include "model/gguf.h"

namespace hone {

// What stands before a piece that begins a word: ▁
inline constexpr std::string_view word_start = "\u2581";

// Values are those of tokenizer.ggml.token_type.
enum class TokenKind : uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct Vocabulary {
  std::string file;
  std::vector<std::string> texts;  // as the file writes them
  std::vector<TokenKind> kinds;
  std::vector<bool> ends;  // ends a generation
  Token bos = -1;
  bool adds_bos = false;

  // Throws Error{corrupt} naming the file and the field.
  static Vocabulary read(const Gguf& gguf, bool adds_bos_by_default);

  size_t size() const { return texts.size(); }
  // Control tokens are written by programs, never produced by plain text.
  bool is_text(size_t token) const {
    return kinds[token] == TokenKind::normal || kinds[token] == TokenKind::user_defined;
  }
};

// The questions that a vocabulary alone answers.
class VocabularyTokenizer : public Tokenizer {
 public:
  std::string piece(Token token) const override;
  size_t vocabulary_size() const override { return vocabulary_.size(); }
  bool ends_generation(Token token) const override;
  Token bos() const override { return vocabulary_.bos; }
  bool adds_bos() const override { return vocabulary_.adds_bos; }

 protected:
  explicit VocabularyTokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}

  const Vocabulary vocabulary_;
  std::vector<std::string> pieces_;  // what piece() returns; filled by the constructors
};

}  // namespace hone
