#include "heads/locality.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "heads/checks.h"
#include "heads/scores.h"

namespace hone {
namespace {

// A head's means over points, head by head.
struct Means {
  std::vector<double> accuracy, log_loss;

  void add(const LinearHead& head, ConstMatrixView x, std::span<const int> truth) {
    if (truth.empty()) return;
    const Matrix log_p = log_probabilities(head, x);
    double right = 0, loss = 0;
    for (size_t i = 0; i < truth.size(); ++i) {
      const auto row = log_p.row(i);
      const bool sound = is_finite(row);
      right += sound && std::ranges::max_element(row) - row.begin() == truth[i] ? 1 : 0;
      loss -= sound ? static_cast<double>(row[static_cast<size_t>(truth[i])]) : -INFINITY;
    }
    accuracy.push_back(right / static_cast<double>(truth.size()));
    log_loss.push_back(loss / static_cast<double>(truth.size()));
  }
};

}  // namespace

void measure_locality(const LinearHead& global, ConstMatrixView x, std::span<const int> y, const Neighbours& teachers,
                      ConstMatrixView queries, std::span<const int> truth, const LocalTraining& training,
                      const ClassifyOptions& options, const Watch& watch, Classification& result) {
  constexpr size_t heads_at_once = 64;
  const std::vector<size_t> sample =
      RandomStream(options.seed, "locality").draw(queries.rows, std::min(options.locality_queries, queries.rows));
  std::vector<int64_t> ids;
  for (const size_t q : sample) ids.insert(ids.end(), teachers.ids_of(q).begin(), teachers.ids_of(q).end());
  Means own, elsewhere;
  const size_t k = teachers.k;
  for (size_t first = 0; first < sample.size(); first += heads_at_once) {
    watch.report("locality", first, sample.size());
    const size_t count = std::min(heads_at_once, sample.size() - first);
    const NeighbourIds some{std::span(ids).subspan(first * k, count * k), k};
    const std::vector<LinearHead> heads = local_heads(global, x, y, some, training, watch);
    for (size_t h = 0; h < count; ++h) {
      watch.cancel.check();
      Matrix seen = Matrix::uninitialized(k, x.cols);
      std::vector<int> labels;
      for (const int64_t id : some.of(h)) {
        if (id < 0) continue;
        std::ranges::copy(x.row(static_cast<size_t>(id)), seen.row(labels.size()).begin());
        labels.push_back(y[static_cast<size_t>(id)]);
      }
      own.add(heads[h], seen.view().row_range(0, labels.size()), labels);
      elsewhere.add(heads[h], queries, truth);
    }
  }
  result.own_accuracy = mean_interval(own.accuracy, options.seed);
  result.own_log_loss = mean_interval(own.log_loss, options.seed);
  result.elsewhere_accuracy = mean_interval(elsewhere.accuracy, options.seed);
  result.elsewhere_log_loss = mean_interval(elsewhere.log_loss, options.seed);
}

}  // namespace hone
