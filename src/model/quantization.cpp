#include "model/quantization.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstring>

#include "hone/base.h"

namespace hone {
namespace {

// Blocks are little-endian byte layouts without padding, so the structs below are read with memcpy.
static_assert(std::endian::native == std::endian::little);

using Half = uint16_t;

struct BlockQ4_0 {
  Half scale;
  uint8_t quants[16];
};
struct BlockQ4_1 {
  Half scale, minimum;
  uint8_t quants[16];
};
struct BlockQ5_0 {
  Half scale;
  uint8_t high_bits[4];
  uint8_t quants[16];
};
struct BlockQ5_1 {
  Half scale, minimum;
  uint8_t high_bits[4];
  uint8_t quants[16];
};
struct BlockQ8_0 {
  Half scale;
  int8_t quants[32];
};
struct BlockQ4K {
  Half scale, minimum;
  uint8_t group_scales[12];
  uint8_t quants[128];
};
struct BlockQ5K {
  Half scale, minimum;
  uint8_t group_scales[12];
  uint8_t high_bits[32];
  uint8_t quants[128];
};
struct BlockQ6K {
  uint8_t low_bits[128];
  uint8_t high_bits[64];
  int8_t group_scales[16];
  Half scale;
};

float from_half(Half half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 31;
  const uint32_t mantissa = half & 1023;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  const uint32_t wide_exponent = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | wide_exponent << 23 | mantissa << 13);
}

float from_bf16(uint16_t value) { return std::bit_cast<float>(static_cast<uint32_t>(value) << 16); }

// In every 32-weight format the low nibbles are weights 0..15 and the high nibbles weights 16..31.
void decode(const BlockQ4_0& block, float* out) {
  const float scale = from_half(block.scale);
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>((block.quants[i] & 15) - 8);
    out[i + 16] = scale * static_cast<float>((block.quants[i] >> 4) - 8);
  }
}

void decode(const BlockQ4_1& block, float* out) {
  const float scale = from_half(block.scale);
  const float minimum = from_half(block.minimum);
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>(block.quants[i] & 15) + minimum;
    out[i + 16] = scale * static_cast<float>(block.quants[i] >> 4) + minimum;
  }
}

// Bit i of `high_bits` is the fifth bit of weight i.
std::array<int, 32> five_bit_quants(const uint8_t (&high_bits)[4], const uint8_t (&quants)[16]) {
  uint32_t high;
  std::memcpy(&high, high_bits, sizeof(high));
  std::array<int, 32> values;
  for (int i = 0; i < 16; ++i) {
    values[i] = (quants[i] & 15) | static_cast<int>((high >> i) & 1) << 4;
    values[i + 16] = (quants[i] >> 4) | static_cast<int>((high >> (i + 16)) & 1) << 4;
  }
  return values;
}

void decode(const BlockQ5_0& block, float* out) {
  const float scale = from_half(block.scale);
  const auto quants = five_bit_quants(block.high_bits, block.quants);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(quants[i] - 16);
}

void decode(const BlockQ5_1& block, float* out) {
  const float scale = from_half(block.scale);
  const float minimum = from_half(block.minimum);
  const auto quants = five_bit_quants(block.high_bits, block.quants);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(quants[i]) + minimum;
}

void decode(const BlockQ8_0& block, float* out) {
  const float scale = from_half(block.scale);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(block.quants[i]);
}

// A 256-weight block has 8 groups of 32, each with a six-bit scale and a six-bit minimum, packed into 12 bytes:
// groups 0..3 in the low six bits of bytes 0..3 (scales) and 4..7 (minima); groups 4..7 in the nibbles of bytes 8..11
// (low: scale, high: minimum) and, above them, the top two bits of bytes 0..7.
struct GroupScale {
  float scale;
  float minimum;
};

GroupScale group_scale(const uint8_t (&packed)[12], int group, float scale, float minimum) {
  const int i = group % 4;
  const int s = group < 4 ? packed[i] & 63 : (packed[i + 8] & 15) | (packed[i] >> 6) << 4;
  const int m = group < 4 ? packed[i + 4] & 63 : (packed[i + 8] >> 4) | (packed[i + 4] >> 6) << 4;
  return {scale * static_cast<float>(s), minimum * static_cast<float>(m)};
}

// Each 32 bytes of quants hold two groups: the low nibbles, then the high nibbles.
void decode(const BlockQ4K& block, float* out) {
  const float scale = from_half(block.scale);
  const float minimum = from_half(block.minimum);
  for (int group = 0; group < 8; ++group) {
    const auto [s, m] = group_scale(block.group_scales, group, scale, minimum);
    const uint8_t* quants = block.quants + group / 2 * 32;
    const int shift = group % 2 * 4;
    for (int i = 0; i < 32; ++i) out[group * 32 + i] = s * static_cast<float>((quants[i] >> shift) & 15) - m;
  }
}

// Like Q4_K; bit g of high_bits[i] is the fifth bit of weight i of group g.
void decode(const BlockQ5K& block, float* out) {
  const float scale = from_half(block.scale);
  const float minimum = from_half(block.minimum);
  for (int group = 0; group < 8; ++group) {
    const auto [s, m] = group_scale(block.group_scales, group, scale, minimum);
    const uint8_t* quants = block.quants + group / 2 * 32;
    const int shift = group % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      const int quant = ((quants[i] >> shift) & 15) | ((block.high_bits[i] >> group) & 1) << 4;
      out[group * 32 + i] = s * static_cast<float>(quant) - m;
    }
  }
}

// Two halves of 128 weights, each four runs of 32. Runs 0 and 1 are the low nibbles of 64 bytes, runs 2 and 3 their
// high nibbles; bits 2r and 2r + 1 of 32 more bytes are the top bits of run r. Sixteen weights share a scale.
void decode(const BlockQ6K& block, float* out) {
  const float scale = from_half(block.scale);
  for (int run = 0; run < 8; ++run) {
    const int half = run / 4;
    const int r = run % 4;
    const uint8_t* low = block.low_bits + half * 64 + r % 2 * 32;
    const uint8_t* high = block.high_bits + half * 32;
    const int low_shift = r / 2 * 4;
    const int high_shift = r * 2;
    const float scales[2] = {scale * static_cast<float>(block.group_scales[run * 2]),
                             scale * static_cast<float>(block.group_scales[run * 2 + 1])};
    for (int i = 0; i < 32; ++i) {
      const int quant = ((low[i] >> low_shift) & 15) | ((high[i] >> high_shift) & 3) << 4;
      out[run * 32 + i] = scales[i / 16] * static_cast<float>(quant - 32);
    }
  }
}

template <class Block, size_t values>
void decode_blocks(std::span<const std::byte> bytes, std::span<float> out) {
  for (size_t b = 0; b < out.size() / values; ++b) {
    Block block;
    std::memcpy(&block, bytes.data() + b * sizeof(Block), sizeof(Block));
    decode(block, out.data() + b * values);
  }
}

template <float (*widen)(uint16_t)>
void decode_16_bit(std::span<const std::byte> bytes, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t value;
    std::memcpy(&value, bytes.data() + i * sizeof(value), sizeof(value));
    out[i] = widen(value);
  }
}

struct Format {
  TensorType type;
  std::string_view name;
  size_t block_values;
  size_t block_bytes;
};

constexpr Format formats[] = {
    {TensorType::f32, "F32", 1, 4},
    {TensorType::f16, "F16", 1, 2},
    {TensorType::bf16, "BF16", 1, 2},
    {TensorType::q4_0, "Q4_0", 32, sizeof(BlockQ4_0)},
    {TensorType::q4_1, "Q4_1", 32, sizeof(BlockQ4_1)},
    {TensorType::q5_0, "Q5_0", 32, sizeof(BlockQ5_0)},
    {TensorType::q5_1, "Q5_1", 32, sizeof(BlockQ5_1)},
    {TensorType::q8_0, "Q8_0", 32, sizeof(BlockQ8_0)},
    {TensorType::q4_k, "Q4_K", 256, sizeof(BlockQ4K)},
    {TensorType::q5_k, "Q5_K", 256, sizeof(BlockQ5K)},
    {TensorType::q6_k, "Q6_K", 256, sizeof(BlockQ6K)},
};
static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22 &&
              sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4K) == 144 &&
              sizeof(BlockQ5K) == 176 && sizeof(BlockQ6K) == 210);

const Format* find_format(uint32_t type_id) {
  for (const Format& format : formats)
    if (static_cast<uint32_t>(format.type) == type_id) return &format;
  return nullptr;
}

const Format& format_of(TensorType type) {
  if (const Format* format = find_format(static_cast<uint32_t>(type))) return *format;
  throw Error(ErrorCode::unsupported, fmt::format("unknown tensor type {}", static_cast<uint32_t>(type)));
}

}  // namespace

std::string_view name(TensorType type) { return format_of(type).name; }
bool is_supported(uint32_t type_id) { return find_format(type_id) != nullptr; }
size_t block_values(TensorType type) { return format_of(type).block_values; }
size_t block_bytes(TensorType type) { return format_of(type).block_bytes; }

void dequantize(TensorType type, std::span<const std::byte> bytes, std::span<float> out) {
  const Format& format = format_of(type);
  if (out.size() % format.block_values != 0 || bytes.size() != out.size() / format.block_values * format.block_bytes)
    throw Error(ErrorCode::bad_input,
                fmt::format("{} bytes of {} are not {} weights", bytes.size(), format.name, out.size()));
  switch (type) {
    case TensorType::f32:
      if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
      return;
    case TensorType::f16: return decode_16_bit<from_half>(bytes, out);
    case TensorType::bf16: return decode_16_bit<from_bf16>(bytes, out);
    case TensorType::q4_0: return decode_blocks<BlockQ4_0, 32>(bytes, out);
    case TensorType::q4_1: return decode_blocks<BlockQ4_1, 32>(bytes, out);
    case TensorType::q5_0: return decode_blocks<BlockQ5_0, 32>(bytes, out);
    case TensorType::q5_1: return decode_blocks<BlockQ5_1, 32>(bytes, out);
    case TensorType::q8_0: return decode_blocks<BlockQ8_0, 32>(bytes, out);
    case TensorType::q4_k: return decode_blocks<BlockQ4K, 256>(bytes, out);
    case TensorType::q5_k: return decode_blocks<BlockQ5K, 256>(bytes, out);
    case TensorType::q6_k: return decode_blocks<BlockQ6K, 256>(bytes, out);
  }
}

}  // namespace hone
