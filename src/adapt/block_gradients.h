// Weight gradients of single sequences, kept block by block.
#pragma once

#include "hone/grams.h"

namespace hone {

// Writes ∂(sequence b's loss)/∂(block) of the pass it reads to row b of each block's matrix [B, out·in].
class BlockGradientSink : public GradientSink {
 public:
  // Throws Error{bad_input} for a block that the model does not have or that is named twice.
  BlockGradientSink(const Model& model, std::span<const BlockId> blocks);
  void accept(const LinearGradient& gradient) override;
  // In the order of the blocks.
  const std::vector<Matrix>& gradients() const { return gradients_; }
  int first_layer() const;

 private:
  std::vector<BlockId> blocks_;
  std::vector<BlockExtent> extents_;
  std::vector<Matrix> gradients_;
};

// Bytes of `rows` gradients of all blocks.
uint64_t gradient_bytes(const Model& model, std::span<const BlockId> blocks, size_t rows);

// ΔW = Σ_i weights[i] · gradients[b][i] on the blocks `chosen` of `blocks`; gradients[b] is [weights, out·in].
Adapter weighted_gradients(const Model& model, std::span<const BlockId> blocks, std::span<const size_t> chosen,
                           std::span<const Matrix> gradients, std::span<const double> weights);

}  // namespace hone
