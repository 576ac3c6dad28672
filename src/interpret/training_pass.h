// One batch forward and backward, through what its rows keep.
#pragma once

#include "hone/sae.h"
#include "interpret/revival.h"

namespace hone {

class TrainingPass {
 public:
  // The forward pass on raw rows x [n, d]. Dropout is drawn from the seed and the number of steps before.
  TrainingPass(const Sae& sae, const SaeTraining& training, uint64_t steps, size_t active,
               std::span<const uint32_t> dead, ConstMatrixView x);

  double loss() const { return loss_; }
  double revival_loss() const { return revived_.loss; }
  // The gradient of both losses' sum; returns its norm.
  double differentiate(SaeGradients& to) const;
  SparseCodes take_codes() { return std::move(codes_); }

 private:
  ConstMatrixView centred() const { return sae_.config.pre_bias ? shifted_ : inputs_; }
  void encode(size_t active, float dropout, uint64_t seed, uint64_t steps, std::span<const uint32_t> watched,
              MatrixView watched_values);
  void compare();

  const Sae& sae_;
  Matrix inputs_;      // [n, d]
  Matrix shifted_;     // inputs without the pre-bias, if there is one
  Matrix directions_;  // [S, d]
  SparseCodes codes_;
  Matrix error_;                        // x̂ − x [n, d]
  std::vector<float> value_gradients_;  // ∂loss/∂(pre-activation before dropout) of every place of the codes
  float factor_;                        // ∂loss/∂x̂ = factor · error
  float keep_scale_;                    // of what dropout keeps
  double loss_ = 0;
  Revived revived_;
};

}  // namespace hone
