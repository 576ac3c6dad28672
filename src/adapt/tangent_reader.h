// Texts that begin alike, read with their derivatives along directions of the weights: what they share is read once.
#pragma once

#include "hone/model.h"

namespace hone {

class TangentReader {
 public:
  // Reads `prefix`. The directions add to layers [first_layer, L) alone. The model must outlive it. Throws
  // Error{bad_input, cancelled}.
  TangentReader(const Model& model, int first_layer, std::span<const Token> prefix, std::vector<Adapter> directions,
                const CancelToken& cancel);

  std::span<const Token> prefix() const { return prefix_; }
  size_t directions() const { return directions_.size(); }
  // The last layer's output for a packed batch of texts behind the prefix, as Model::forward would return it to the
  // last bit, and its derivatives. One thread at a time.
  Tangents read(std::span<const Sequence> batch, const CancelToken& cancel) const;

 private:
  Tangents read(std::span<const Sequence> batch, const TangentPrefix* lower, const TangentPrefix* upper,
                TangentPrefix* keep_lower, TangentPrefix* keep_upper, const CancelToken& cancel) const;

  const Model& model_;
  int first_layer_;
  std::vector<Token> prefix_;
  std::vector<Adapter> directions_;
  TangentPrefix lower_, upper_;
};

}  // namespace hone
