// What FAISS does not look at when it reads: whether a search would stay inside what was read.
#include "heads/neighbours_faiss_file.h"

#include <faiss/IndexFlat.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/io.h>
#include <faiss/index_io.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "heads/neighbours_faiss_layout.h"
#include "heads/neighbours_flat.h"

namespace hone {
namespace {

struct SpanReader : faiss::IOReader {
  explicit SpanReader(std::span<const std::byte> all) : rest(all) {}
  size_t operator()(void* to, size_t size, size_t items) override {
    if (size == 0 || items == 0) return 0;
    const size_t whole = std::min(items, rest.size() / size);
    std::memcpy(to, rest.data(), whole * size);
    rest = rest.subspan(whole * size);
    return whole;
  }
  std::span<const std::byte> rest;
};

Error damaged(std::string_view why) { return {ErrorCode::corrupt, fmt::format("its index {}", why)}; }

// The points of a flat index of FAISS's, which shall be n points of d values.
ConstMatrixView flat_points(const faiss::Index* points, size_t n, size_t d) {
  const auto* flat = dynamic_cast<const faiss::IndexFlat*>(points);
  if (!flat || static_cast<size_t>(flat->ntotal) != n || static_cast<size_t>(flat->d) != d ||
      flat->codes.size() != n * d * sizeof(float))
    throw damaged("lacks points");
  return {flat->get_xb(), n, d};
}

// Every point is in one of the lists.
void check_lists(const faiss::IndexIVFFlat& index, size_t count) {
  const auto* lists = dynamic_cast<const faiss::ArrayInvertedLists*>(index.invlists);
  const auto n = static_cast<size_t>(index.ntotal), d = static_cast<size_t>(index.d);
  if (!lists || index.nlist != count || lists->nlist != count || lists->ids.size() != count ||
      lists->codes.size() != count || lists->code_size != d * sizeof(float) || index.code_size != lists->code_size)
    throw damaged("is not inverted lists");
  require_finite(flat_points(index.quantizer, count, d), "centroids");
  std::vector<bool> seen(n);
  size_t points = 0;
  for (size_t list = 0; list < count; ++list) {
    const auto& ids = lists->ids[list];
    if (lists->codes[list].size() != ids.size() * lists->code_size) throw damaged("lacks points");
    require_finite({reinterpret_cast<const float*>(lists->codes[list].data()), ids.size(), d}, "points of a list");
    for (const int64_t id : ids) {
      if (id < 0 || static_cast<size_t>(id) >= n || seen[static_cast<size_t>(id)])
        throw damaged("has a list of points that are not there");
      seen[static_cast<size_t>(id)] = true;
    }
    points += ids.size();
  }
  if (points != n) throw damaged("lacks points");
}

// Links lead to points of the same level, and where the walk begins there is one.
void check_graph(const faiss::IndexHNSW& index) {
  const faiss::HNSW& graph = index.hnsw;
  const auto n = static_cast<size_t>(index.ntotal);
  const auto& places = graph.cum_nneighbor_per_level;  // of a point's links, level by level
  require_finite(flat_points(index.storage, n, static_cast<size_t>(index.d)), "points");
  const faiss::HNSW usual;
  if (index.storage->metric_type != index.metric_type || graph.upper_beam != usual.upper_beam ||
      graph.efSearch != usual.efSearch || graph.levels.size() != n || graph.offsets.size() != n + 1 ||
      graph.offsets.front() != 0 || graph.offsets.back() != graph.neighbors.size() || places.empty() ||
      places.front() != 0 || !std::ranges::is_sorted(places))
    throw damaged("is not a graph");
  const auto levels_of = [&](int64_t point) { return graph.levels[static_cast<size_t>(point)]; };
  for (size_t i = 0; i < n; ++i) {
    const int levels = graph.levels[i];
    if (levels < 1 || static_cast<size_t>(levels) >= places.size() || graph.offsets[i + 1] < graph.offsets[i] ||
        graph.offsets[i + 1] - graph.offsets[i] != static_cast<size_t>(places[static_cast<size_t>(levels)]))
      throw damaged("has links of no point");
  }
  for (size_t i = 0; i < n; ++i)
    for (int level = 0; level < graph.levels[i]; ++level) {
      const auto from = static_cast<size_t>(places[static_cast<size_t>(level)]);
      const auto to = static_cast<size_t>(places[static_cast<size_t>(level) + 1]);
      for (const int64_t link : std::span(graph.neighbors).subspan(graph.offsets[i] + from, to - from))
        if (link < -1 || link >= index.ntotal || (link >= 0 && levels_of(link) <= level))
          throw damaged("has links to no point");
    }
  if (graph.entry_point < 0 || graph.entry_point >= index.ntotal || graph.max_level < 0 ||
      graph.max_level >= levels_of(graph.entry_point))
    throw damaged("has no beginning");
}

// Of bytes whose layout was checked.
std::unique_ptr<faiss::Index> read_index(std::span<const std::byte> bytes, const NeighbourOptions& options, size_t n,
                                         size_t d) {
  SpanReader reader(bytes);
  std::unique_ptr<faiss::Index> index;
  try {
    index.reset(faiss::read_index(&reader));
  } catch (const faiss::FaissException&) {
    throw damaged("cannot be read");
  }
  if (!reader.rest.empty()) throw damaged("is followed by other bytes");
  if (static_cast<size_t>(index->ntotal) != n || static_cast<size_t>(index->d) != d ||
      index->metric_type != faiss_metric(options.metric))
    throw damaged("is of other points than the header says");
  return index;
}

template <class Wanted>
std::unique_ptr<Wanted> as(std::unique_ptr<faiss::Index> index) {
  auto* wanted = dynamic_cast<Wanted*>(index.get());
  if (!wanted) throw damaged("is of another kind");
  static_cast<void>(index.release());
  return std::unique_ptr<Wanted>(wanted);
}

}  // namespace

faiss::MetricType faiss_metric(Metric metric) {
  return metric == Metric::l2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
}

std::unique_ptr<faiss::IndexIVFFlat> read_lists(std::span<const std::byte> bytes, const NeighbourOptions& options,
                                                size_t n, size_t d) {
  check_layout_of_lists(bytes, n, d, options.lists);
  auto lists = as<faiss::IndexIVFFlat>(read_index(bytes, options, n, d));
  check_lists(*lists, options.lists);
  return lists;
}

std::unique_ptr<faiss::IndexHNSW> read_graph(std::span<const std::byte> bytes, const NeighbourOptions& options,
                                             size_t n, size_t d) {
  check_layout_of_graph(bytes, n, d);
  auto graph = as<faiss::IndexHNSW>(read_index(bytes, options, n, d));
  check_graph(*graph);
  return graph;
}

}  // namespace hone
