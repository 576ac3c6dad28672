#include "hone/tokenizer.h"

#include <fmt/format.h>

#include "model/bpe_tokenizer.h"
#include "model/gguf_tokenizer.h"
#include "model/spm_tokenizer.h"
#include "model/wordpiece.h"

namespace hone {

std::unique_ptr<const Tokenizer> read_tokenizer(const Gguf& file) {
  const std::string& model = file.string("tokenizer.ggml.model");
  if (model == "gpt2") return std::make_unique<BpeTokenizer>(file);
  if (model == "llama") return std::make_unique<SpmTokenizer>(file);
  if (model == "bert") return std::make_unique<WordPieceTokenizer>(file);
  throw Error(ErrorCode::unsupported,
              fmt::format("'{}': tokenizer.ggml.model is '{}'; hone knows gpt2 (byte-level BPE), llama "
                          "(SentencePiece) and bert (WordPiece)",
                          file.path().string(), model));
}

std::unique_ptr<const Tokenizer> Tokenizer::open(const std::filesystem::path& gguf) {
  return read_tokenizer(Gguf::open(gguf));
}

std::string Tokenizer::decode(std::span<const Token> tokens) const {
  std::string text;
  for (const Token token : tokens) text += piece(token);
  return text;
}

}  // namespace hone
