#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "adapt/gradients.h"
#include "base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "adapt/gradient_row.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "hwy/highway.h"

#ifndef HONE_GRADIENT_ROW_CODEC
#define HONE_GRADIENT_ROW_CODEC
namespace hone {

constexpr size_t block_values = 32;
constexpr size_t block_bytes =
    2 + block_values / 2;   // a bf16 scale, then value k in the low and k + 16 in the high bits
constexpr int largest = 7;  // codes 1 … 15 mean −7 … 7

// The upper half of a float, rounded up in magnitude so that no value exceeds `largest` steps.
inline uint16_t to_bf16(float scale) { return static_cast<uint16_t>((std::bit_cast<uint32_t>(scale) + 0xffff) >> 16); }
inline float from_bf16(uint16_t half) { return std::bit_cast<float>(static_cast<uint32_t>(half) << 16); }

}  // namespace hone
#endif

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// delta[i] += row_factor · value[i] · column_factor[i].
void AddRow(const uint8_t* from, float row_factor, const std::vector<float>& column_factor, float* delta) {
  constexpr size_t half_block = block_values / 2;
  const hn::CappedTag<float, half_block> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  for (size_t first = 0; first < column_factor.size(); first += block_values, from += block_bytes) {
    uint16_t half = 0;
    std::memcpy(&half, from, sizeof half);
    const float scale = row_factor * from_bf16(half);
    const size_t count = std::min(block_values, column_factor.size() - first);
    const float* factor = column_factor.data() + first;
    float* to = delta + first;
    if (count < block_values) {
      for (size_t k = 0; k < count; ++k) {
        const int code = k < half_block ? from[2 + k] & 15 : from[2 + k - half_block] >> 4;
        to[k] += scale * static_cast<float>(code - largest - 1) * factor[k];
      }
      continue;
    }
    for (size_t k = 0; k < half_block; k += hn::Lanes(d)) {
      const auto codes = hn::PromoteTo(di, hn::LoadU(d8, from + 2 + k));
      const auto add = [&](auto code, size_t at) {
        const auto value = hn::ConvertTo(d, hn::Sub(code, hn::Set(di, largest + 1)));
        const auto scaled = hn::Mul(hn::Mul(hn::Set(d, scale), value), hn::LoadU(d, factor + at));
        hn::StoreU(hn::Add(hn::LoadU(d, to + at), scaled), d, to + at);
      };
      add(hn::And(codes, hn::Set(di, 15)), k);
      add(hn::ShiftRight<4>(codes), k + half_block);
    }
  }
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(AddRow);

namespace {

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

}  // namespace

std::vector<std::byte> encode_gradient_row(const std::map<MatrixId, Matrix>& gradients,
                                           const CorpusStatistics& statistics) {
  size_t total = 0;
  for (const auto& [id, g] : gradients) total += encoded_bytes(g.rows(), g.cols());
  std::vector<std::byte> bytes(total);
  std::byte* at = bytes.data();
  for (const auto& entry : gradients) {
    const MatrixId id = entry.first;
    const Matrix& g = entry.second;
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

bool is_gradient_row(std::span<const std::byte> row, const CorpusStatistics& statistics) {
  for (const auto& [id, block] : statistics.blocks) {
    const size_t out = block.row.size(), in = block.column.size(), bytes = encoded_bytes(out, in);
    if (row.size() < bytes) return false;
    MatrixHeader header{};
    std::memcpy(&header, row.data(), sizeof header);
    if (header.layer != id.layer || header.kind != static_cast<int32_t>(id.kind) || header.out != out ||
        header.in != in)
      return false;
    row = row.subspan(bytes);
  }
  return row.empty();
}

Matrix sum_gradient_rows(std::span<const StoredRow> rows, const CorpusStatistics& statistics, MatrixId id,
                         float weight) {
  size_t offset = sizeof(MatrixHeader);
  for (auto block = statistics.blocks.begin(); block->first != id; ++block)
    offset += encoded_bytes(block->second.row.size(), block->second.column.size());
  const CorpusStatistics::Block& block = statistics.blocks.at(id);
  const size_t out = block.row.size(), in = block.column.size(), stride = blocks_per_row(in) * block_bytes;
  // What a row was written with, over what D is now.
  std::vector<std::vector<float>> row_factors(rows.size(), std::vector<float>(out));
  std::vector<std::vector<float>> column_factors(rows.size(), std::vector<float>(in));
  for (size_t r = 0; r < rows.size(); ++r) {
    const std::byte* at = rows[r].bytes().data() + offset;
    std::memcpy(row_factors[r].data(), at, out * sizeof(float));
    std::memcpy(column_factors[r].data(), at + out * sizeof(float), in * sizeof(float));
    for (size_t o = 0; o < out; ++o) row_factors[r][o] *= weight / block.row[o];
    for (size_t i = 0; i < in; ++i) column_factors[r][i] /= block.column[i];
  }
  Matrix sum(out, in);
  parallel_ranges(out, 16, [&](size_t begin, size_t end) {
    for (size_t o = begin; o < end; ++o)
      for (size_t r = 0; r < rows.size(); ++r) {
        const auto* codes =
            reinterpret_cast<const uint8_t*>(rows[r].bytes().data() + offset + (out + in) * sizeof(float));
        HWY_DYNAMIC_DISPATCH(AddRow)(codes + o * stride, row_factors[r][o], column_factors[r], sum.row(o).data());
      }
  });
  return sum;
}

}  // namespace hone
#endif
