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
  // Throws Error{corrupt} naming file and tensor, Error{unsupported} for rows that are too long for int8.
  Weights(const Gguf& file, const Architecture& architecture, Precision precision);
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  std::span<const std::byte> bytes() const { return {memory_.data, memory_.size}; }

  std::vector<LayerWeights> layers;
  FrozenLinear head;
  std::span<const float> output_norm;
  std::span<const float> rope_factors;  // empty, or [head_dim / 2]

 private:
  // Gives the memory back, also where the constructor throws.
  struct Memory {
    std::byte* data = nullptr;
    size_t size = 0;
    ~Memory();
  };
  Memory memory_;
};

}  // namespace hone
