#include "model/architecture.h"

#include <fmt/format.h>

namespace hone {
namespace {

int positive(const Gguf& file, const std::string& key, int64_t limit) {
  const int64_t value = file.integer(key);
  if (value < 1 || value > limit)
    throw Error(ErrorCode::corrupt,
                fmt::format("{}: '{}' is {}; expected 1 to {}", file.path().string(), key, value, limit));
  return static_cast<int>(value);
}

// A file that names no type scales linearly by either factor; a factor of 0 or 1 scales nothing.
void refuse_rope_scaling(const Gguf& file, const std::string& prefix) {
  const bool typed = file.has(prefix + "rope.scaling.type");
  const std::string type = file.string_or(prefix + "rope.scaling.type", "none");
  if (type != "none")
    throw Error(ErrorCode::unsupported,
                fmt::format("{}: '{}rope.scaling.type' is '{}'; hone runs models without rope scaling",
                            file.path().string(), prefix, type));
  if (typed) return;
  for (const char* field : {"rope.scaling.factor", "rope.scale_linear"})
    if (const double factor = file.real_or(prefix + field, 1); factor != 0 && factor != 1)
      throw Error(ErrorCode::unsupported, fmt::format("{}: '{}{}' is {}; hone runs models without rope scaling",
                                                      file.path().string(), prefix, field, factor));
}

}  // namespace

Architecture read_common(const Gguf& file) {
  Architecture a;
  ModelConfig& c = a.config;
  c.architecture = file.string("general.architecture");
  c.name = file.string_or("general.name", file.path().stem().string());
  const std::string prefix = c.architecture + ".";
  c.layers = positive(file, prefix + "block_count", 1000);
  c.width = positive(file, prefix + "embedding_length", 1 << 20);
  c.ffn_width = positive(file, prefix + "feed_forward_length", 1 << 22);
  c.context = positive(file, prefix + "context_length", 1 << 24);
  c.heads = positive(file, prefix + "attention.head_count", 1 << 12);
  c.kv_heads = file.has(prefix + "attention.head_count_kv")
                   ? positive(file, prefix + "attention.head_count_kv", 1 << 12)
                   : c.heads;
  c.head_dim = file.has(prefix + "attention.key_length") ? positive(file, prefix + "attention.key_length", 1 << 12)
                                                         : c.width / c.heads;
  if (c.heads % c.kv_heads != 0 || c.head_dim < 2 || c.head_dim % 2 != 0)
    throw Error(ErrorCode::corrupt,
                fmt::format("{}: {} heads, {} key/value heads, {} values a head do not fit together",
                            file.path().string(), c.heads, c.kv_heads, c.head_dim));
  for (const char* field : {"rope.dimension_count", "attention.value_length"})
    if (file.integer_or(prefix + field, c.head_dim) != c.head_dim)
      throw Error(ErrorCode::unsupported,
                  fmt::format("{}: '{}{}' differs from the head's {} values, which hone cannot run",
                              file.path().string(), prefix, field, c.head_dim));
  a.norm_eps = static_cast<float>(file.real(prefix + "attention.layer_norm_rms_epsilon"));
  a.rope_base = file.real_or(prefix + "rope.freq_base", 10000);
  if (!(a.norm_eps >= 0 && a.norm_eps < 1) || !(a.rope_base > 0))
    throw Error(ErrorCode::corrupt,
                fmt::format("{}: '{}attention.layer_norm_rms_epsilon' or '{}rope.freq_base' is out of range",
                            file.path().string(), prefix, prefix));
  refuse_rope_scaling(file, prefix);
  return a;
}

Architecture read_architecture(const Gguf& file) {
  const std::string& name = file.string("general.architecture");
  if (name == "llama") return read_llama(file);
  if (name == "qwen2") return read_qwen2(file);
  if (name == "gemma3") return read_gemma3(file);
  throw Error(ErrorCode::unsupported,
              fmt::format("{}: architecture '{}' is not one of llama, qwen2, gemma3", file.path().string(), name));
}

}  // namespace hone
