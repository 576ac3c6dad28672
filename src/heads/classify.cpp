#include "hone/classify.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/parallel.h"
#include "base/random.h"
#include "heads/checks.h"
#include "heads/locality.h"
#include "heads/scores.h"
#include "heads/votes.h"

namespace hone {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void check(ConstMatrixView x, std::span<const int> y, size_t classes, ConstMatrixView queries,
           std::span<const int> truth, const ClassifyOptions& options) {
  check_points(x, y, classes);
  check_finite(queries, "queries");
  if (queries.rows == 0) refuse("there are no queries to classify");
  if (queries.cols != x.cols)
    refuse(fmt::format("queries have {} features, the training points {}", queries.cols, x.cols));
  if (truth.size() != queries.rows) refuse(fmt::format("{} labels for {} queries", truth.size(), queries.rows));
  check_truth(truth, classes);
  if (options.folds < 2) refuse(fmt::format("folds is {}; give 2 or more", options.folds));
  for (const auto& [name, k] :
       {std::pair("neighbours", options.neighbours), {"votes", std::max<size_t>(options.votes, 1)}})
    if (k == 0 || k > x.rows) refuse(fmt::format("{} is {}; give 1 to {}, the training points", name, k, x.rows));
  if (options.sift_pool > 0 && (options.sift_pool < options.neighbours || options.sift_pool > x.rows))
    refuse(fmt::format("the SIFT pool is {}; give {} (neighbours) to {} (training points)", options.sift_pool,
                       options.neighbours, x.rows));
  if (options.known_experts &&
      (options.known_experts->dimension() != x.cols || options.known_experts->classes() != classes))
    refuse(fmt::format("the experts are of {} features and {} classes, the training points of {} and {}",
                       options.known_experts->dimension(), options.known_experts->classes(), x.cols, classes));
  if (options.experts > x.rows) refuse(fmt::format("{} experts for {} training points", options.experts, x.rows));
}

std::vector<int> path_of(const LocalTraining& training) {
  std::vector<int> path = {0};
  for (int64_t decade = 1; decade < training.steps; decade *= 10)
    for (const int64_t step : {decade, 2 * decade, 5 * decade})
      if (step < training.steps) path.push_back(static_cast<int>(step));
  if (training.steps > 0) path.push_back(training.steps);
  return path;
}

// The first `count` neighbours of each of `points` outside its fold; one that has fewer ends in absent ones.
Neighbours outside_fold(const Neighbours& found, std::span<const int64_t> points, std::span<const int> fold,
                        size_t count) {
  Neighbours outside{count, std::vector<int64_t>(points.size() * count, -1),
                     std::vector<float>(points.size() * count, std::numeric_limits<float>::infinity())};
  for (size_t p = 0; p < points.size(); ++p) {
    const auto ids = found.ids_of(p);
    const int own = fold[static_cast<size_t>(points[p])];
    for (size_t i = 0, to = p * count; i < ids.size() && to < (p + 1) * count; ++i) {
      if (ids[i] < 0 || fold[static_cast<size_t>(ids[i])] == own) continue;
      outside.ids[to] = ids[i];
      outside.distances[to++] = found.distances_of(p)[i];
    }
  }
  return outside;
}

// All but the last neighbour of each of `points`, or all but the point itself where it is among them.
Neighbours without_themselves(const Neighbours& found, std::span<const int64_t> points) {
  Neighbours others{found.k - 1, {}, {}};
  for (size_t p = 0; p < points.size(); ++p) {
    const auto ids = found.ids_of(p);
    const auto own = std::min<std::ptrdiff_t>(std::ranges::find(ids, points[p]) - ids.begin(), std::ssize(ids) - 1);
    for (std::ptrdiff_t i = 0; i < std::ssize(ids); ++i) {
      if (i == own) continue;
      others.ids.push_back(ids[static_cast<size_t>(i)]);
      others.distances.push_back(found.distances_of(p)[static_cast<size_t>(i)]);
    }
  }
  return others;
}

// The same neighbours, nearest first; of equally near ones the one with the smaller id.
Neighbours nearest_first(const Neighbours& found) {
  Neighbours sorted = found;
  std::vector<std::pair<float, int64_t>> order(found.k);
  for (size_t q = 0; q < found.queries(); ++q) {
    const auto ids = found.ids_of(q);
    const auto distances = found.distances_of(q);
    for (size_t i = 0; i < found.k; ++i) order[i] = {distances[i], ids[i]};
    std::ranges::sort(order);
    for (size_t i = 0; i < found.k; ++i) {
      sorted.distances[q * found.k + i] = order[i].first;
      sorted.ids[q * found.k + i] = order[i].second;
    }
  }
  return sorted;
}

class Classifier {
 public:
  Classifier(ConstMatrixView x, std::span<const int> y, size_t classes, const ClassifyOptions& options,
             const Watch& watch)
      : x_(x),
        y_(y),
        classes_(classes),
        options_(options),
        watch_(watch),
        training_(options.training),
        head_(chosen_head()),
        global_(options.published_head ? fit_head_adam(x, y, classes, options.adam, watch)
                                       : fit_head(x, y, classes, head_, watch)),
        index_(NeighbourIndex::build(x, options.index, watch)),
        votes_{options.votes, options.votes} {
    if (training_.checkpoints.empty()) training_.checkpoints = path_of(training_);
    draw_pseudo_queries();
    learn_prior();
    if (options.votes == 0) learn_votes();
  }

  double ridge() const { return head_.ridge; }
  const LinearHead& global() const { return global_; }
  const LocalTraining& training() const { return training_; }
  const CheckpointPrior& prior() const { return prior_; }
  const NeighbourIndex& index() const { return index_; }
  size_t votes(Vote vote) const { return votes_[static_cast<size_t>(vote)]; }

  // Those that local heads are trained on.
  Neighbours teachers(ConstMatrixView queries) const {
    if (options_.sift_pool == 0) return index_.search(queries, options_.neighbours, watch_);
    return sift(x_, queries, index_.search(queries, options_.sift_pool, watch_), sift_options(), watch_);
  }
  // In batches, so that no more than one batch's answers at all checkpoints are in memory.
  LocalMixture mixture(ConstMatrixView queries, const Neighbours& neighbours) const {
    constexpr size_t batch = 4096;
    LocalMixture all{Matrix(queries.rows, classes_), Matrix(queries.rows, prior_.weights.size()), prior_.bound_bits()};
    for (size_t first = 0; first < queries.rows; first += batch) {
      const size_t count = std::min(batch, queries.rows - first);
      const NeighbourIds some{std::span(neighbours.ids).subspan(first * neighbours.k, count * neighbours.k),
                              neighbours.k};
      const LocalMixture part = mix_checkpoints(
          local_answers(global_, x_, y_, some, queries.row_range(first, count), training_, prior_.trust > 0, watch_),
          prior_);
      for (size_t q = 0; q < count; ++q) {
        std::ranges::copy(part.log_probabilities.row(q), all.log_probabilities.row(first + q).begin());
        std::ranges::copy(part.weights.row(q), all.weights.row(first + q).begin());
      }
    }
    return all;
  }

 private:
  SiftOptions sift_options() const {
    return {.count = options_.neighbours,
            .noise = options_.sift_noise,
            .normalize = options_.index.metric == Metric::cosine};
  }
  HeadFit chosen_head() const {
    HeadFit head = options_.head;
    if (!options_.ridges.empty())
      head.ridge = choose_ridge(x_, y_, classes_, options_.ridges, head, options_.seed, watch_);
    return head;
  }
  // Training points ask in place of queries; their neighbours are found as a query's are.
  void draw_pseudo_queries() {
    const size_t n = x_.rows;
    const std::vector<size_t> drawn =
        RandomStream(options_.seed, "pseudo-queries").draw(n, std::min(n, options_.pseudo_queries));
    pseudo_.assign(drawn.begin(), drawn.end());
    asked_ = Matrix::uninitialized(pseudo_.size(), x_.cols);
    for (size_t i = 0; i < pseudo_.size(); ++i)
      std::ranges::copy(x_.row(static_cast<size_t>(pseudo_[i])), asked_.row(i).begin());
  }
  void learn_prior() {
    const size_t n = x_.rows, wanted = std::max(options_.neighbours, options_.sift_pool);
    const int folds = static_cast<int>(std::min<size_t>(static_cast<size_t>(options_.folds), n));
    const CrossFit cross = cross_fit(x_, y_, classes_, folds, head_, options_.seed, watch_);
    Neighbours near =
        outside_fold(index_.search(asked_, std::min(n, 2 * wanted + 20), watch_), pseudo_, cross.fold, wanted);
    if (!near.ids.empty() && std::ranges::all_of(near.ids, [](int64_t id) { return id < 0; }))
      refuse(
          fmt::format("no training point has a neighbour outside its fold, so that how far to train cannot be "
                      "learned; give more than {} points or an index that finds more",
                      n));
    if (options_.sift_pool > 0) near = sift(x_, asked_, near, sift_options(), watch_);
    prior_ = checkpoint_prior(cross, x_, y_, pseudo_, near.view(), near.k, training_, options_.floor, watch_);
  }
  void learn_votes() {
    constexpr size_t most = 100;
    const Neighbours others = without_themselves(index_.search(asked_, std::min(x_.rows, most + 1), watch_), pseudo_);
    for (const Vote vote : {Vote::majority, Vote::by_distance})
      votes_[static_cast<size_t>(vote)] = choose_votes(y_, classes_, pseudo_, others, options_.index.metric, vote);
  }

  ConstMatrixView x_;
  std::span<const int> y_;
  size_t classes_;
  const ClassifyOptions& options_;
  const Watch& watch_;
  LocalTraining training_;
  HeadFit head_;
  LinearHead global_;
  NeighbourIndex index_;
  std::vector<int64_t> pseudo_;  // rows of x
  Matrix asked_;                 // [pseudo-queries, d]
  CheckpointPrior prior_;
  std::array<size_t, 2> votes_;  // k of each Vote
};

}  // namespace

Classification classify(ConstMatrixView x, std::span<const int> y, size_t classes, ConstMatrixView queries,
                        std::span<const int> truth, const ClassifyOptions& options, const Watch& watch) {
  check(x, y, classes, queries, truth, options);
  Classification result;
  auto start = Clock::now();
  const Classifier classifier(x, y, classes, options, watch);
  result.fit_seconds = seconds_since(start);
  result.prior = classifier.prior();
  result.ridge = classifier.ridge();
  result.checkpoints = classifier.training().checkpoints;

  const auto add = [&](std::string name, Matrix log_p, double seconds) {
    result.answers.push_back({std::move(name), std::move(log_p), seconds});
  };
  start = Clock::now();
  add("global", log_probabilities(classifier.global(), queries), 0);
  result.answers.back().seconds = seconds_since(start);

  // `searched` is what finding the voters took.
  const auto add_votes = [&](std::string name, Vote vote, const Neighbours& voters, double searched) {
    start = Clock::now();
    Matrix log_p = vote_log_probabilities(y, classes, voters, options.index.metric, vote);
    add(std::move(name), std::move(log_p), searched + seconds_since(start));
  };
  const auto add_nearest_votes = [&](std::string name, Vote vote, size_t k) {
    start = Clock::now();
    const Neighbours voters = classifier.index().search(queries, k, watch);
    add_votes(std::move(name), vote, voters, seconds_since(start));
  };
  result.majority_votes = classifier.votes(Vote::majority);
  result.distance_votes = classifier.votes(Vote::by_distance);
  add_nearest_votes("majority vote", Vote::majority, result.majority_votes);
  add_nearest_votes("distance-weighted vote", Vote::by_distance, result.distance_votes);

  start = Clock::now();
  const Neighbours teachers = classifier.teachers(queries);
  const double taught = seconds_since(start);
  Neighbours sorted;  // SIFT's stand in the order of choice
  if (options.sift_pool > 0) sorted = nearest_first(teachers);
  const Neighbours& voters = options.sift_pool > 0 ? sorted : teachers;
  add_votes("majority vote, local k", Vote::majority, voters, taught);
  add_votes("distance-weighted vote, local k", Vote::by_distance, voters, taught);

  start = Clock::now();
  LocalTraining to_the_end = classifier.training();
  to_the_end.checkpoints = {to_the_end.steps};
  LocalAnswers last = local_answers(classifier.global(), x, y, teachers.view(), queries, to_the_end, false, watch);
  log_softmax(last.logits.front());
  add("local", std::move(last.logits.front()), taught + seconds_since(start));

  start = Clock::now();
  LocalMixture mixture = classifier.mixture(queries, teachers);
  add("hone", std::move(mixture.log_probabilities), taught + seconds_since(start));
  result.weights = std::move(mixture.weights);

  const Experts* experts = options.known_experts;
  if (!experts && options.experts > 0) {
    start = Clock::now();
    ExpertOptions expert_options;
    expert_options.experts = options.experts;
    expert_options.neighbours = options.neighbours;
    expert_options.training = to_the_end;
    expert_options.seed = options.seed;
    experts =
        &result.experts.emplace(Experts::fit(classifier.global(), x, y, classifier.index(), expert_options, watch));
    result.fit_seconds += seconds_since(start);
  }
  if (experts) {
    start = Clock::now();
    Matrix logits = experts->logits(queries, watch);
    log_softmax(logits);
    add("experts", std::move(logits), seconds_since(start));
  }
  measure_locality(classifier.global(), x, y, teachers, queries, truth, to_the_end, options, watch, result);
  return result;
}

}  // namespace hone
