// A model's weights, ready for the kernels, in one block of memory that becomes read-only once it is filled.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "model/architecture.h"
#include "model/linear.h"

namespace hone {

struct LayerWeights {
  std::array<FrozenLinear, matrix_kinds> linear;  // by MatrixKind
  std::span<const float> attention_norm, ffn_norm;
  std::span<const float> q_norm, k_norm;                      // with Architecture::qk_norm
  std::span<const float> attention_post_norm, ffn_post_norm;  // with Architecture::post_norms
};

class Weights {
 public:
  // Throws Error{corrupt} naming file and tensor.
  Weights(const Gguf& file, const Architecture& architecture, Precision precision);
  ~Weights();
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  std::span<const std::byte> bytes() const { return {memory_, size_}; }

  std::vector<LayerWeights> layers;
  FrozenLinear head;
  std::span<const float> output_norm;
  std::span<const float> rope_factors;  // empty, or [head_dim / 2]

 private:
  std::byte* memory_ = nullptr;
  size_t size_ = 0;
};

}  // namespace hone
