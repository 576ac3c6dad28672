#include "heads/neighbours_faiss.h"

#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/io.h>
#include <faiss/index_io.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "base/random.h"
#include "heads/neighbours_faiss_file.h"
#include "heads/neighbours_flat.h"
#include "heads/neighbours_lists.h"

namespace hone {
namespace {

using Id = faiss::Index::idx_t;
static_assert(sizeof(Id) == sizeof(int64_t));

constexpr size_t points_a_list = 64;  // that k-means sees

Id as_id(size_t value) { return static_cast<Id>(value); }

struct StringWriter : faiss::IOWriter {
  explicit StringWriter(std::string& string) : bytes(string) {}
  size_t operator()(const void* from, size_t size, size_t items) override {
    bytes.append(static_cast<const char*>(from), size * items);
    return items;
  }
  std::string& bytes;
};

// body(), whose complaints become ours.
template <class Body>
auto by_faiss(const Body& body) {
  try {
    return body();
  } catch (const faiss::FaissException& error) {
    throw Error(ErrorCode::unsupported, fmt::format("neighbours: FAISS says: {}; try the flat index", error.what()));
  }
}

void append_index(const faiss::Index& index, std::string& bytes) {
  StringWriter writer(bytes);
  by_faiss([&] { faiss::write_index(&index, &writer); });
}

// FAISS's similarities become distances; every query's neighbours are brought into the order of distance and id.
void put_in_order(Neighbours& found, Metric metric) {
  parallel_for(found.queries(), [&](size_t q) {
    std::vector<std::pair<float, int64_t>> all(found.k);
    for (size_t i = 0; i < found.k; ++i) {
      const int64_t id = found.ids[q * found.k + i];
      const float value = found.distances[q * found.k + i];
      const float distance = metric == Metric::l2 ? value : std::max(0.0f, 1 - value);
      all[i] = id < 0 ? std::pair{std::numeric_limits<float>::infinity(), int64_t{-1}} : std::pair{distance, id};
    }
    std::ranges::sort(all);
    for (size_t i = 0; i < found.k; ++i) {
      found.distances[q * found.k + i] = all[i].first;
      found.ids[q * found.k + i] = all[i].second;
    }
  });
}

// FAISS's lists. Which of them a query looks into, and what is nearest there, is our own search.
class InvertedLists final : public ApproximateSearch {
 public:
  InvertedLists(std::unique_ptr<faiss::IndexIVFFlat> index, Metric metric)
      : index_(std::move(index)),
        metric_(metric),
        centroids_(centroids_of(*index_), metric),
        lists_(lists_of(*index_), metric) {}

  // The index owns its quantizer.
  static std::unique_ptr<faiss::IndexIVFFlat> trained(ConstMatrixView centroids, Metric metric) {
    std::unique_ptr<faiss::Index> quantizer;
    if (metric == Metric::l2)
      quantizer = std::make_unique<faiss::IndexFlatL2>(as_id(centroids.cols));
    else
      quantizer = std::make_unique<faiss::IndexFlatIP>(as_id(centroids.cols));
    quantizer->add(as_id(centroids.rows), centroids.data);
    auto index =
        std::make_unique<faiss::IndexIVFFlat>(quantizer.get(), centroids.cols, centroids.rows, faiss_metric(metric));
    static_cast<void>(quantizer.release());  // the index owns it now
    index->own_fields = true;
    index->is_trained = true;
    return index;
  }

  void add(ConstMatrixView points, const Watch& watch) {
    constexpr size_t batch = 1 << 15;
    for (size_t first = 0; first < points.rows; first += batch) {
      watch.report("filling lists", first, points.rows);
      const ConstMatrixView some = points.row_range(first, std::min(batch, points.rows - first));
      const Neighbours lists = centroids_.search(some, 1, {.progress = {}, .cancel = watch.cancel});
      by_faiss([&] {
        for (size_t i = 0; i < some.rows; ++i)
          index_->invlists->add_entry(static_cast<size_t>(lists.ids[i]), as_id(first + i),
                                      reinterpret_cast<const uint8_t*>(some.row(i).data()));
      });
      index_->ntotal += as_id(some.rows);
    }
    lists_ = ListSearch(lists_of(*index_), metric_);
  }

  Neighbours search(ConstMatrixView queries, size_t k, size_t effort, const Watch& watch) const override {
    const size_t lists = std::min(effort, index_->nlist);
    Neighbours found{k, {}, {}};
    const size_t batch = lists_.batch(k);
    for (size_t first = 0; first < queries.rows; first += batch) {
      watch.report("finding neighbours", first, queries.rows);
      const ConstMatrixView some = queries.row_range(first, std::min(batch, queries.rows - first));
      const Watch quiet{.progress = {}, .cancel = watch.cancel};
      const Neighbours part = lists_.search(some, centroids_.search(some, lists, quiet), k, quiet);
      found.ids.insert(found.ids.end(), part.ids.begin(), part.ids.end());
      found.distances.insert(found.distances.end(), part.distances.begin(), part.distances.end());
    }
    return found;
  }

  void append_to(std::string& bytes) const override { append_index(*index_, bytes); }

 private:
  static ConstMatrixView centroids_of(const faiss::IndexIVFFlat& index) {
    const auto& flat = dynamic_cast<const faiss::IndexFlat&>(*index.quantizer);
    return {flat.get_xb(), static_cast<size_t>(flat.ntotal), static_cast<size_t>(flat.d)};
  }
  static std::vector<PointList> lists_of(const faiss::IndexIVFFlat& index) {
    std::vector<PointList> lists;
    for (size_t l = 0; l < index.nlist; ++l) {
      const auto* points = reinterpret_cast<const float*>(index.invlists->get_codes(l));
      lists.push_back(
          {{points, index.invlists->list_size(l), static_cast<size_t>(index.d)}, index.invlists->get_ids(l)});
    }
    return lists;
  }

  std::unique_ptr<faiss::IndexIVFFlat> index_;
  Metric metric_;
  ExactSearch centroids_;
  ListSearch lists_;
};

class Graph final : public ApproximateSearch {
 public:
  Graph(std::unique_ptr<faiss::IndexHNSW> index, Metric metric) : index_(std::move(index)), metric_(metric) {}

  void add(ConstMatrixView points, const Watch& watch) {
    constexpr size_t batch = 1 << 12;
    for (size_t first = 0; first < points.rows; first += batch) {
      watch.report("linking points", first, points.rows);
      const ConstMatrixView some = points.row_range(first, std::min(batch, points.rows - first));
      by_faiss([&] { index_->add(as_id(some.rows), some.data); });
    }
  }

  Neighbours search(ConstMatrixView queries, size_t k, size_t effort, const Watch& watch) const override {
    Neighbours found{k, std::vector<int64_t>(queries.rows * k), std::vector<float>(queries.rows * k)};
    faiss::SearchParametersHNSW parameters;
    // A walk that keeps every point keeps no more.
    parameters.efSearch = static_cast<int>(std::min(std::max(effort, k), static_cast<size_t>(index_->ntotal)));
    constexpr size_t batch = 1024;
    for (size_t first = 0; first < queries.rows; first += batch) {
      watch.report("finding neighbours", first, queries.rows);
      const ConstMatrixView some = queries.row_range(first, std::min(batch, queries.rows - first));
      by_faiss([&] {
        index_->search(as_id(some.rows), some.data, as_id(k), &found.distances[first * k], &found.ids[first * k],
                       &parameters);
      });
    }
    put_in_order(found, metric_);
    return found;
  }

  void append_to(std::string& bytes) const override { append_index(*index_, bytes); }

 private:
  std::unique_ptr<faiss::IndexHNSW> index_;
  Metric metric_;
};

// A part of the points in their order, each as likely as any other.
Matrix sample(ConstMatrixView points, size_t count, uint64_t seed) {
  RandomStream random(seed, "points for lists");
  Matrix some = Matrix::uninitialized(count, points.cols);
  for (size_t i = 0, taken = 0; taken < count; ++i)
    if (random.below(points.rows - i) < count - taken) std::ranges::copy(points.row(i), some.row(taken++).begin());
  return some;
}

}  // namespace

std::unique_ptr<ApproximateSearch> ApproximateSearch::build(ConstMatrixView points, const NeighbourOptions& options,
                                                            const Watch& watch) {
  if (options.kind == IndexKind::ivf) {
    const Matrix some = sample(points, std::min(points.rows, points_a_list * options.lists), options.seed);
    const Matrix centroids = kmeans(some, options.lists, options.metric, 10, options.seed, watch);
    auto lists = std::make_unique<InvertedLists>(InvertedLists::trained(centroids, options.metric), options.metric);
    lists->add(points, watch);
    return lists;
  }
  auto index = by_faiss([&] {
    return std::make_unique<faiss::IndexHNSWFlat>(static_cast<int>(points.cols), static_cast<int>(options.links),
                                                  faiss_metric(options.metric));
  });
  index->hnsw.efConstruction = static_cast<int>(4 * options.links);
  auto graph = std::make_unique<Graph>(std::move(index), options.metric);
  graph->add(points, watch);
  return graph;
}

std::unique_ptr<ApproximateSearch> ApproximateSearch::read(std::span<const std::byte> bytes,
                                                           const NeighbourOptions& options, size_t n, size_t d) {
  if (options.kind == IndexKind::ivf)
    return std::make_unique<InvertedLists>(read_lists(bytes, options, n, d), options.metric);
  return std::make_unique<Graph>(read_graph(bytes, options, n, d), options.metric);
}

}  // namespace hone
