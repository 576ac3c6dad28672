#include "heads/neighbours_scan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/vnni.h"
#include "base/vnni_intrinsics.h"

namespace hone {
namespace {

constexpr size_t lanes = 16, vectors = panel_points / lanes;

#if defined(__x86_64__)

// U·V of a panel's points and some queries, [queries, panel_points].
template <size_t queries>
HONE_VNNI void multiply(const uint8_t* panel, size_t groups, const QueryScan* query, int32_t* products) {
  __m512i sums[queries][vectors];
#pragma GCC unroll 4
  for (size_t q = 0; q < queries; ++q)
#pragma GCC unroll 4
    for (__m512i& sum : sums[q]) sum = _mm512_set1_epi32(query[q].offset);
  for (size_t group = 0; group < groups; ++group, panel += panel_points * 4) {
    __m512i bytes[vectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) bytes[v] = _mm512_loadu_si512(panel + v * lanes * 4);
#pragma GCC unroll 4
    for (size_t q = 0; q < queries; ++q) {
      int32_t four = 0;
      std::memcpy(&four, query[q].codes + group * 4, sizeof four);
#pragma GCC unroll 4
      for (size_t v = 0; v < vectors; ++v)
        sums[q][v] = _mm512_dpbusd_epi32(sums[q][v], bytes[v], _mm512_set1_epi32(four));
    }
  }
#pragma GCC unroll 4
  for (size_t q = 0; q < queries; ++q)
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) _mm512_storeu_si512(products + q * panel_points + v * lanes, sums[q][v]);
}

// The lowest possible scores of a panel's points; the bits of those that are below the limit.
HONE_VNNI uint64_t lowest_scores(const PanelView& points, size_t first, const QueryScan& query, const int32_t* products,
                                 float limit, float* lowest) {
  const __m512 scale = _mm512_set1_ps(query.scale), length = _mm512_set1_ps(query.length);
  const __m512 bound = _mm512_set1_ps(limit);
  uint64_t below = 0;
#pragma GCC unroll 4
  for (size_t v = 0; v < vectors; ++v) {
    const size_t at = first + v * lanes;
    const __m512 product = _mm512_mul_ps(_mm512_loadu_ps(points.scales + at),
                                         _mm512_cvtepi32_ps(_mm512_loadu_si512(products + v * lanes)));
    const __m512 far =
        _mm512_fnmadd_ps(length, _mm512_loadu_ps(points.widths + at), _mm512_loadu_ps(points.biases + at));
    const __m512 score = _mm512_fnmadd_ps(scale, product, far);
    _mm512_storeu_ps(lowest + v * lanes, score);
    below |= static_cast<uint64_t>(_mm512_cmp_ps_mask(score, bound, _CMP_LT_OQ)) << (v * lanes);
  }
  return below;
}

HONE_VNNI size_t count_up_to(std::span<const float> values, float limit) {
  size_t count = 0, i = 0;
  const __m512 bound = _mm512_set1_ps(limit);
  for (; i + lanes <= values.size(); i += lanes)
    count += static_cast<size_t>(
        std::popcount(static_cast<unsigned>(_mm512_cmp_ps_mask(_mm512_loadu_ps(&values[i]), bound, _CMP_LE_OQ))));
  for (; i < values.size(); ++i) count += values[i] <= limit;
  return count;
}

// The least and the largest.
HONE_VNNI std::pair<float, float> range_of(std::span<const float> values) {
  __m512 least = _mm512_set1_ps(values[0]), largest = least;
  size_t i = 0;
  for (; i + lanes <= values.size(); i += lanes) {
    least = _mm512_min_ps(least, _mm512_loadu_ps(&values[i]));
    largest = _mm512_max_ps(largest, _mm512_loadu_ps(&values[i]));
  }
  std::pair<float, float> range{_mm512_reduce_min_ps(least), _mm512_reduce_max_ps(largest)};
  for (; i < values.size(); ++i) range = {std::min(range.first, values[i]), std::max(range.second, values[i])};
  return range;
}

// Keeps the entries whose first value is below the limit, in place; their number.
HONE_VNNI size_t keep_below(float limit, std::span<float> values, float* others, uint32_t* ids) {
  const __m512 bound = _mm512_set1_ps(limit);
  size_t left = 0;
  for (size_t i = 0; i < values.size(); i += lanes) {
    const size_t some = std::min(lanes, values.size() - i);
    const auto inside = static_cast<__mmask16>((1U << some) - 1);
    const __m512 value = _mm512_loadu_ps(&values[i]), other = _mm512_loadu_ps(others + i);
    const __m512i id = _mm512_loadu_si512(ids + i);
    const __mmask16 below = _mm512_mask_cmp_ps_mask(inside, value, bound, _CMP_LT_OQ);
    _mm512_storeu_ps(&values[left], _mm512_maskz_compress_ps(below, value));
    _mm512_storeu_ps(others + left, _mm512_maskz_compress_ps(below, other));
    _mm512_storeu_si512(ids + left, _mm512_maskz_compress_epi32(below, id));
    left += static_cast<size_t>(std::popcount(static_cast<unsigned>(below)));
  }
  return left;
}

#else

template <size_t queries>
void multiply(const uint8_t* /*panel*/, size_t /*groups*/, const QueryScan* /*query*/, int32_t* /*products*/) {}

uint64_t lowest_scores(const PanelView& /*points*/, size_t /*first*/, const QueryScan& /*query*/,
                       const int32_t* /*products*/, float /*limit*/, float* /*lowest*/) {
  return 0;
}

size_t count_up_to(std::span<const float> values, float limit) {
  return static_cast<size_t>(std::ranges::count_if(values, [&](float value) { return value <= limit; }));
}

std::pair<float, float> range_of(std::span<const float> values) {
  const auto [least, largest] = std::ranges::minmax(values);
  return {least, largest};
}

size_t keep_below(float limit, std::span<float> values, float* others, uint32_t* ids) {
  size_t left = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    values[left] = values[i];
    others[left] = others[i];
    ids[left] = ids[i];
    left += values[i] < limit;
  }
  return left;
}

#endif

// A value that at least k of the values do not exceed, and hardly more do.
float about_kth(std::span<const float> values, size_t k) {
  auto [low, high] = range_of(values);
  for (int halving = 0; halving < 12; ++halving) {
    const float middle = low + (high - low) / 2;
    const size_t count = count_up_to(values, middle);
    (count >= k ? high : low) = middle;
    if (count >= k && count <= k + k / 32) break;
  }
  return high;
}

template <size_t queries>
void scan_queries(const PanelView& points, size_t panel, const QueryScan* query, Survivors* survivors) {
  alignas(64) std::array<int32_t, queries * panel_points> products;
  alignas(64) std::array<float, panel_points> lowest;
  const size_t first = panel * panel_points;
  multiply<queries>(points.codes + first * points.groups * 4, points.groups, query, products.data());
  for (size_t q = 0; q < queries; ++q) {
    const uint64_t below =
        lowest_scores(points, first, query[q], products.data() + q * panel_points, survivors[q].limit(), lowest.data());
    if (below != 0) survivors[q].add(points, first, below, lowest, query[q]);
  }
}

}  // namespace

bool byte_products_supported() { return has_vnni(); }

void scan_panel(const PanelView& points, size_t panel, std::span<const QueryScan> queries,
                std::span<Survivors> survivors) {
  constexpr size_t together = 4;
  size_t q = 0;
  for (; q + together <= queries.size(); q += together)
    scan_queries<together>(points, panel, &queries[q], &survivors[q]);
  for (; q < queries.size(); ++q) scan_queries<1>(points, panel, &queries[q], &survivors[q]);
}

void Survivors::resize(size_t room) {
  lowest_.resize(room);
  highest_.resize(room);
  ids_.resize(room);
}

void Survivors::add(const PanelView& points, size_t first, uint64_t which, std::span<const float> lowest,
                    const QueryScan& query) {
  if (ids_.empty()) resize(4 * k_ + 2 * panel_points);
  for (; which != 0; which &= which - 1) {
    const auto i = static_cast<size_t>(std::countr_zero(which));
    lowest_[size_] = lowest[i];
    highest_[size_] = lowest[i] + 2 * query.length * points.widths[first + i];
    ids_[size_++] = points.ids[first + i];
  }
  if (size_ + panel_points <= ids_.size()) return;
  shrink(query);
  if (size_ > most_) {
    limit_ = -std::numeric_limits<float>::infinity();
    size_ = 0;
  }
  if (size_ + panel_points > ids_.size() / 2) resize(2 * ids_.size());
}

void Survivors::shrink(const QueryScan& query) {
  if (size_ < k_) return;
  const float highest = about_kth(std::span(highest_).first(size_), k_) + 2 * query.slack;
  if (highest > limit_) return;
  limit_ = highest;
  proven_ = true;
  size_ = keep_below(limit_, std::span(lowest_).first(size_), highest_.data(), ids_.data());
}

void Survivors::widen(size_t k, size_t most) {
  k_ = k;
  most_ = most;
  proven_ = false;
}

void Survivors::merge(const Survivors& other) {
  limit_ = std::min(limit_, other.limit_);
  proven_ = proven_ || other.proven_;
  resize(size_ + other.size_ + lanes);
  const auto at = static_cast<std::ptrdiff_t>(size_);
  std::copy_n(other.lowest_.begin(), other.size_, lowest_.begin() + at);
  std::copy_n(other.highest_.begin(), other.size_, highest_.begin() + at);
  std::copy_n(other.ids_.begin(), other.size_, ids_.begin() + at);
  size_ += other.size_;
}

bool Survivors::finish(const QueryScan& query) {
  shrink(query);
  return proven_ && limit_ > -std::numeric_limits<float>::infinity() && size_ <= most_;
}

}  // namespace hone
