// How features come back that no longer fire.
#pragma once

#include "hone/sae.h"

namespace hone {

// The loss by which dead features learn the error, and its gradients for them alone.
struct Revived {
  std::vector<size_t> place;  // [S] of a feature among the dead; SIZE_MAX for one that is not
  double loss = 0;
  Matrix encoder;                   // [dead, d]
  Matrix decoder;                   // [dead, d], w.r.t. what directions() gives
  std::vector<float> encoder_bias;  // [dead]
};

// error = x̂ − x [n, d]; values [n, dead] are the dead features' pre-activations, 0 where dropped, of which the loss may
// take some as 0 too; centred [n, d] is what the encoder saw; directions [S, d].
Revived revive(const SaeTraining& training, std::span<const uint32_t> dead, ConstMatrixView error, MatrixView values,
               ConstMatrixView centred, ConstMatrixView directions);

}  // namespace hone
