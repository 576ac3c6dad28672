#include "heads/neighbours_flat.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "heads/neighbours_kernels.h"
#include "model/gemm.h"

namespace hone {
namespace {

constexpr size_t tile_queries = 96;    // a task's products, [tile_queries, tile_points], stay in its core's cache
constexpr size_t tile_points = 512;    //
constexpr size_t batch_tiles = 16;     // so many tiles' candidates are in memory
constexpr size_t few_queries = 3;      // for fewer than this and one the products' vector lanes would be empty
constexpr size_t range_points = 4096;  // at least, where points are shared out among threads

// A bound on the rounding error of ½‖x‖² − q·x as it is computed, the product in sums of 256 (gemm.cpp).
double score_error(size_t depth, double query_length, double longest) {
  constexpr double unit = 0x1p-24;
  const double terms = static_cast<double>(std::min<size_t>(depth, 256) + depth / 256 + 4);
  constexpr double underflow = 1e-30;
  return unit * (terms * query_length * longest + longest * longest) + underflow;
}

void write(std::span<const Candidate> nearest, std::span<int64_t> ids, std::span<float> distances) {
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = nearest[i].id;
    distances[i] = nearest[i].score;
  }
}

void sort_least(std::vector<Candidate>& candidates, size_t count) {
  std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(count), candidates.end());
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
  std::vector<Candidate> all;
  for (const Least& some : least) all.insert(all.end(), some.kept().begin(), some.kept().end());
  sort_least(all, ids.size());
  write(all, ids, distances);
}

void ExactSearch::by_products(ConstMatrixView queries, size_t first, size_t count, Neighbours& found,
                              const Watch& watch) const {
  const size_t n = points_.rows, k = found.k;
  const PackedRows packed(queries.row_range(first, count));
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
    const float* query = queries.row(first + q).data();
    const auto ids = std::span(found.ids).subspan((first + q) * k, k);
    const auto distances = std::span(found.distances).subspan((first + q) * k, k);
    std::vector<Candidate> all;
    double limit = std::numeric_limits<double>::infinity();  // of the scores that are not among the candidates
    for (const std::vector<Least>& range : least) {
      for (const Candidate& candidate : range[q].kept()) all.push_back({distance(query, candidate.id), candidate.id});
      limit = std::min<double>(limit, range[q].limit());
    }
    sort_least(all, k);
    const double square = inner_product(query, query, points_.cols);
    const double nearest_score = limit - score_error(points_.cols, std::sqrt(square), longest_);
    const double bound = metric_ == Metric::l2 ? square + 2 * nearest_score : 1 + nearest_score;
    if (bound > all[k - 1].score * (1 + 0x1p-20))
      write(all, ids, distances);
    else
      by_distance(query, ids, distances, watch);
  });
}

Neighbours ExactSearch::search(ConstMatrixView queries, size_t k, const Watch& watch) const {
  Neighbours found{k, std::vector<int64_t>(queries.rows * k), std::vector<float>(queries.rows * k)};
  constexpr size_t batch = tile_queries * batch_tiles;
  for (size_t first = 0; first < queries.rows; first += batch) {
    watch.report("finding neighbours", first, queries.rows);
    const size_t count = std::min(batch, queries.rows - first);
    if (count > few_queries) {
      by_products(queries, first, count, found, watch);
      continue;
    }
    for (size_t q = first; q < first + count; ++q)
      by_distance(queries.row(q).data(), std::span(found.ids).subspan(q * k, k),
                  std::span(found.distances).subspan(q * k, k), watch);
  }
  return found;
}

}  // namespace hone
