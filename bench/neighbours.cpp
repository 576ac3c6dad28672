// Times searches for neighbours.
//   bench_neighbours exact                         ours beside FAISS's flat index and the training of local heads on
//                                                  what was found, interleaved
//   bench_neighbours large FILE.npy|random ivf|hnsw [POINTS]
//                                                  recall and time of an approximate index on embeddings and noisy
//                                                  copies
#include <faiss/IndexFlat.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <unordered_set>

#include "base/parallel.h"
#include "base/random.h"
#include "hone/data.h"
#include "hone/neighbours.h"

namespace {

using namespace hone;

double seconds(const std::function<void()>& operation) {
  const auto start = std::chrono::steady_clock::now();
  operation();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

Matrix gaussian(size_t rows, size_t cols, const char* stream) {
  Matrix matrix = Matrix::uninitialized(rows, cols);
  RandomStream(0, stream).normals({matrix.data(), matrix.size()}, 1);
  return matrix;
}

// `epochs`: of the published Adam, ten classes; 0: nothing is trained.
void exact_beside_faiss(size_t n, size_t d, size_t queries, size_t k, int epochs) {
  constexpr int repetitions = 7;
  constexpr size_t classes = 10;
  const Matrix points = gaussian(n, d, "points"), asked = gaussian(queries, d, "queries");
  const NeighbourIndex index = NeighbourIndex::build(points);
  faiss::IndexFlatL2 flat(static_cast<faiss::Index::idx_t>(d));
  flat.add(static_cast<faiss::Index::idx_t>(n), points.data());
  std::vector<float> distances(queries * k);
  std::vector<faiss::Index::idx_t> ids(queries * k);
  LinearHead start{gaussian(classes, d, "head"), std::vector<float>(classes)};
  std::vector<int> labels(n);
  RandomStream random(0, "labels");
  for (int& label : labels) label = static_cast<int>(random.below(classes));
  LocalTraining training;
  training.solver = LocalSolver::adam;
  training.steps = epochs;
  std::vector<double> ours, theirs, trained;
  for (int i = 0; i < repetitions; ++i) {
    Neighbours found;
    ours.push_back(seconds([&] { found = index.search(asked, k); }));
    theirs.push_back(seconds([&] {
      flat.search(static_cast<faiss::Index::idx_t>(queries), asked.data(), static_cast<faiss::Index::idx_t>(k),
                  distances.data(), ids.data());
    }));
    if (epochs > 0)
      trained.push_back(seconds([&] { local_answers(start, points, labels, found.view(), asked, training); }));
  }
  const auto rate = [&](const std::vector<double>& times) { return static_cast<double>(queries) / median(times); };
  fmt::print("{:>7} {:>5} {:>8} {:>5} {:>14.0f} {:>15.0f} {:>8.2f}", n, d, queries, k, rate(ours), rate(theirs),
             median(theirs) / median(ours));
  if (epochs > 0)
    fmt::print(" {:>7} {:>14.0f} {:>16.3f}", epochs, rate(trained), median(ours) / (median(ours) + median(trained)));
  fmt::print("\n");
}

void exact() {
  fmt::print("{:>7} {:>5} {:>8} {:>5} {:>14} {:>15} {:>8} {:>7} {:>14} {:>16}\n", "points", "d", "queries", "k",
             "ours, a second", "FAISS, a second", "ratio", "epochs", "heads a second", "search's share");
  exact_beside_faiss(60000, 25, 2000, 200, 50);
  exact_beside_faiss(60000, 192, 1000, 200, 50);
  exact_beside_faiss(60000, 480, 500, 200, 200);
  exact_beside_faiss(60000, 480, 1, 200, 0);
  exact_beside_faiss(10000, 576, 1, 200, 0);
  exact_beside_faiss(100000, 384, 32, 50, 0);
  fmt::print("search's share of a query's time, search and training: at most .25 is asked\n");
}

// Every row and `copies` of it with noise, `noise` times its length.
Matrix with_copies(ConstMatrixView rows, size_t copies, double noise) {
  Matrix points = Matrix::uninitialized(rows.rows * (copies + 1), rows.cols);
  RandomStream(0, "noise").normals({points.data(), points.size()}, 1);
  parallel_for(rows.rows, [&](size_t i) {
    double square = 0;
    for (const float value : rows.row(i)) square += static_cast<double>(value) * value;
    const auto deviation = static_cast<float>(noise * std::sqrt(square / static_cast<double>(rows.cols)));
    for (size_t c = 0; c <= copies; ++c)
      for (size_t d = 0; d < rows.cols; ++d) {
        float& value = points.row(i * (copies + 1) + c)[d];
        value = rows.row(i)[d] + (c == 0 ? 0 : deviation * value);
      }
  });
  return points;
}

double recall(const Neighbours& found, const Neighbours& exact) {
  size_t hits = 0;
  for (size_t q = 0; q < exact.queries(); ++q) {
    const std::unordered_set<int64_t> ids(found.ids_of(q).begin(), found.ids_of(q).end());
    for (const int64_t id : exact.ids_of(q)) hits += ids.contains(id);
  }
  return static_cast<double>(hits) / static_cast<double>(exact.ids.size());
}

void large(const std::string& file, IndexKind kind, size_t wanted) {
  constexpr size_t queries = 500, copies = 9, k = 50;
  constexpr double noise = 0.2;
  const Matrix all = file == "random" ? gaussian(wanted / (copies + 1) + queries, 384, "embeddings") : read_npy(file);
  if (all.rows() <= queries) throw Error(ErrorCode::bad_input, fmt::format("'{}' has too few rows", file));
  const ConstMatrixView asked = all.view().row_range(0, queries);
  const size_t originals = std::min(all.rows() - queries, wanted / (copies + 1));
  const Matrix points = with_copies(all.view().row_range(queries, originals), copies, noise);
  fmt::print(
      "{} points of {}: {} embeddings, each with {} copies and noise of {} times its length; {} queries held "
      "out; cosine, k = {}\n",
      points.rows(), points.cols(), originals, copies, noise, queries, k);
  Neighbours exact;
  {
    const NeighbourIndex index = NeighbourIndex::build(points, {.metric = Metric::cosine});
    const double time = seconds([&] { exact = index.search(asked, k); });
    fmt::print("flat: {:.2f} ms a query, all at once\n", 1000 * time / queries);
  }
  double building = 0;
  const NeighbourIndex index = [&] {
    std::optional<NeighbourIndex> built;
    building = seconds([&] { built = NeighbourIndex::build(points, {.kind = kind, .metric = Metric::cosine}); });
    return std::move(*built);
  }();
  const NeighbourOptions& options = index.options();
  fmt::print("{}: built in {:.0f} s; {}; effort {}, recall of a sample of the points {:.4f}\n", name(kind), building,
             kind == IndexKind::ivf ? fmt::format("{} lists", options.lists) : fmt::format("{} links", options.links),
             options.effort, options.recall);
  fmt::print("{:>8} {:>10} {:>22} {:>22}\n", "effort", "recall@50", "ms a query, all at once", "one at a time");
  for (size_t effort = std::max<size_t>(options.effort / 4, 1); effort <= 4 * options.effort; effort *= 2) {
    Neighbours found;
    const double together = seconds([&] { found = index.search(asked, k, {}, effort); });
    std::vector<double> single;
    for (size_t q = 0; q < 100; ++q)
      single.push_back(seconds([&] { index.search(asked.row_range(q, 1), k, {}, effort); }));
    fmt::print("{:>8} {:>10.4f} {:>22.2f} {:>22.2f}{}\n", effort, recall(found, exact), 1000 * together / queries,
               1000 * median(single), effort == options.effort ? "  (chosen)" : "");
  }
}

}  // namespace

int main(int count, char** values) {
  const std::vector<std::string> arguments(values + 1, values + count);
  try {
    if (arguments.size() == 1 && arguments[0] == "exact")
      exact();
    else if (arguments.size() >= 3 && arguments[0] == "large")
      large(arguments[1], index_kind_named(arguments[2]), arguments.size() > 3 ? std::stoul(arguments[3]) : 1000000);
    else
      throw Error(ErrorCode::bad_input, "usage: bench_neighbours exact | large FILE.npy|random ivf|hnsw [POINTS]");
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
