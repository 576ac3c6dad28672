#include "model/architecture.h"

namespace hone {

Architecture read_llama(const Gguf& file) {
  Architecture a = read_common(file);
  a.rope_pairs = RopePairs::neighbours;
  return a;
}

}  // namespace hone
