#include "hone/neighbours.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_set>

#include "base/random.h"
#include "heads/neighbours_impl.h"

namespace hone {
namespace {

size_t default_lists(size_t n) {
  return std::clamp<size_t>(static_cast<size_t>(4 * std::sqrt(static_cast<double>(n))), 1, n);
}

void check(ConstMatrixView points, const NeighbourOptions& options) {
  if (points.rows == 0 || points.cols == 0)
    throw Error(ErrorCode::bad_input, fmt::format("points [{}, {}]: there is nothing to search; give at least one "
                                                  "point of one value",
                                                  points.rows, points.cols));
  const size_t most =
      options.kind == IndexKind::flat ? std::numeric_limits<uint32_t>::max() : std::numeric_limits<int32_t>::max();
  if (points.rows > most)
    throw Error(ErrorCode::unsupported,
                fmt::format("{} points; a {} index holds at most {}", points.rows, name(options.kind), most));
  if (options.lists > points.rows)
    throw Error(ErrorCode::bad_input,
                fmt::format("lists: {} for {} points; a list needs at least one", options.lists, points.rows));
  if (options.links < 2 || options.links > most_links)
    throw Error(ErrorCode::bad_input, fmt::format("links: {} is not between 2 and {}", options.links, most_links));
  if (!(options.recall > 0 && options.recall <= 1))
    throw Error(ErrorCode::bad_input, fmt::format("recall: {} is not in (0, 1]", options.recall));
  require_finite(points, "points");
}

// The share of the sample's nearest others that a search with this effort finds.
double recall_of(const ApproximateSearch& search, const Neighbours& exact, ConstMatrixView queries,
                 std::span<const int64_t> own, size_t effort, const Watch& watch) {
  const Neighbours found = search.search(queries, exact.k, effort, watch);
  size_t hits = 0, all = 0;
  for (size_t q = 0; q < queries.rows; ++q) {
    const auto ids = found.ids_of(q);
    const std::unordered_set<int64_t> seen(ids.begin(), ids.end());
    for (const int64_t id : exact.ids_of(q)) {
      if (id == own[q]) continue;
      ++all;
      hits += seen.contains(id);
    }
  }
  return all == 0 ? 1 : static_cast<double>(hits) / static_cast<double>(all);
}

// Sets options.effort, and options.recall to what the sample then has.
void choose_effort(const ApproximateSearch& search, ConstMatrixView points, NeighbourOptions& options,
                   const Watch& watch) {
  constexpr size_t sample = 256, neighbours = 50;
  const size_t count = std::min(sample, points.rows);
  RandomStream random(options.seed, "sample for recall");
  std::vector<int64_t> own;
  Matrix queries = Matrix::uninitialized(count, points.cols);
  for (size_t q = 0; q < count; ++q) {
    own.push_back(static_cast<int64_t>(random.below(points.rows)));
    std::ranges::copy(points.row(static_cast<size_t>(own[q])), queries.row(q).begin());
  }
  const Watch quiet{.progress = {}, .cancel = watch.cancel};
  const size_t k = std::min(neighbours + 1, points.rows);
  const Neighbours exact = ExactSearch(points, options.metric).search(queries, k, quiet);
  const size_t most = options.kind == IndexKind::ivf ? options.lists : points.rows;
  double recall = 0;
  for (size_t effort = options.kind == IndexKind::ivf ? 1 : std::min(k, most);; effort = std::min(2 * effort, most)) {
    watch.report("choosing the effort", effort, most);
    options.effort = effort;
    recall = recall_of(search, exact, queries, own, effort, quiet);
    if (recall >= options.recall || effort >= most) break;
  }
  options.recall = recall;
}

}  // namespace

std::string_view name(Metric metric) { return metric == Metric::l2 ? "l2" : "cosine"; }

std::string_view name(IndexKind kind) {
  switch (kind) {
    case IndexKind::flat: return "flat";
    case IndexKind::ivf: return "ivf";
    case IndexKind::hnsw: return "hnsw";
  }
  return "";
}

Metric metric_named(std::string_view text) {
  for (const Metric metric : {Metric::l2, Metric::cosine})
    if (name(metric) == text) return metric;
  throw Error(ErrorCode::bad_input, fmt::format("there is no metric '{}'; there are l2 and cosine", text));
}

IndexKind index_kind_named(std::string_view text) {
  for (const IndexKind kind : {IndexKind::flat, IndexKind::ivf, IndexKind::hnsw})
    if (name(kind) == text) return kind;
  throw Error(ErrorCode::bad_input, fmt::format("there is no index '{}'; there are flat, ivf and hnsw", text));
}

Neighbours Neighbours::nearest(size_t count) const {
  count = std::min(count, k);
  Neighbours some{count, {}, {}};
  for (size_t q = 0; q < queries(); ++q) {
    const auto near = ids_of(q).first(count);
    const auto how_near = distances_of(q).first(count);
    some.ids.insert(some.ids.end(), near.begin(), near.end());
    some.distances.insert(some.distances.end(), how_near.begin(), how_near.end());
  }
  return some;
}

NeighbourIndex::NeighbourIndex(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NeighbourIndex::NeighbourIndex(NeighbourIndex&&) noexcept = default;
NeighbourIndex& NeighbourIndex::operator=(NeighbourIndex&&) noexcept = default;
NeighbourIndex::~NeighbourIndex() = default;

size_t NeighbourIndex::size() const { return impl_->size; }
size_t NeighbourIndex::dimension() const { return impl_->dimension; }
const NeighbourOptions& NeighbourIndex::options() const { return impl_->options; }
ConstMatrixView NeighbourIndex::points() const { return impl_->points; }

NeighbourIndex NeighbourIndex::build(ConstMatrixView points, const NeighbourOptions& options, const Watch& watch) {
  check(points, options);
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->size = points.rows;
  impl->dimension = points.cols;
  if (options.metric == Metric::cosine) impl->points = at_length_one(points);
  if (options.kind == IndexKind::flat) {
    if (options.metric == Metric::l2) {
      impl->points = Matrix::uninitialized(points.rows, points.cols);
      std::copy_n(points.data, points.rows * points.cols, impl->points.data());
    }
    impl->exact.emplace(impl->points, options.metric);
    return NeighbourIndex(std::move(impl));
  }
  const ConstMatrixView rows = options.metric == Metric::cosine ? impl->points.view() : points;
  if (options.kind == IndexKind::ivf && options.lists == 0) impl->options.lists = default_lists(points.rows);
  impl->approximate = ApproximateSearch::build(rows, impl->options, watch);
  if (options.effort == 0) choose_effort(*impl->approximate, rows, impl->options, watch);
  impl->points = Matrix();
  return NeighbourIndex(std::move(impl));
}

Neighbours NeighbourIndex::search(ConstMatrixView queries, size_t k, const Watch& watch, size_t effort) const {
  if (queries.cols != impl_->dimension)
    throw Error(ErrorCode::bad_input,
                fmt::format("queries: they have {} values, the points have {}", queries.cols, impl_->dimension));
  if (k == 0 || k > impl_->size)
    throw Error(ErrorCode::bad_input,
                fmt::format("neighbours: {} of {} points; ask for between 1 and {}", k, impl_->size, impl_->size));
  require_finite(queries, "queries");
  if (effort == 0) effort = impl_->options.effort;
  if (impl_->options.metric == Metric::cosine) return impl_->search(at_length_one(queries), k, effort, watch);
  return impl_->search(queries, k, effort, watch);
}

}  // namespace hone
