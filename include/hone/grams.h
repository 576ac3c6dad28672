// grams: inner products between the gradients of a batch's sequences, for every block of weights, from one backward
// pass. With leave-one-out prompts and a query as the sequences they are [DTV]'s kernel (arXiv 2606.15569).
// Functions only read what they are given: any number of threads may call them. A GramSink uses the one thread pool:
// one thread calls it at a time.
#pragma once

#include <compare>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "hone/model.h"

namespace hone {

// Weights that adapt as one: a matrix, or one head of v (a key/value head: rows of the matrix) or of o (the columns
// that read one head). Written L27.q, L27.v.h2.
struct BlockId {
  MatrixId matrix;
  int head = -1;  // −1: the whole matrix
  auto operator<=>(const BlockId&) const = default;
};
std::string name(BlockId id);
// The block of such a name. Throws Error{bad_input} if it is none.
BlockId block_named(std::string_view text);

// The rows [first_out, first_out + out) and columns [first_in, first_in + in) of its matrix that a block is.
struct BlockExtent {
  size_t first_out = 0;
  size_t out = 0;
  size_t first_in = 0;
  size_t in = 0;
};
// Throws Error{bad_input} if the model has no such block.
BlockExtent extent(const Model& model, BlockId id);

// The blocks of the given matrices (empty: all seven) in layers [first_layer, L): v and o by heads, others whole.
// Throws Error{bad_input} if first_layer is not a layer.
std::vector<BlockId> blocks_of(const Model& model, int first_layer, std::span<const MatrixKind> kinds = {});

// A symmetric matrix over the sequences of a batch.
struct Gram {
  size_t size = 0;             // B
  std::vector<double> values;  // [B, B]

  double operator()(size_t i, size_t j) const { return values[i * size + j]; }
};

// [DTV]'s kernel: a Gram with the query's row taken out.
struct QueryKernel {
  size_t examples = 0;             // n: all sequences but the query, in their order
  std::vector<double> kernel;      // K [n, n]
  std::vector<double> with_query;  // k_x [n]
  double query = 0;                // κ_x = ‖φ(x)‖²
};
// Throws Error{bad_input} if the Gram has no such row.
QueryKernel query_kernel(const Gram& gram, size_t query);

// Collects K^(b)[i][j] = ⟨G_i, G_j⟩ over all pairs of sequences for every block b, where G_i = Σ_t δ_t a_tᵀ is the
// block's weight gradient of sequence i's loss alone: a_t are inputs, δ_t output gradients of the linear layer.
// Each matrix takes the cheaper of two ways: materialise all G_i and multiply them, or in the dual
// ⟨G_i, G_j⟩ = Σ_tt' (a_it·a_jt')(δ_it·δ_jt') ([DTV] §8), where a·a' is needed once for rows that sequences share.
// Products are fp32, sums over their blocks double. A later pass over as many
// sequences adds to the Grams: one tape walked once for each of several outputs gives the sum over the outputs.
class GramSink : public GradientSink {
 public:
  enum class Way { cheaper, materialised, dual };

  // Throws Error{bad_input} for a block that the model does not have or that is named twice.
  GramSink(const Model& model, std::span<const BlockId> blocks, Way way = Way::cheaper);
  // Throws Error{bad_input} if the batch has another number of sequences than the pass before.
  void accept(const LinearGradient& gradient) override;

  // Of the blocks whose layers a backward pass has reached.
  const std::map<BlockId, Gram>& grams() const { return grams_; }
  // The sum over all blocks, in their order. Throws Error{bad_input} before a pass.
  Gram total() const;

 private:
  struct Block {
    BlockId id;
    BlockExtent extent;
  };
  void materialised(const LinearGradient& gradient, std::span<const Block> blocks);
  void dual(const LinearGradient& gradient, std::span<const Block> blocks);
  bool prefers_dual(const LinearGradient& gradient, std::span<const Block> blocks) const;

  std::map<MatrixId, std::vector<Block>> blocks_;
  std::map<BlockId, Gram> grams_;
  Way way_;
  // a·a' of the inputs seen last: several matrices of a layer read the same inputs.
  Matrix input_products_;  // [P, P], or empty
  MatrixId inputs_of_;
};

}  // namespace hone
