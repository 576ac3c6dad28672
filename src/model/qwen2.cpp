#include "model/architecture.h"

namespace hone {

Architecture read_qwen2(const Gguf& file) {
  Architecture a = read_common(file);
  a.qkv_bias = true;
  return a;
}

}  // namespace hone
