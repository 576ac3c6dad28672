// encoder: texts to vectors, by a BERT-family encoder or by a language model's own hidden states.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hone/base.h"
#include "hone/model.h"

namespace hone {

// How the hidden states h_1 … h_n of a text's tokens become one vector.
enum class Pooling {
  mean,        // Σ_t h_t / n
  cls,         // h_1
  last,        // h_n
  directions,  // the mean of h_t / ‖h_t‖ over all tokens but the first, a sink in language models; of h_1 if n = 1
};
std::string_view name(Pooling pooling);  // "mean", "cls", "last", "directions"
// Throws Error{bad_input} listing the names.
Pooling pooling_named(std::string_view name);

// What is left out is as the model's files say; see TextEncoder::open.
struct EncoderOptions {
  Precision precision = Precision::fp32;
  std::optional<int> layer = {};  // hidden states after this many layers; 0: the embeddings
  std::optional<Pooling> pooling = {};
  std::optional<bool> normalize = {};  // vectors at length 1
  size_t max_tokens = 0;               // of a text, special tokens included; 0: as many as the model has positions for
};

struct EmbedOptions {
  size_t batch = 32;  // texts that are computed together; no result depends on it
};

// Immutable; encode() may be called from many threads at once. The others use the one thread pool: one thread calls
// them at a time.
class TextEncoder {
 public:
  // A folder with config.json, model.safetensors and vocab.txt or tokenizer.json, as sentence-transformers writes it
  // (model_type "bert"), a GGUF file of architecture "bert", or a language model's GGUF file (see Model::open).
  // Defaults of an encoder: all layers; the pooling of 1_Pooling/config.json or `bert.pooling_type` (mean if neither is
  // there); length 1 if modules.json lists Normalize, and for GGUF files, which do not say. Defaults of a language
  // model: the residual stream after four fifths of its layers, directions, not normalised.
  // Throws Error{not_found, corrupt, unsupported} naming file and field, Error{bad_input} for an option that does not
  // fit the model.
  static std::shared_ptr<const TextEncoder> open(const std::filesystem::path& path, const EncoderOptions& options = {});
  // The hidden states of a model that is open already; options.precision is ignored for the model's own.
  static std::shared_ptr<const TextEncoder> of(std::shared_ptr<const Model> model, const EncoderOptions& options = {});
  virtual ~TextEncoder() = default;

  // The model's name, layer, pooling, and whether vectors have length 1: "all-MiniLM-L6-v2 L6 mean unit".
  const std::string& name() const { return name_; }
  // Hash of the model's files: 32 hex digits.
  const std::string& hash() const { return hash_; }
  // Equal for encoders that give equal vectors, up to the precision: the hash and the options, wherever the files are.
  std::string identity() const;
  // With every default replaced by what was chosen.
  const EncoderOptions& options() const { return options_; }
  // Of a vector.
  size_t dimension() const { return dimension_; }

  // The tokens that the model reads of a text, at most options().max_tokens: [CLS] … [SEP] of the text's first tokens
  // for an encoder; the text's last tokens after BOS for a language model that starts with BOS.
  virtual std::vector<Token> encode(std::string_view text) const = 0;
  // The same of a text that is tokenised already, special tokens not included.
  virtual std::vector<Token> frame(std::span<const Token> tokens) const = 0;

  // The vectors [texts, dimension]. An empty text has the vector of its special tokens, or 0 where there are none.
  // A row does not depend, to the last bit, on the other texts nor on the batch. Throws Error{bad_input} if the vector
  // of a text is not finite, Error{cancelled}.
  Matrix embed(std::span<const std::string> texts, const EmbedOptions& options = {}, const Watch& watch = {}) const;
  // The same of texts as encode() or frame() give them. Throws Error{bad_input} for a token outside the vocabulary or a
  // text of more than options().max_tokens tokens.
  Matrix embed(std::span<const std::vector<Token>> texts, const EmbedOptions& options = {},
               const Watch& watch = {}) const;

  // The hidden states after options().layer layers [Σ_b n_b, width], those of text b after those of text b − 1: what
  // pooling sees. Tokens as encode() or frame() give them. Throws as embed() does.
  virtual Matrix hidden_states(std::span<const std::vector<Token>> texts, const CancelToken& cancel = {}) const = 0;

 protected:
  TextEncoder(std::string name, std::string hash, EncoderOptions options, size_t dimension)
      : name_(std::move(name)), hash_(std::move(hash)), options_(options), dimension_(dimension) {}

 private:
  std::string name_, hash_;
  EncoderOptions options_;
  size_t dimension_;
};

}  // namespace hone
