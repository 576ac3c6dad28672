#include <fmt/format.h>

#include <cmath>

#include "model/architecture.h"

namespace hone {

// Files do not say which layers are local nor how those rotate: Gemma 3 makes every sixth layer global and rotates the
// local ones with base 10 000. A file without its global base means Gemma 3's own, a million.
Architecture read_gemma3(const Gguf& file) {
  Architecture a = read_common(file);
  a.activation = Activation::gelu_tanh;
  a.embedding_scale = std::sqrt(static_cast<float>(a.config.width));
  if (!file.has("gemma3.rope.freq_base")) a.rope_base = 1e6;
  a.qk_norm = true;
  a.post_norms = true;
  const int64_t window = file.integer("gemma3.attention.sliding_window");
  const int64_t period = file.integer_or("gemma3.attention.sliding_window_pattern", 6);
  a.local_rope_base = file.real_or("gemma3.rope.freq_base_swa", 10000);
  if (window < 1 || period < 1 || period > 1000 || !(a.local_rope_base > 0))
    throw Error(ErrorCode::corrupt,
                fmt::format("{}: the 'gemma3.*' fields of the sliding window are out of range", file.path().string()));
  a.window = static_cast<size_t>(window);
  a.window_period = static_cast<int>(period);
  return a;
}

}  // namespace hone
