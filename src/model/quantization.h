// GGML's block formats and how to read them as fp32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace hone {

// Values are the ids that GGUF files use.
enum class TensorType : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30,
};

std::string_view name(TensorType type);  // "F32", "Q4_1", ...
bool is_supported(uint32_t type_id);
size_t block_values(TensorType type);  // weights in one block
size_t block_bytes(TensorType type);   // bytes of one block

// out[i] = value i. bytes holds out.size() / block_values(type) blocks; out.size() is a multiple of block_values(type).
void dequantize(TensorType type, std::span<const std::byte> bytes, std::span<float> out);

}  // namespace hone
