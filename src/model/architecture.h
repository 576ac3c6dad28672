// What distinguishes one transformer from another, read from a GGUF file's metadata.
#pragma once

#include "hone/model.h"
#include "model/elementwise.h"
#include "model/gguf.h"

namespace hone {

struct Architecture {
  ModelConfig config;
  float norm_eps = 0;
  double rope_base = 0;
  RopePairs rope_pairs = RopePairs::halves;
  Activation activation = Activation::silu;
  float embedding_scale = 1;
  bool qkv_bias = false;    // q, k and v have biases
  bool qk_norm = false;     // every head of q and k is normalised before rotation
  bool post_norms = false;  // attention and feed-forward outputs are normalised before they are added
  size_t window = 0;        // of local layers; 0: every layer is global
  int window_period = 1;    // layers period − 1, 2 · period − 1, … are global, the others local
  double local_rope_base = 0;

  bool is_local(int layer) const { return window > 0 && (layer + 1) % window_period != 0; }
};

// Throws Error{unsupported} listing the architectures, Error{corrupt} naming file and field.
Architecture read_architecture(const Gguf& file);

// The fields that all architectures share, checked.
Architecture read_common(const Gguf& file);

Architecture read_llama(const Gguf& file);
Architecture read_qwen2(const Gguf& file);
Architecture read_gemma3(const Gguf& file);

}  // namespace hone
