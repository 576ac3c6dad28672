#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/parallel.h"
#include "heads/checks.h"
#include "heads/local_trainer.h"

namespace hone {
namespace {

// Points that no query has for a neighbour are not looked at.
void check_neighbours(std::span<const int64_t> ids, ConstMatrixView x, std::span<const int> y, size_t classes) {
  check_sizes(x, y, classes);
  std::vector<bool> seen(x.rows);
  for (const int64_t id : ids) {
    if (id == -1) continue;
    if (id < 0 || id >= static_cast<int64_t>(x.rows))
      refuse(fmt::format("neighbours: {} is no row of the {} points (−1 marks an absent one)", id, x.rows));
    const auto i = static_cast<size_t>(id);
    if (!seen[i]) check_point(x, y, classes, i);
    seen[i] = true;
  }
}

void check_start(const LinearHead& start, ConstMatrixView x) {
  if (start.dimension() != x.cols || start.bias.size() != start.classes())
    refuse(fmt::format("head: has {} features and {} biases for {} classes; the points have {} features",
                       start.dimension(), start.bias.size(), start.classes(), x.cols));
  if (!is_finite(start.bias) || !is_finite(start.weights))
    refuse(
        "head: the head to start from has weights that are not finite: it diverged; fit it with a smaller learning "
        "rate or fewer steps, or scale the features");
}

// Calls body(worker, i) for every i in [0, count); each thread makes one worker.
template <class Make, class Body>
void run_trainers(size_t count, std::string_view stage, const Watch& watch, const Make& make, const Body& body) {
  constexpr size_t batch = 256;  // between two reports of progress
  std::vector<std::unique_ptr<decltype(make())>> workers(std::min<size_t>(static_cast<size_t>(threads()), count));
  for (size_t first = 0; first < count; first += batch) {
    watch.report(stage, first, count);
    std::atomic<size_t> next = first;
    const size_t end = std::min(first + batch, count);
    parallel_for(workers.size(), [&](size_t w) {
      if (!workers[w]) workers[w].reset(new auto(make()));
      for (size_t i = next++; i < end; i = next++) {
        watch.cancel.check();
        body(*workers[w], i);
      }
    });
  }
  watch.report(stage, count, count);
}

}  // namespace

std::vector<int> checkpoints_of(const LocalTraining& training) {
  if (training.steps < 0) refuse(fmt::format("local training: steps is {}; give 0 or more", training.steps));
  if (training.solver == LocalSolver::adam && !(training.learning_rate > 0 && std::isfinite(training.learning_rate)))
    refuse(fmt::format("local training: learning_rate is {}; give a positive number", training.learning_rate));
  if (training.solver == LocalSolver::lbfgs && !(training.ridge >= 0 && std::isfinite(training.ridge)))
    refuse(fmt::format("local training: ridge is {}; give 0 or more", training.ridge));
  if (training.checkpoints.empty()) return {training.steps};
  const auto& checkpoints = training.checkpoints;
  if (checkpoints.front() < 0 || checkpoints.back() > training.steps ||
      std::ranges::adjacent_find(checkpoints, std::greater_equal<>()) != checkpoints.end())
    refuse(fmt::format("local training: checkpoints must ascend from 0 or more to at most steps, {}; they are {}",
                       training.steps, fmt::join(checkpoints, ", ")));
  return checkpoints;
}

LocalAnswers local_answers(const LinearHead& start, ConstMatrixView x, std::span<const int> y,
                           const NeighbourIds& neighbours, ConstMatrixView queries, const LocalTraining& training,
                           bool left_out, const Watch& watch) {
  check_neighbours(neighbours.ids, x, y, start.classes());
  check_start(start, x);
  if (queries.cols != x.cols) refuse(fmt::format("queries: {} features, but the points have {}", queries.cols, x.cols));
  check_finite(queries, "queries");
  if (neighbours.k == 0 || neighbours.ids.size() != queries.rows * neighbours.k)
    refuse(fmt::format("neighbours: {} ids are not {} for each of {} queries", neighbours.ids.size(), neighbours.k,
                       queries.rows));
  const size_t checkpoints = checkpoints_of(training).size();
  LocalAnswers answers;
  for (size_t j = 0; j < checkpoints; ++j) answers.logits.emplace_back(queries.rows, start.classes());
  if (left_out) answers.left_out = Matrix(queries.rows, checkpoints);

  struct Worker {
    LocalTrainer trainer;
    std::vector<float*> logits;
  };
  run_trainers(
      queries.rows, "local heads", watch,
      [&] {
        return Worker{LocalTrainer(start, x, y, neighbours.k, training, left_out), std::vector<float*>(checkpoints)};
      },
      [&](Worker& worker, size_t q) {
        for (size_t j = 0; j < checkpoints; ++j) worker.logits[j] = answers.logits[j].row(q).data();
        worker.trainer.answer(neighbours.of(q), queries.row(q), worker.logits,
                              left_out ? answers.left_out.row(q).data() : nullptr);
      });
  return answers;
}

std::vector<LinearHead> local_heads(const LinearHead& start, ConstMatrixView x, std::span<const int> y,
                                    const NeighbourIds& neighbours, const LocalTraining& training, const Watch& watch) {
  check_neighbours(neighbours.ids, x, y, start.classes());
  check_start(start, x);
  if (neighbours.k == 0 || neighbours.ids.size() % neighbours.k != 0)
    refuse(fmt::format("neighbours: {} ids are not {} for each head", neighbours.ids.size(), neighbours.k));
  LocalTraining whole = training;
  whole.checkpoints.clear();
  std::vector<LinearHead> heads(neighbours.queries());
  run_trainers(
      heads.size(), "local heads", watch, [&] { return LocalTrainer(start, x, y, neighbours.k, whole, false); },
      [&](LocalTrainer& trainer, size_t i) { heads[i] = trainer.head(neighbours.of(i)); });
  return heads;
}

}  // namespace hone
