#include "heads/neighbours_flat.h"

#include <fmt/format.h>
#include <hwy/cache_control.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/parallel.h"
#include "heads/neighbours_kernels.h"
#include "model/gathered_rows.h"
#include "model/gemm.h"

namespace hone {
namespace {

constexpr size_t tile_queries = 96;    // a task's products, [tile_queries, tile_points], stay in its core's cache
constexpr size_t batch_tiles = 16;     // so many tiles' candidates are in memory
constexpr size_t ahead = 8;            // so many candidates' points are fetched before they are compared
constexpr size_t range_points = 4096;  // at least, where points are shared out among threads

// A bound on the rounding error of ½‖x‖² − q·x as it is computed, the product in sums of 256 (gemm.cpp).
double score_error(size_t depth, double query_length, double longest) {
  constexpr double unit = 0x1p-24;
  const size_t terms = std::min<size_t>(depth, 256) + depth / 256 + 4;
  constexpr double underflow = 1e-30;
  return unit * (static_cast<double>(terms) * query_length * longest + longest * longest) + underflow;
}

// Bytes pay where there are many points, and few of them near.
constexpr size_t fewest_coded = 4096, shortest_coded = 8, longest_coded = 65536;
size_t most_candidates(size_t k) { return 16 * k + 256; }

Neighbours room_for(size_t queries, size_t k) {
  return {k, std::vector<int64_t>(queries * k), std::vector<float>(queries * k)};
}

std::span<int64_t> ids_of(Neighbours& found, size_t query) {
  return std::span(found.ids).subspan(query * found.k, found.k);
}

std::span<float> distances_of(Neighbours& found, size_t query) {
  return std::span(found.distances).subspan(query * found.k, found.k);
}

// A distance, which is not negative, and an id in one number: nearer is less, and ties go by id.
uint64_t key_of(float distance, uint32_t id) { return uint64_t{std::bit_cast<uint32_t>(distance)} << 32 | id; }

void write_nearest(std::vector<uint64_t>& keys, std::span<int64_t> ids, std::span<float> distances) {
  const auto end = keys.begin() + static_cast<std::ptrdiff_t>(ids.size());
  if (end != keys.end()) std::nth_element(keys.begin(), end, keys.end());
  std::sort(keys.begin(), end);
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<uint32_t>(keys[i]);
    distances[i] = std::bit_cast<float>(static_cast<uint32_t>(keys[i] >> 32));
  }
}

}  // namespace

void require_finite(ConstMatrixView rows, std::string_view what) {
  constexpr float largest = 1e15f;  // its square times any dimension is a float
  for (size_t i = 0; i < rows.rows; ++i)
    for (const float value : rows.row(i))
      if (!(std::abs(value) <= largest))
        throw Error(ErrorCode::bad_input, fmt::format("{}: row {} holds {}, and distances need finite numbers of at "
                                                      "most {:g}; leave the row out or mend it",
                                                      what, i, value, largest));
}

Matrix at_length_one(ConstMatrixView rows) {
  Matrix unit = Matrix::uninitialized(rows.rows, rows.cols);
  parallel_ranges(rows.rows, 64, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const double square = inner_product(rows.row(i).data(), rows.row(i).data(), rows.cols);
      const double factor = square > 0 ? 1 / std::sqrt(square) : 0;
      std::ranges::transform(rows.row(i), unit.row(i).begin(),
                             [&](float value) { return static_cast<float>(value * factor); });
    }
  });
  return unit;
}

ExactSearch::ExactSearch(ConstMatrixView points, Metric metric) : points_(points), metric_(metric), bias_(points.rows) {
  if (CodedPoints::supported() && points.rows >= fewest_coded && points.cols >= shortest_coded &&
      points.cols <= longest_coded)
    codes_.emplace(points, metric);
  if (metric == Metric::cosine) {
    longest_ = 1;
    return;
  }
  parallel_ranges(points.rows, 64, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const float* row = points.row(i).data();
      bias_[i] = static_cast<float>(inner_product(row, row, points.cols) / 2);
    }
  });
  if (!bias_.empty()) longest_ = std::sqrt(2.0 * *std::ranges::max_element(bias_)) * (1 + 0x1p-20);
}

float ExactSearch::distance(const float* query, size_t point) const {
  const float* row = points_.row(point).data();
  if (metric_ == Metric::l2) return static_cast<float>(squared_distance(query, row, points_.cols));
  return static_cast<float>(std::max(0.0, 1 - inner_product(query, row, points_.cols)));
}

void ExactSearch::by_distance(const float* query, std::span<int64_t> ids, std::span<float> distances,
                              const Watch& watch) const {
  const size_t ranges = std::clamp<size_t>(points_.rows / range_points, 1, 2 * static_cast<size_t>(threads()));
  std::vector<Least> least(ranges, Least(ids.size()));
  parallel_for(ranges, [&](size_t range) {
    watch.cancel.check();
    for (size_t i = points_.rows * range / ranges; i < points_.rows * (range + 1) / ranges; ++i)
      if (const float score = distance(query, i); score < least[range].limit())
        least[range].push({score, static_cast<uint32_t>(i)});
  });
  std::vector<uint64_t> keys;
  for (const Least& some : least)
    for (const Candidate& candidate : some.kept()) keys.push_back(key_of(candidate.score, candidate.id));
  write_nearest(keys, ids, distances);
}

void ExactSearch::by_products(ConstMatrixView queries, Neighbours& found, const Watch& watch) const {
  const size_t n = points_.rows, k = found.k, count = queries.rows;
  const PackedRows packed(queries);
  const size_t tiles = (count + tile_queries - 1) / tile_queries;
  const size_t wanted = 2 * static_cast<size_t>(threads());
  const size_t ranges = tiles >= wanted ? 1 : std::clamp<size_t>(n / range_points, 1, (wanted + tiles - 1) / tiles);
  std::vector<std::vector<Least>> least(ranges, std::vector<Least>(count, Least(std::min(n, k + k / 8 + 16))));
  parallel_for(tiles * ranges, [&](size_t task) {
    const size_t tile = task / ranges, range = task % ranges;
    const size_t begin = tile * tile_queries, some = std::min(tile_queries, count - begin);
    const size_t end = n * (range + 1) / ranges;
    Matrix products = Matrix::uninitialized(some, tile_points);
    for (size_t at = n * range / ranges; at < end; at += tile_points) {
      watch.cancel.check();
      const size_t columns = std::min(tile_points, end - at);
      const MatrixView here{products.data(), some, columns};
      linear_forward(packed, begin, some, points_.row_range(at, columns), here);
      for (size_t q = 0; q < some; ++q)
        push_scores(here.row(q).data(), &bias_[at], columns, static_cast<uint32_t>(at), least[range][begin + q]);
    }
  });
  parallel_for(count, [&](size_t q) {
    const float* query = queries.row(q).data();
    std::vector<uint64_t> keys;
    double limit = std::numeric_limits<double>::infinity();  // of the scores that are not among the candidates
    for (const std::vector<Least>& range : least) {
      for (const Candidate& candidate : range[q].kept())
        keys.push_back(key_of(distance(query, candidate.id), candidate.id));
      limit = std::min<double>(limit, range[q].limit());
    }
    write_nearest(keys, ids_of(found, q), distances_of(found, q));
    const double square = inner_product(query, query, points_.cols);
    const double nearest_score = limit - score_error(points_.cols, std::sqrt(square), longest_);
    const double bound = metric_ == Metric::l2 ? square + 2 * nearest_score : 1 + nearest_score;
    if (!(bound > distances_of(found, q)[k - 1] * (1 + 0x1p-20)))
      by_distance(query, ids_of(found, q), distances_of(found, q), watch);
  });
}

std::vector<size_t> ExactSearch::by_codes(ConstMatrixView queries, Neighbours& found, const Watch& watch) const {
  const auto candidates = codes_->candidates(queries, found.k, most_candidates(found.k), watch);
  parallel_ranges(queries.rows, 1, [&](size_t begin, size_t end) {
    std::vector<uint64_t> keys;
    for (size_t q = begin; q < end; ++q) {
      const std::vector<uint32_t>& ids = candidates[q];
      if (ids.empty()) continue;
      keys.resize(ids.size());
      for (size_t i = 0; i < ids.size(); ++i) {
        if (i + ahead < ids.size()) hwy::Prefetch(points_.row(ids[i + ahead]).data());
        keys[i] = key_of(distance(queries.row(q).data(), ids[i]), ids[i]);
      }
      write_nearest(keys, ids_of(found, q), distances_of(found, q));
    }
  });
  std::vector<size_t> undecided;
  for (size_t q = 0; q < queries.rows; ++q)
    if (candidates[q].empty()) undecided.push_back(q);
  return undecided;
}

void ExactSearch::without_codes(ConstMatrixView queries, Neighbours& found, const Watch& watch) const {
  if (queries.rows > few_queries) return by_products(queries, found, watch);
  for (size_t q = 0; q < queries.rows; ++q)
    by_distance(queries.row(q).data(), ids_of(found, q), distances_of(found, q), watch);
}

Neighbours ExactSearch::search(ConstMatrixView queries, size_t k, const Watch& watch) const {
  Neighbours found = room_for(0, k);
  found.ids.reserve(queries.rows * k);
  found.distances.reserve(queries.rows * k);
  bool coded = codes_ && most_candidates(k) <= points_.rows / 4;
  constexpr size_t batch = tile_queries * batch_tiles;
  for (size_t first = 0; first < queries.rows; first += batch) {
    watch.report("finding neighbours", first, queries.rows);
    const ConstMatrixView some = queries.row_range(first, std::min(batch, queries.rows - first));
    Neighbours part = room_for(some.rows, k);
    if (coded) {
      const std::vector<size_t> undecided = by_codes(some, part, watch);
      Neighbours rest = room_for(undecided.size(), k);
      without_codes(gather_rows(some, undecided), rest, watch);
      for (size_t i = 0; i < undecided.size(); ++i) {
        std::ranges::copy(rest.ids_of(i), ids_of(part, undecided[i]).begin());
        std::ranges::copy(rest.distances_of(i), distances_of(part, undecided[i]).begin());
      }
      coded = undecided.size() < some.rows / 2;  // otherwise the rest are hardly different
    } else {
      without_codes(some, part, watch);
    }
    found.ids.insert(found.ids.end(), part.ids.begin(), part.ids.end());
    found.distances.insert(found.distances.end(), part.distances.begin(), part.distances.end());
  }
  return found;
}

}  // namespace hone
