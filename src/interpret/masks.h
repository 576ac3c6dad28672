// The loss of a local head on masked codes, and its gradients.
#pragma once

#include "hone/masks.h"

namespace hone {

// Of a neighbourhood's k points in its a active concepts, or of any mask m between 0 and 1.
struct MaskLoss {
  Matrix weights;           // ∂/∂W [C, a]
  std::vector<float> bias;  // ∂/∂b [C]
  std::vector<float> mask;  // ∂/∂m [a], empty if it is not asked for
  size_t right = 0;         // points whose label has the largest logit

  MaskLoss(size_t classes, size_t active, bool of_mask = true);
  // Returns (1/k) Σ_i −log softmax(W (m ∘ φ_i) + b)[y_i] + sparsity/a Σ_j m_j for φ [k, a] and sets the above.
  double differentiate(const LinearHead& head, ConstMatrixView codes, std::span<const int> y, std::span<const float> m,
                       float sparsity);

 private:
  Matrix masked_, logits_, d_masked_;
};

}  // namespace hone
