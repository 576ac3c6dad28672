#include <algorithm>
#include <array>
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

// One row of G / D: `row_factor` and `column` are D's factors.
void EncodeRow(const float* gradient, float row_factor, const std::vector<float>& column, uint8_t* to) {
  constexpr size_t half_block = block_values / 2;
  const hn::CappedTag<float, half_block> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  HWY_ALIGN std::array<float, block_values> values;
  for (size_t first = 0; first < column.size(); first += block_values, to += block_bytes) {
    const size_t count = std::min(block_values, column.size() - first);
    std::array<float, block_values> rest_gradient{}, rest_column;
    const float *g = gradient + first, *c = column.data() + first;
    if (count < block_values) {
      rest_column.fill(1);
      std::copy_n(g, count, rest_gradient.data());
      std::copy_n(c, count, rest_column.data());
      g = rest_gradient.data();
      c = rest_column.data();
    }
    auto top = hn::Zero(d);
    for (size_t k = 0; k < block_values; k += hn::Lanes(d)) {
      const auto value = hn::Div(hn::LoadU(d, g + k), hn::Mul(hn::Set(d, row_factor), hn::LoadU(d, c + k)));
      hn::Store(value, d, values.data() + k);
      top = hn::Max(hn::Abs(value), top);
    }
    const uint16_t half = to_bf16(hn::GetLane(hn::MaxOfLanes(d, top)) / largest);
    const float scale = from_bf16(half), inverse = scale > 0 ? 1 / scale : 0;
    std::memcpy(to, &half, sizeof half);
    const auto codes = [&](size_t at) {
      const auto steps = hn::NearestInt(hn::Mul(hn::Load(d, values.data() + at), hn::Set(d, inverse)));
      return hn::And(hn::Add(steps, hn::Set(di, largest + 1)), hn::Set(di, 15));
    };
    for (size_t k = 0; k < half_block; k += hn::Lanes(d))
      hn::StoreU(hn::DemoteTo(d8, hn::Or(codes(k), hn::ShiftLeft<4>(codes(k + half_block)))), d8, to + 2 + k);
  }
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(AddRow);
HWY_EXPORT(EncodeRow);

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

// Where a matrix's header stands in a row.
size_t offset_of(MatrixId id, const CorpusStatistics& statistics) {
  size_t offset = 0;
  for (auto block = statistics.blocks.begin(); block->first != id; ++block)
    offset += encoded_bytes(block->second.row.size(), block->second.column.size());
  return offset;
}

}  // namespace

std::vector<std::byte> empty_gradient_row(const CorpusStatistics& statistics) {
  size_t total = 0;
  for (const auto& [id, block] : statistics.blocks) total += encoded_bytes(block.row.size(), block.column.size());
  return std::vector<std::byte>(total);
}

void encode_gradient(MatrixId id, ConstMatrixView gradient, const CorpusStatistics& statistics,
                     std::span<std::byte> row) {
  const CorpusStatistics::Block& block = statistics.blocks.at(id);
  const size_t out = block.row.size(), in = block.column.size(), stride = blocks_per_row(in) * block_bytes;
  std::byte* at = row.data() + offset_of(id, statistics);
  const MatrixHeader header{id.layer, static_cast<int32_t>(id.kind), out, in};
  std::memcpy(at, &header, sizeof header);
  at += sizeof header;
  std::memcpy(at, block.row.data(), out * sizeof(float));
  std::memcpy(at + out * sizeof(float), block.column.data(), in * sizeof(float));
  auto* codes = reinterpret_cast<uint8_t*>(at + (out + in) * sizeof(float));
  parallel_ranges(out, 16, [&](size_t begin, size_t end) {
    for (size_t o = begin; o < end; ++o)
      HWY_DYNAMIC_DISPATCH(EncodeRow)(gradient.row(o).data(), block.row[o], block.column, codes + o * stride);
  });
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
  const size_t offset = offset_of(id, statistics) + sizeof(MatrixHeader);
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
