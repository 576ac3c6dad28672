#include "heads/neighbours_lists.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include "base/parallel.h"
#include "model/gathered_rows.h"
#include "model/gemm.h"

namespace hone {
namespace {

constexpr size_t most_held = 1 << 22;  // candidates in memory

size_t kept_of(size_t k) { return k + k / 8 + 16; }

}  // namespace

ListSearch::ListSearch(std::vector<PointList> lists, Metric metric)
    : lists_(std::move(lists)), metric_(metric), first_{0} {
  for (const PointList& list : lists_) first_.push_back(first_.back() + static_cast<uint32_t>(list.points.rows));
  bias_.resize(first_.back());
  if (metric_ == Metric::cosine) return;
  parallel_for(lists_.size(), [&](size_t l) {
    const ConstMatrixView points = lists_[l].points;
    for (size_t i = 0; i < points.rows; ++i) {
      const float* row = points.row(i).data();
      bias_[first_[l] + i] = static_cast<float>(inner_product(row, row, points.cols) / 2);
    }
  });
}

void ListSearch::scan(size_t list, ConstMatrixView queries, std::span<const size_t> asking,
                      std::vector<Least>& least) const {
  const ConstMatrixView points = lists_[list].points;
  const uint32_t first = first_[list];
  if (asking.size() <= few_queries) {
    for (const size_t q : asking)
      for (size_t i = 0; i < points.rows; ++i) {
        const double product = inner_product(queries.row(q).data(), points.row(i).data(), points.cols);
        const auto score = static_cast<float>(bias_[first + i] - product);
        if (score < least[q].limit()) least[q].push({score, first + static_cast<uint32_t>(i)});
      }
    return;
  }
  const PackedRows packed(gather_rows(queries, asking));
  Matrix products = Matrix::uninitialized(asking.size(), tile_points);
  for (size_t at = 0; at < points.rows; at += tile_points) {
    const size_t columns = std::min(tile_points, points.rows - at);
    const MatrixView here{products.data(), asking.size(), columns};
    linear_forward(packed, 0, asking.size(), points.row_range(at, columns), here);
    for (size_t a = 0; a < asking.size(); ++a)
      push_scores(here.row(a).data(), &bias_[first + at], columns, first + static_cast<uint32_t>(at), least[asking[a]]);
  }
}

std::pair<float, int64_t> ListSearch::neighbour(const float* query, uint32_t point) const {
  const size_t list = static_cast<size_t>(std::ranges::upper_bound(first_, point) - first_.begin()) - 1;
  const ConstMatrixView points = lists_[list].points;
  const size_t row = point - first_[list];
  const float* x = points.row(row).data();
  const double distance = metric_ == Metric::l2 ? squared_distance(query, x, points.cols)
                                                : std::max(0.0, 1 - inner_product(query, x, points.cols));
  return {static_cast<float>(distance), lists_[list].ids[row]};
}

size_t ListSearch::parts() const { return std::min(lists_.size(), 2 * static_cast<size_t>(threads())); }

size_t ListSearch::batch(size_t k) const {
  return std::clamp<size_t>(most_held / (2 * kept_of(k) * std::max<size_t>(parts(), 1)), 32, 1024);
}

Neighbours ListSearch::search(ConstMatrixView queries, const Neighbours& where, size_t k, const Watch& watch) const {
  std::vector<std::vector<size_t>> asking(lists_.size());
  for (size_t q = 0; q < queries.rows; ++q)
    for (const int64_t list : where.ids_of(q)) asking[static_cast<size_t>(list)].push_back(q);

  std::vector<std::vector<Least>> least(parts(), std::vector<Least>(queries.rows, Least(kept_of(k))));
  parallel_for(least.size(), [&](size_t part) {
    for (size_t list = part; list < lists_.size(); list += least.size()) {
      watch.cancel.check();
      if (!asking[list].empty() && lists_[list].points.rows > 0) scan(list, queries, asking[list], least[part]);
    }
  });

  Neighbours found{k, std::vector<int64_t>(queries.rows * k, -1),
                   std::vector<float>(queries.rows * k, std::numeric_limits<float>::infinity())};
  parallel_ranges(queries.rows, 1, [&](size_t begin, size_t end) {
    std::vector<std::pair<float, int64_t>> all;
    for (size_t q = begin; q < end; ++q) {
      all.clear();
      for (const std::vector<Least>& part : least)
        for (const Candidate& candidate : part[q].kept()) all.push_back(neighbour(queries.row(q).data(), candidate.id));
      const size_t some = std::min(k, all.size());
      std::ranges::partial_sort(all, all.begin() + static_cast<std::ptrdiff_t>(some));
      for (size_t i = 0; i < some; ++i) std::tie(found.distances[q * k + i], found.ids[q * k + i]) = all[i];
    }
  });
  return found;
}

}  // namespace hone
