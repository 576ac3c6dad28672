#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "adapt/gradients.h"
#include "base/parallel.h"

namespace hone {
namespace {

constexpr size_t block_values = 32;
constexpr size_t block_bytes =
    2 + block_values / 2;   // a bf16 scale, then value k in the low and k + 16 in the high bits
constexpr int largest = 7;  // codes 1 … 15 mean −7 … 7

struct MatrixHeader {
  int32_t layer;
  int32_t kind;
  uint64_t out;
  uint64_t in;
};

size_t blocks_per_row(size_t in) { return (in + block_values - 1) / block_values; }
size_t encoded_bytes(size_t out, size_t in) {
  return sizeof(MatrixHeader) + (out + in) * sizeof(float) + out * blocks_per_row(in) * block_bytes;
}

// The upper half of a float, rounded up in magnitude so that no value exceeds `largest` steps.
uint16_t to_bf16(float scale) { return static_cast<uint16_t>((std::bit_cast<uint32_t>(scale) + 0xffff) >> 16); }
float from_bf16(uint16_t half) { return std::bit_cast<float>(static_cast<uint32_t>(half) << 16); }

void encode_row(const float* gradient, float row, const std::vector<float>& column, uint8_t* to) {
  for (size_t first = 0; first < column.size(); first += block_values, to += block_bytes) {
    const size_t count = std::min(block_values, column.size() - first);
    float values[block_values] = {}, top = 0;
    for (size_t k = 0; k < count; ++k) {
      values[k] = gradient[first + k] / (row * column[first + k]);
      top = std::max(top, std::fabs(values[k]));
    }
    const uint16_t half = to_bf16(top / largest);
    const float scale = from_bf16(half), inverse = scale > 0 ? 1 / scale : 0;
    std::memcpy(to, &half, sizeof half);
    const auto code = [&](size_t k) { return static_cast<uint8_t>(std::lrintf(values[k] * inverse) + largest + 1); };
    for (size_t k = 0; k < block_values / 2; ++k)
      to[2 + k] = static_cast<uint8_t>(code(k) | code(k + block_values / 2) << 4);
  }
}

// delta[i] += row_factor · value[i] · column_factor[i].
void add_row(const uint8_t* from, float row_factor, const std::vector<float>& column_factor, float* delta) {
  constexpr size_t half_block = block_values / 2;
  for (size_t first = 0; first < column_factor.size(); first += block_values, from += block_bytes) {
    uint16_t half = 0;
    std::memcpy(&half, from, sizeof half);
    const float scale = row_factor * from_bf16(half);
    float values[block_values];
    for (size_t k = 0; k < half_block; ++k) {
      values[k] = static_cast<float>((from[2 + k] & 15) - largest - 1);
      values[k + half_block] = static_cast<float>((from[2 + k] >> 4) - largest - 1);
    }
    const size_t count = std::min(block_values, column_factor.size() - first);
    for (size_t k = 0; k < count; ++k) delta[first + k] += scale * values[k] * column_factor[first + k];
  }
}

}  // namespace

std::vector<std::byte> encode_gradient_row(const std::map<MatrixId, Matrix>& gradients,
                                           const CorpusStatistics& statistics) {
  size_t total = 0;
  for (const auto& [id, g] : gradients) total += encoded_bytes(g.rows(), g.cols());
  std::vector<std::byte> bytes(total);
  std::byte* at = bytes.data();
  for (const auto& [id, g] : gradients) {
    const CorpusStatistics::Block& block = statistics.blocks.at(id);
    const MatrixHeader header{id.layer, static_cast<int32_t>(id.kind), g.rows(), g.cols()};
    std::memcpy(at, &header, sizeof header);
    at += sizeof header;
    std::memcpy(at, block.row.data(), g.rows() * sizeof(float));
    at += g.rows() * sizeof(float);
    std::memcpy(at, block.column.data(), g.cols() * sizeof(float));
    at += g.cols() * sizeof(float);
    const size_t stride = blocks_per_row(g.cols()) * block_bytes;
    auto* codes = reinterpret_cast<uint8_t*>(at);
    parallel_ranges(g.rows(), 16, [&](size_t begin, size_t end) {
      for (size_t o = begin; o < end; ++o) encode_row(g.row(o).data(), block.row[o], block.column, codes + o * stride);
    });
    at += g.rows() * stride;
  }
  return bytes;
}

bool add_gradient_row(std::span<const std::byte> row, const CorpusStatistics& statistics, float weight,
                      Adapter& direction) {
  size_t expected = 0;
  for (const auto& [id, delta] : direction.dense) expected += encoded_bytes(delta.rows(), delta.cols());
  if (row.size() != expected) return false;
  const std::byte* at = row.data();
  for (const auto& [id, delta] : direction.dense) {
    MatrixHeader header{};
    std::memcpy(&header, at, sizeof header);
    if (header.layer != id.layer || header.kind != static_cast<int32_t>(id.kind) || header.out != delta.rows() ||
        header.in != delta.cols())
      return false;
    at += encoded_bytes(delta.rows(), delta.cols());
  }

  at = row.data();
  for (auto& [id, delta] : direction.dense) {
    const CorpusStatistics::Block& block = statistics.blocks.at(id);
    const size_t out = delta.rows(), in = delta.cols(), stride = blocks_per_row(in) * block_bytes;
    std::vector<float> row_factor(out), column_factor(in);
    std::memcpy(row_factor.data(), at + sizeof(MatrixHeader), out * sizeof(float));
    std::memcpy(column_factor.data(), at + sizeof(MatrixHeader) + out * sizeof(float), in * sizeof(float));
    for (size_t o = 0; o < out; ++o) row_factor[o] *= weight / block.row[o];
    for (size_t i = 0; i < in; ++i) column_factor[i] /= block.column[i];
    const auto* codes = reinterpret_cast<const uint8_t*>(at + sizeof(MatrixHeader) + (out + in) * sizeof(float));
    parallel_ranges(out, 16, [&, &to = delta](size_t begin, size_t end) {
      for (size_t o = begin; o < end; ++o) add_row(codes + o * stride, row_factor[o], column_factor, to.row(o).data());
    });
    at += encoded_bytes(out, in);
  }
  return true;
}

Adapter zero_direction(const CorpusStatistics& statistics) {
  Adapter direction;
  for (const auto& [id, block] : statistics.blocks)
    direction.dense.emplace(id, Matrix(block.row.size(), block.column.size()));
  return direction;
}

}  // namespace hone
