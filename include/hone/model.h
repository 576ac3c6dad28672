// model: a transformer whose weights never change, its forward and backward pass, and what a request may add to it.
#pragma once

#include <array>
#include <compare>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hone/base.h"
#include "hone/tokenizer.h"

namespace hone {

// The linear layers of a transformer block, in the order in which a token meets them.
enum class MatrixKind : int { q, k, v, o, gate, up, down };
constexpr int matrix_kinds = 7;
std::string_view name(MatrixKind kind);  // "q", ..., "down"

// One adapted matrix, written L27.v.
struct MatrixId {
  int layer = 0;
  MatrixKind kind = MatrixKind::q;
  auto operator<=>(const MatrixId&) const = default;
};
std::string name(MatrixId id);

// How the frozen products are computed. LoRA and dense additions are fp32 always, gradients unless int8 is asked for.
enum class Precision {
  fp32,  // the reference
  int8,  // weights int8 with a scale per output row; activations uint8 with a scale per token, but for a token's four
         // largest values, which stay fp32
};

struct ModelConfig {
  std::string architecture;  // "llama", "qwen2" or "gemma3"
  std::string name;
  int layers = 0;    // L
  int width = 0;     // D
  int heads = 0;     // H
  int kv_heads = 0;  // K, divides H
  int head_dim = 0;
  int ffn_width = 0;
  int vocabulary = 0;  // V
  int context = 0;     // tokens the model was trained for
};

class Model;

// What one request has learned: additions to linear layers, y = W x + step · (ΔW x + B A x), never merged into W.
// Belongs to the request and dies with it. Moves; copying is spelled copy().
class Adapter {
 public:
  struct LowRank {
    Matrix a;  // [rank, in]
    Matrix b;  // [out, rank]
  };
  // ΔW = diag(scales) values, values [out, in].
  struct Quantized {
    size_t out = 0;
    size_t in = 0;
    std::vector<int8_t> values;     // [out, in]
    std::vector<int8_t> columns;    // [in, out], the same values
    std::vector<float> scales;      // [out]
    std::vector<int32_t> row_sums;  // [out]: Σ of a row of values
  };
  std::map<MatrixId, Matrix> dense;         // ΔW [out, in]
  std::map<MatrixId, Quantized> quantized;  // ΔW that int8 products can read
  std::map<MatrixId, LowRank> low_rank;     // LoRA (Hu et al. 2021), no extra scale

  // LoRA on all seven matrices of layers [first_layer, L): A ~ N(0, 1/in) of (seed, "lora"), B = 0. Error{bad_input}.
  static Adapter lora(const Model& model, int first_layer, int rank, uint64_t seed = 0);
  Adapter copy() const;
  // Turns every dense ΔW into its quantized form, half of the memory. Its quantum is relative to ΔW itself.
  void quantize();
  // The lowest layer that has an addition; `none` if there is no addition at all.
  int first_layer(int none) const;
};

// Keys and values of the tokens that one sequence has read, for layers [first_layer, last_layer). Moves.
class KvCache {
 public:
  KvCache(const Model& model, int first_layer, int last_layer);  // throws Error{bad_input} for other layers
  KvCache(KvCache&&) = default;
  KvCache& operator=(KvCache&&) = default;
  // Shares its pages with the copy until either writes to one: a cache and its copies belong to one thread at a time.
  KvCache copy() const;
  size_t length() const;         // tokens read so far
  void truncate(size_t length);  // forget all tokens from `length` on

 private:
  friend class Model;
  struct Layer {
    std::vector<std::shared_ptr<Matrix>> pages;  // keys, rotated, then values: src/model/attention.h
    size_t length = 0;                           // tokens
  };
  KvCache() = default;
  // keys, values: [n, K · head_dim] of the tokens that follow.
  void append(Layer& layer, ConstMatrixView keys, ConstMatrixView values) const;
  std::vector<Layer> layers_;
  int first_layer_ = 0;
  size_t kv_heads_ = 0, head_dim_ = 0;
};

// One text of a batch. With a cache, its tokens follow the cache's and are added to it.
struct Sequence {
  std::span<const Token> tokens;
  const Adapter* adapter = nullptr;  // nullptr: the base
  float step = 1;                    // scales the adapter
  KvCache* cache = nullptr;          // of exactly the layers of a pass, each in one sequence only
  // A shared prefix: the first `shared` tokens are also those of sequence `prefix` of the same batch, an earlier one
  // with the same adapter and step, and their activations are computed there, once. That sequence may share its own
  // first tokens with another. Not together with a cache. A sequence that shares all of its tokens costs no forward
  // pass: a second output of the same text.
  size_t prefix = 0;
  size_t shared = 0;
};

// Lets every sequence without a cache share its longest prefix with an earlier one of the same adapter and step.
// Results do not change, to the last bit of the forward pass.
void share_prefixes(std::span<Sequence> batch);

// Where a packed batch has its rows. An activation row belongs to a token of the sequence that computes it. A gradient
// row belongs to a token of a sequence, shared or not: each sequence's loss has a gradient of its own.
struct BatchRows {
  BatchRows() = default;
  // Throws Error{bad_input} for a shared prefix that is not one, naming the sequence.
  explicit BatchRows(std::span<const Sequence> batch);

  std::vector<size_t> start;           // [B + 1] sequence b computes activation rows [start[b], start[b+1]), P in all
  std::vector<size_t> gradient_start;  // [B + 1] its gradient rows are [gradient_start[b], gradient_start[b+1]), Q
  std::vector<size_t> activation;      // [Q] the activation row of each gradient row

  bool sharing() const { return start.back() != gradient_start.back(); }
  // Of the last token of sequence b, which has at least one.
  size_t last_gradient_row(size_t b) const { return gradient_start[b + 1] - 1; }
  size_t last_activation_row(size_t b) const { return activation[last_gradient_row(b)]; }
};

// Activations that a backward pass needs: of layers [first_layer, L) for one batch. Filled by Model::forward.
// The adapters of the batch must stay unchanged until the backward pass is done.
class Tape {
 public:
  size_t bytes() const;  // that the activations take

 private:
  friend class Model;
  struct Layer {
    Matrix input;             // [P, D] residual stream before attention
    Matrix q, k, v;           // [P, H·head_dim], [P, K·head_dim] ×2, before q/k norm and rotation
    Matrix attention;         // [P, H·head_dim] before the output matrix
    Matrix log_normalizer;    // [P, H] log Σ exp of attention scores
    Matrix attention_output;  // [P, D] after the output matrix; only with a norm after it (gemma3)
    Matrix middle;            // [P, D] residual stream before the feed-forward block
    Matrix gate, up;          // [P, ffn_width]
    Matrix ffn_output;        // [P, D] after the down matrix; only with a norm after it (gemma3)
  };
  std::vector<Layer> layers_;
  std::vector<Sequence> sequences_;
  BatchRows rows_;
  int first_layer_ = 0;
};

// What a backward pass offers for one linear layer: gradients of the loss w.r.t. its outputs, beside its inputs. The
// weight gradient is Σ_q output_gradients[q]ᵀ inputs[input_row(q)]. With shared prefixes one input serves several
// gradient rows. In the top layer rows without a gradient may be left out; Q, input_rows and sequence_start then are
// those of the rows that are there. v, k and q of a layer have the same inputs, and so have up and gate, in this order.
struct LinearGradient {
  MatrixId id;
  ConstMatrixView inputs;                  // [P, in]
  ConstMatrixView output_gradients;        // [Q, out]
  std::span<const size_t> input_rows;      // [Q] activation row of each gradient row; empty: row q belongs to input q
  std::span<const size_t> sequence_start;  // [B + 1] gradient rows of sequence b are [start[b], start[b+1])
};

// Reads one backward pass. Several sinks can read the same pass.
class GradientSink {
 public:
  virtual ~GradientSink() = default;
  // Called once for each linear layer, from the top layer down. The views are valid during the call only.
  virtual void accept(const LinearGradient& gradient) = 0;
};

// Sums ∂loss/∂A and ∂loss/∂B of a LoRA adapter over all sequences of the batch (step = 1).
class LoraSink : public GradientSink {
 public:
  explicit LoraSink(const Adapter& adapter);  // must outlive the sink
  void accept(const LinearGradient& gradient) override;
  const std::map<MatrixId, Adapter::LowRank>& gradients() const { return gradients_; }

 private:
  const Adapter& adapter_;
  std::map<MatrixId, Adapter::LowRank> gradients_;
};

// Sums weight gradients ∂loss/∂W [out, in] over all sequences of the batch.
class WeightGradientSink : public GradientSink {
 public:
  void accept(const LinearGradient& gradient) override;
  const std::map<MatrixId, Matrix>& gradients() const { return gradients_; }
  std::map<MatrixId, Matrix> take() { return std::move(gradients_); }

 private:
  std::map<MatrixId, Matrix> gradients_;
};

// Rows with their derivatives along R directions of the weights.
struct Tangents {
  Matrix value;        // [P, D]
  Matrix derivatives;  // [R · P, D]: row r·P + p is row p along direction r. Empty: all 0
};

// Keys and values of one text that several continue, for layers [first, last), with their derivatives. Moves.
class TangentPrefix {
 public:
  size_t length() const { return length_; }  // tokens

 private:
  friend class Model;
  struct Layer {
    Matrix keys, values;      // [length, K · head_dim], keys rotated
    Matrix d_keys, d_values;  // [R · length, K · head_dim]
  };
  std::vector<Layer> layers_;
  int first_layer_ = 0;
  size_t length_ = 0;
  size_t directions_ = 0;
};

struct ModelOptions {
  Precision precision = Precision::fp32;
};

// A language model read from a GGUF file. Immutable and shared by all requests: the weights are read-only memory.
// Methods are const and keep no state; kernels use the one thread pool, so one thread calls them at a time.
class Model {
 public:
  // Architectures llama, qwen2, gemma3. Throws Error{not_found, bad_input, io, corrupt, unsupported}: file and field.
  static std::shared_ptr<const Model> open(const std::filesystem::path& gguf, const ModelOptions& options = {});
  ~Model();

  const ModelConfig& config() const;
  const Tokenizer& tokenizer() const;
  const std::string& name() const { return config().name; }
  Precision precision() const;
  // 32 hex digits of the file's bytes: the same file gives the same hash, whatever the precision.
  const std::string& base_hash() const;
  // Hash of the weights in memory, the embedding table included, computed now. Equal before and after anything.
  std::string hash_weights() const;
  // The read-only memory that holds the weights; writing to it faults.
  std::span<const std::byte> weights() const;
  // [out, in] of an adapted matrix. Throws Error{bad_input} for a layer that is not there.
  std::pair<size_t, size_t> shape(MatrixId id) const;

  // BOS if the file says that texts start with it, then the tokens of `text`.
  std::vector<Token> encode(std::string_view text, bool special = false) const;

  // Packed ragged batch: the rows of all sequences one after the other, P rows in all, tokens of a shared prefix left
  // out. A row's result does not depend, to the last bit, on what else is in the batch, nor on how a sequence is cut
  // into calls by a cache, nor on what it shares.
  // Token embeddings [P, D]. Throws Error{bad_input} for a wrong id or prefix, Error{corrupt} for a row not finite.
  Matrix embed(std::span<const Sequence> batch) const;
  // The residual stream `x` [P, D] through layers [first, last). With a tape (no caches then) activations are kept for
  // backward. Adapters with additions below `first` are not seen. Throws Error{bad_input} if a sequence exceeds
  // config().context or its shared prefix is wrong (see BatchRows), Error{cancelled}.
  Matrix forward(std::span<const Sequence> batch, int first, int last, Matrix x, Tape* tape = nullptr,
                 const CancelToken& cancel = {}) const;
  // All layers: forward(batch, 0, L, embed(batch)).
  Matrix forward(std::span<const Sequence> batch) const;

  // Forward mode: forward(batch, first, last, x), every sequence behind the text of `prefix` (nullptr: none), and its
  // derivatives along the directions ΔW_r = directions[r].dense at the base weights. Values are those of forward() to
  // the last bit; derivatives are fp32 always. `keep` is given what a batch of one sequence leaves for texts that
  // continue it: nothing of the prefix itself, so without one. No caches and no adapters in the batch. Throws
  // Error{bad_input} for a batch, prefix or directions that do not fit, a text beyond config().context;
  // Error{cancelled}.
  Tangents forward_tangents(std::span<const Sequence> batch, int first, int last, Tangents x,
                            std::span<const Adapter> directions, const TangentPrefix* prefix, TangentPrefix* keep,
                            const CancelToken& cancel = {}) const;

  // Logits [R, V] of rows of the last layer's output [R, D]. Like all below: Error{bad_input} for other shapes.
  Matrix logits(ConstMatrixView hidden) const;
  // Logits [R, tokens] of some tokens only: what the above holds in their columns, at the cost of these columns. Throws
  // Error{bad_input} for no tokens or one outside the vocabulary.
  Matrix logits(ConstMatrixView hidden, std::span<const Token> tokens) const;
  // −log p(targets[r]) for each row, natural logarithm; logits are never held for more than a few rows.
  std::vector<float> losses(ConstMatrixView hidden, std::span<const Token> targets) const;
  // The same, and ∂/∂hidden of Σ_r weights[r] · loss_r, written to d_hidden [R, D]. `products` as in backward().
  std::vector<float> losses_with_gradient(ConstMatrixView hidden, std::span<const Token> targets,
                                          std::span<const float> weights, MatrixView d_hidden,
                                          Precision products = Precision::fp32) const;
  // ∂/∂hidden [R, D] of any readout, given its gradient w.r.t. the logits [R, V].
  Matrix head_backward(ConstMatrixView hidden, ConstMatrixView d_logits, Precision products = Precision::fp32) const;
  // The same for a readout that depends on the logits of `tokens` only, d_logits [R, tokens].
  Matrix head_backward(ConstMatrixView hidden, ConstMatrixView d_logits, std::span<const Token> tokens) const;

  // Walks the tape from the top, with d_hidden [Q, D] = ∂loss/∂(last layer's output), and offers every linear layer to
  // every sink. Row q belongs to gradient row q of BatchRows; without shared prefixes Q = P and the rows are those of
  // the forward pass. Nothing is computed below the tape's first layer. A tape can be walked several times: for several
  // outputs of one forward pass, one d_hidden each. Throws Error{cancelled}.
  // Frozen weights multiply gradients in fp32, whatever the model's precision; with `products` int8, in a model that
  // was opened so, in int8: an error of about one per cent a product, which is not linear in d_hidden. Sinks get fp32.
  void backward(const Tape& tape, Matrix d_hidden, std::span<GradientSink* const> sinks, const CancelToken& cancel = {},
                Precision products = Precision::fp32) const;

 private:
  struct Impl;
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
  friend class KvCache;
};

}  // namespace hone
