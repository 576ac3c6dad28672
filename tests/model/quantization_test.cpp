// Each format against its formula, on blocks put together bit by bit.
#include "model/quantization.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/random.h"
#include "hone/base.h"

namespace hone::quantization_test {
namespace {

using Bytes = std::vector<uint8_t>;

std::vector<float> decode(TensorType type, const Bytes& bytes) {
  std::vector<float> out(bytes.size() / block_bytes(type) * block_values(type));
  dequantize(type, std::as_bytes(std::span(bytes)), out);
  return out;
}

// IEEE 754 binary16, from its definition.
double half_value(int bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == 31) return mantissa ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

constexpr uint16_t half_one = 0x3c00, half_two = 0x4000, half_minus_half = 0xb800, half_three = 0x4200;

void put_half(Bytes& block, size_t at, uint16_t half) {
  block[at] = static_cast<uint8_t>(half & 255);
  block[at + 1] = static_cast<uint8_t>(half >> 8);
}

// Adds `value` to the bits from `bit` of byte `at`.
void put_bits(Bytes& block, size_t at, int bit, int value) {
  block[at] = static_cast<uint8_t>(block[at] | value << bit);
}

// Distinct quants for every position of a block.
int quant(size_t i, int bits) { return static_cast<int>(i * 37 + i / 8 + 5) & ((1 << bits) - 1); }

TEST(Quantization, NamesAndSizesAreThoseOfGgml) {
  struct Row {
    uint32_t id;
    const char* name;
    size_t values, bytes;
  };
  const Row rows[] = {{0, "F32", 1, 4},       {1, "F16", 1, 2},       {2, "Q4_0", 32, 18}, {3, "Q4_1", 32, 20},
                      {6, "Q5_0", 32, 22},    {7, "Q5_1", 32, 24},    {8, "Q8_0", 32, 34}, {12, "Q4_K", 256, 144},
                      {13, "Q5_K", 256, 176}, {14, "Q6_K", 256, 210}, {30, "BF16", 1, 2}};
  for (const Row& row : rows) {
    ASSERT_TRUE(is_supported(row.id));
    const auto type = static_cast<TensorType>(row.id);
    EXPECT_EQ(name(type), row.name);
    EXPECT_EQ(block_values(type), row.values);
    EXPECT_EQ(block_bytes(type), row.bytes);
  }
  for (const uint32_t id : {4u, 5u, 9u, 10u, 11u, 15u, 16u, 29u, 31u, 4096u}) EXPECT_FALSE(is_supported(id));
}

TEST(Quantization, F32IsCopied) {
  const std::vector<float> values = {0, -0.0f, 1.5f, -3e38f, 1e-40f};
  Bytes bytes(values.size() * 4);
  std::memcpy(bytes.data(), values.data(), bytes.size());
  const auto out = decode(TensorType::f32, bytes);
  EXPECT_EQ(std::memcmp(out.data(), values.data(), bytes.size()), 0);
}

TEST(Quantization, EveryHalfIsExact) {
  Bytes bytes(2 * 65536);
  for (int i = 0; i < 65536; ++i) put_half(bytes, 2 * static_cast<size_t>(i), static_cast<uint16_t>(i));
  const auto out = decode(TensorType::f16, bytes);
  for (int i = 0; i < 65536; ++i) {
    const double expected = half_value(i);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(out[i])) << i;
    } else {
      EXPECT_EQ(static_cast<double>(out[i]), expected) << i;
      EXPECT_EQ(std::signbit(out[i]), i >> 15 != 0) << i;
    }
  }
}

TEST(Quantization, Bf16IsTheUpperHalfOfAFloat) {
  const Bytes bytes = {0x80, 0x3f, 0x40, 0xc0, 0x00, 0x00, 0x80, 0xff};
  const auto out = decode(TensorType::bf16, bytes);
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], -3.0f);
  EXPECT_EQ(out[2], 0.0f);
  EXPECT_EQ(out[3], -std::numeric_limits<float>::infinity());
}

// Bytes of a 32-weight block from `quants_at`: low nibbles are weights 0..15, high nibbles 16..31.
void put_nibbles(Bytes& block, size_t quants_at, int bits) {
  for (size_t i = 0; i < 32; ++i) put_bits(block, quants_at + i % 16, i < 16 ? 0 : 4, quant(i, bits) & 15);
}

void put_fifth_bits(Bytes& block, size_t at) {
  for (size_t i = 0; i < 32; ++i) put_bits(block, at + i / 8, static_cast<int>(i % 8), quant(i, 5) >> 4);
}

TEST(Quantization, Q4_0) {
  Bytes block(18);
  put_half(block, 0, half_minus_half);
  put_nibbles(block, 2, 4);
  const auto out = decode(TensorType::q4_0, block);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(out[i], -0.5 * (quant(i, 4) - 8)) << i;
}

TEST(Quantization, Q4_1) {
  Bytes block(20);
  put_half(block, 0, half_two);
  put_half(block, 2, half_minus_half);
  put_nibbles(block, 4, 4);
  const auto out = decode(TensorType::q4_1, block);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(out[i], 2.0 * quant(i, 4) - 0.5) << i;
}

TEST(Quantization, Q5_0) {
  Bytes block(22);
  put_half(block, 0, half_three);
  put_fifth_bits(block, 2);
  put_nibbles(block, 6, 5);
  const auto out = decode(TensorType::q5_0, block);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(out[i], 3.0 * (quant(i, 5) - 16)) << i;
}

TEST(Quantization, Q5_1) {
  Bytes block(24);
  put_half(block, 0, half_two);
  put_half(block, 2, half_minus_half);
  put_fifth_bits(block, 4);
  put_nibbles(block, 8, 5);
  const auto out = decode(TensorType::q5_1, block);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(out[i], 2.0 * quant(i, 5) - 0.5) << i;
}

TEST(Quantization, Q8_0) {
  Bytes block(34);
  put_half(block, 0, half_minus_half);
  for (size_t i = 0; i < 32; ++i) block[2 + i] = static_cast<uint8_t>(quant(i, 8));
  const auto out = decode(TensorType::q8_0, block);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(out[i], -0.5 * static_cast<int8_t>(quant(i, 8))) << i;
}

int group_scale(size_t group) { return static_cast<int>(group * 11 + 3) & 63; }
int group_minimum(size_t group) { return static_cast<int>(63 - group * 7) & 63; }

// Six-bit scales and minima of eight groups in 12 bytes: see the K-quant layout in ggml-quants.
void put_group_scales(Bytes& block, size_t at) {
  for (size_t g = 0; g < 8; ++g) {
    const int scale = group_scale(g), minimum = group_minimum(g);
    if (g < 4) {
      put_bits(block, at + g, 0, scale);
      put_bits(block, at + g + 4, 0, minimum);
    } else {
      put_bits(block, at + g + 4, 0, scale & 15);
      put_bits(block, at + g + 4, 4, minimum & 15);
      put_bits(block, at + g - 4, 6, scale >> 4);
      put_bits(block, at + g, 6, minimum >> 4);
    }
  }
}

void put_group_nibbles(Bytes& block, size_t at, int bits) {
  for (size_t i = 0; i < 256; ++i) put_bits(block, at + i / 64 * 32 + i % 32, i / 32 % 2 ? 4 : 0, quant(i, bits) & 15);
}

TEST(Quantization, Q4_K) {
  Bytes block(144);
  put_half(block, 0, half_two);
  put_half(block, 2, half_three);
  put_group_scales(block, 4);
  put_group_nibbles(block, 16, 4);
  const auto out = decode(TensorType::q4_k, block);
  for (size_t i = 0; i < 256; ++i)
    EXPECT_EQ(out[i], 2.0 * group_scale(i / 32) * quant(i, 4) - 3.0 * group_minimum(i / 32)) << i;
}

TEST(Quantization, Q5_K) {
  Bytes block(176);
  put_half(block, 0, half_two);
  put_half(block, 2, half_three);
  put_group_scales(block, 4);
  for (size_t i = 0; i < 256; ++i) put_bits(block, 16 + i % 32, static_cast<int>(i / 32), quant(i, 5) >> 4);
  put_group_nibbles(block, 48, 5);
  const auto out = decode(TensorType::q5_k, block);
  for (size_t i = 0; i < 256; ++i)
    EXPECT_EQ(out[i], 2.0 * group_scale(i / 32) * quant(i, 5) - 3.0 * group_minimum(i / 32)) << i;
}

TEST(Quantization, Q6_K) {
  Bytes block(210);
  const auto scale = [](size_t i) { return static_cast<int>(i / 16) * 13 - 100; };
  for (size_t i = 0; i < 256; ++i) {
    const size_t half = i / 128, run = i % 128 / 32, within = i % 32;
    put_bits(block, half * 64 + run % 2 * 32 + within, run / 2 ? 4 : 0, quant(i, 6) & 15);
    put_bits(block, 128 + half * 32 + within, static_cast<int>(2 * run), quant(i, 6) >> 4);
    block[192 + i / 16] = static_cast<uint8_t>(scale(i));
  }
  put_half(block, 208, half_minus_half);
  const auto out = decode(TensorType::q6_k, block);
  for (size_t i = 0; i < 256; ++i) EXPECT_EQ(out[i], -0.5 * scale(i) * (quant(i, 6) - 32)) << i;
}

TEST(Quantization, BlocksDoNotInfluenceEachOther) {
  RandomStream random(7, "blocks");
  for (const TensorType type : {TensorType::q4_0, TensorType::q4_1, TensorType::q5_0, TensorType::q5_1,
                                TensorType::q8_0, TensorType::q4_k, TensorType::q5_k, TensorType::q6_k}) {
    Bytes bytes(5 * block_bytes(type));
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.below(256));
    const auto all = decode(type, bytes);
    for (size_t b = 0; b < 5; ++b) {
      const auto at = bytes.begin() + static_cast<std::ptrdiff_t>(b * block_bytes(type));
      const auto one = decode(type, Bytes(at, at + static_cast<std::ptrdiff_t>(block_bytes(type))));
      EXPECT_EQ(std::memcmp(one.data(), all.data() + b * block_values(type), one.size() * 4), 0) << name(type);
    }
  }
}

TEST(Quantization, WrongSizesAreErrors) {
  const Bytes bytes(40);
  std::vector<float> out(64);
  const auto dequantize_to = [&](size_t size, size_t values) {
    dequantize(TensorType::q4_1, std::as_bytes(std::span(bytes)).first(size), std::span(out).first(values));
  };
  EXPECT_NO_THROW(dequantize_to(40, 64));
  EXPECT_NO_THROW(dequantize_to(0, 0));
  EXPECT_THROW(dequantize_to(39, 64), Error);
  EXPECT_THROW(dequantize_to(20, 64), Error);
  EXPECT_THROW(dequantize_to(40, 63), Error);
  EXPECT_THROW(dequantize_to(40, 32), Error);
}

}  // namespace
}  // namespace hone::quantization_test
