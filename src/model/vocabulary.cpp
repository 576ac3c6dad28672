#include "model/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "hone/base.h"

namespace hone {
namespace {

constexpr std::array<std::string_view, 10> end_texts = {
    "<|im_end|>",      "<|endoftext|>", "<end_of_turn>", "<|eot_id|>", "<|eom_id|>",
    "<|end_of_text|>", "<|end|>",       "<|eot|>",       "<EOT>",      "<eos>"};

[[noreturn]] void corrupt(const std::string& file, std::string_view field, std::string_view what) {
  throw Error(ErrorCode::corrupt, fmt::format("'{}': {}: {}; download or convert the model again", file, field, what));
}

Token token_id(const Gguf& gguf, std::string_view field, size_t vocabulary_size) {
  const int64_t id = gguf.integer_or(field, -1);
  // Some converters write 0xFFFFFFFF for "none".
  if (id == -1 || id == std::numeric_limits<uint32_t>::max()) return -1;
  if (id < 0 || static_cast<uint64_t>(id) >= vocabulary_size)
    corrupt(gguf.path().string(), field, fmt::format("token {} is outside the vocabulary of {}", id, vocabulary_size));
  return static_cast<Token>(id);
}

}  // namespace

Vocabulary Vocabulary::read(const Gguf& gguf, bool adds_bos_by_default) {
  Vocabulary vocabulary;
  vocabulary.file = gguf.path().string();
  vocabulary.texts = gguf.strings("tokenizer.ggml.tokens");
  const size_t size = vocabulary.texts.size();
  if (size == 0 || size > static_cast<size_t>(std::numeric_limits<Token>::max()))
    corrupt(vocabulary.file, "tokenizer.ggml.tokens", fmt::format("{} tokens", size));

  const std::vector<int64_t>& kinds = gguf.integers("tokenizer.ggml.token_type");
  if (kinds.size() != size)
    corrupt(vocabulary.file, "tokenizer.ggml.token_type", fmt::format("{} entries for {} tokens", kinds.size(), size));
  for (const int64_t kind : kinds) {
    if (kind < 1 || kind > 6)
      corrupt(vocabulary.file, "tokenizer.ggml.token_type", fmt::format("unknown token type {}", kind));
    vocabulary.kinds.push_back(static_cast<TokenKind>(kind));
  }

  vocabulary.ends.assign(size, false);
  for (const std::string_view field :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    const Token end = token_id(gguf, field, size);
    if (end >= 0) vocabulary.ends[static_cast<size_t>(end)] = true;
  }
  for (size_t i = 0; i < size; ++i) {
    const bool may_end = vocabulary.kinds[i] == TokenKind::control || vocabulary.kinds[i] == TokenKind::user_defined;
    if (may_end && std::ranges::find(end_texts, vocabulary.texts[i]) != end_texts.end()) vocabulary.ends[i] = true;
  }
  vocabulary.bos = token_id(gguf, "tokenizer.ggml.bos_token_id", size);
  vocabulary.adds_bos = vocabulary.bos >= 0 && gguf.boolean_or("tokenizer.ggml.add_bos_token", adds_bos_by_default);
  return vocabulary;
}

std::string VocabularyTokenizer::piece(Token token) const {
  if (token < 0 || static_cast<size_t>(token) >= pieces_.size())
    throw Error(ErrorCode::bad_input, fmt::format("token {} is outside the vocabulary of {} (0 to {})", token,
                                                  vocabulary_.file, pieces_.size() - 1));
  return pieces_[static_cast<size_t>(token)];
}

bool VocabularyTokenizer::ends_generation(Token token) const {
  return token >= 0 && static_cast<size_t>(token) < vocabulary_.ends.size() &&
         vocabulary_.ends[static_cast<size_t>(token)];
}

}  // namespace hone
