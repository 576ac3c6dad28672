// A BERT encoder: token, position and segment embeddings, then layers of bidirectional attention and feed-forward with
// a layer norm after each (Devlin et al. 2019).
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hone/encoder.h"
#include "model/elementwise.h"
#include "model/linear.h"
#include "model/wordpiece.h"

namespace hone {

struct BertConfig {
  std::string name;
  int layers = 0;
  int width = 0;
  int heads = 0;
  int ffn_width = 0;
  int positions = 0;
  float norm_eps = 0;
  Gelu activation = Gelu::erf;
  Pooling pooling = Pooling::mean;
  bool normalize = false;
};

// A linear layer that owns its weights, in one of the two precisions.
class OwnedLinear {
 public:
  OwnedLinear() = default;
  OwnedLinear(Matrix weight, std::vector<float> bias, Precision precision);
  FrozenLinear view() const;

 private:
  size_t out_ = 0, in_ = 0;
  Matrix f32_;
  std::vector<int8_t> int8_, columns_;
  std::vector<float> scales_, bias_;
  std::vector<int32_t> row_sums_;
};

struct BertNorm {
  std::vector<float> weight, bias;
};

struct BertLayer {
  OwnedLinear q, k, v, o, up, down;
  BertNorm attention_norm, ffn_norm;  // after the sum with what went in
};

// Immutable.
struct Bert {
  BertConfig config;
  std::string hash;  // of the files
  std::unique_ptr<const WordPieceTokenizer> tokenizer;
  Matrix tokens;     // [vocabulary, width]
  Matrix positions;  // [positions, width], the first segment's embedding added
  BertNorm embedding_norm;
  std::vector<BertLayer> layers;

  // From a folder or a GGUF file. Throws Error{not_found, corrupt, unsupported} naming file and field.
  static Bert open_folder(const std::filesystem::path& folder, Precision precision);
  static Bert open_gguf(const Gguf& file, Precision precision);

  // The hidden states after `count` layers [Σ_b n_b, width]; texts of 1 to config.positions tokens, packed.
  Matrix forward(std::span<const std::vector<Token>> texts, int count, const CancelToken& cancel) const;
};

}  // namespace hone
