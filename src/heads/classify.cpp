#include "hone/classify.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "base/random.h"
#include "heads/checks.h"
#include "heads/votes.h"

namespace hone {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

[[noreturn]] void refuse(std::string message) { throw Error(ErrorCode::bad_input, std::move(message)); }

void check(ConstMatrixView x, std::span<const int> y, size_t classes, ConstMatrixView queries,
           std::span<const int> truth, const ClassifyOptions& options) {
  check_points(x, y, classes);
  check_finite(queries, "queries");
  if (queries.rows == 0) refuse("there are no queries to classify");
  if (queries.cols != x.cols)
    refuse(fmt::format("queries have {} features, the training points {}", queries.cols, x.cols));
  if (truth.size() != queries.rows) refuse(fmt::format("{} labels for {} queries", truth.size(), queries.rows));
  for (const auto& [name, k] : {std::pair("neighbours", options.neighbours), {"votes", options.votes}})
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
  for (int decade = 1; decade < training.steps; decade *= 10)
    for (const int step : {decade, 2 * decade, 5 * decade})
      if (step < training.steps) path.push_back(step);
  path.push_back(training.steps);
  return path;
}

// The first `count` neighbours of each of `points` outside its fold, or as many as all have.
Neighbours outside_fold(const Neighbours& found, std::span<const int64_t> points, std::span<const int> fold,
                        size_t count) {
  std::vector<std::vector<size_t>> kept(points.size());
  for (size_t p = 0; p < points.size(); ++p) {
    const auto ids = found.ids_of(p);
    const int own = fold[static_cast<size_t>(points[p])];
    for (size_t i = 0; i < ids.size() && kept[p].size() < count; ++i)
      if (ids[i] >= 0 && fold[static_cast<size_t>(ids[i])] != own) kept[p].push_back(i);
    count = std::min(count, kept[p].size());
  }
  Neighbours outside{count, {}, {}};
  for (size_t p = 0; p < points.size(); ++p)
    for (size_t i = 0; i < count; ++i) {
      outside.ids.push_back(found.ids_of(p)[kept[p][i]]);
      outside.distances.push_back(found.distances_of(p)[kept[p][i]]);
    }
  return outside;
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
        index_(NeighbourIndex::build(x, options.index, watch)) {
    if (training_.checkpoints.empty()) training_.checkpoints = path_of(training_);
    learn_prior();
  }

  double ridge() const { return head_.ridge; }
  const LinearHead& global() const { return global_; }
  const LocalTraining& training() const { return training_; }
  const CheckpointPrior& prior() const { return prior_; }
  const NeighbourIndex& index() const { return index_; }

  // Those that local heads are trained on.
  Neighbours teachers(ConstMatrixView queries) const {
    if (options_.sift_pool == 0) return index_.search(queries, options_.neighbours, watch_);
    return sift(x_, queries, index_.search(queries, options_.sift_pool, watch_), sift_options(), watch_);
  }
  LocalAnswers local(ConstMatrixView queries, const Neighbours& neighbours) const {
    return local_answers(global_, x_, y_, neighbours.view(), queries, training_, prior_.trust > 0, watch_);
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
  void learn_prior() {
    const size_t n = x_.rows, wanted = std::max(options_.neighbours, options_.sift_pool);
    const int folds = static_cast<int>(std::min<size_t>(static_cast<size_t>(options_.folds), n));
    const CrossFit cross = cross_fit(x_, y_, classes_, folds, head_, options_.seed, watch_);
    std::vector<int64_t> pseudo(n);
    std::iota(pseudo.begin(), pseudo.end(), 0);
    RandomStream random(options_.seed, "pseudo-queries");
    for (size_t i = 0; i + 1 < n; ++i) std::swap(pseudo[i], pseudo[i + random.below(n - i)]);
    pseudo.resize(std::min(n, options_.pseudo_queries));
    Matrix asked = Matrix::uninitialized(pseudo.size(), x_.cols);
    for (size_t i = 0; i < pseudo.size(); ++i)
      std::ranges::copy(x_.row(static_cast<size_t>(pseudo[i])), asked.row(i).begin());
    Neighbours near =
        outside_fold(index_.search(asked, std::min(n, 2 * wanted + 20), watch_), pseudo, cross.fold, wanted);
    if (near.k == 0)
      refuse(
          fmt::format("a training point has no neighbour outside its fold, so that how far to train cannot be "
                      "learned; give more than {} points",
                      n));
    if (options_.sift_pool > 0) near = sift(x_, asked, near, sift_options(), watch_);
    prior_ = checkpoint_prior(cross, x_, y_, pseudo, near.view(), near.k, training_, options_.floor, watch_);
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
  CheckpointPrior prior_;
};

// Sums over points of how a head answers them.
struct Tally {
  size_t right = 0, points = 0;
  double loss = 0;

  void add(ConstMatrixView log_probabilities, std::span<const int> truth) {
    for (size_t i = 0; i < log_probabilities.rows; ++i) {
      const auto row = log_probabilities.row(i);
      right += std::ranges::max_element(row) - row.begin() == truth[i];
      loss -= row[static_cast<size_t>(truth[i])];
      ++points;
    }
  }
  double accuracy() const { return static_cast<double>(right) / static_cast<double>(points); }
  double log_loss() const { return loss / static_cast<double>(points); }
};

Matrix log_probabilities(const LinearHead& head, ConstMatrixView x) {
  Matrix logits = head.logits(x);
  log_softmax(logits);
  return logits;
}

// Local heads where they were not meant to be used.
void measure_locality(const LinearHead& global, ConstMatrixView x, std::span<const int> y, const Neighbours& teachers,
                      ConstMatrixView queries, std::span<const int> truth, const LocalTraining& training,
                      size_t used_elsewhere, const Watch& watch, Classification& result) {
  constexpr size_t heads_at_once = 64;
  Tally own, elsewhere;
  const size_t k = teachers.k;
  for (size_t first = 0; first < queries.rows; first += heads_at_once) {
    watch.report("locality", first, queries.rows);
    const size_t count = std::min(heads_at_once, queries.rows - first);
    const NeighbourIds some{std::span(teachers.ids).subspan(first * k, count * k), k};
    const std::vector<LinearHead> heads = local_heads(global, x, y, some, training, watch);
    for (size_t q = 0; q < count; ++q) {
      Matrix seen = Matrix::uninitialized(k, x.cols);
      std::vector<int> labels;
      for (const int64_t id : some.of(q)) {
        if (id < 0) continue;
        std::ranges::copy(x.row(static_cast<size_t>(id)), seen.row(labels.size()).begin());
        labels.push_back(y[static_cast<size_t>(id)]);
      }
      own.add(log_probabilities(heads[q], seen.view().row_range(0, labels.size())), labels);
      if (first + q < used_elsewhere) elsewhere.add(log_probabilities(heads[q], queries), truth);
    }
  }
  result.own_accuracy = own.accuracy();
  result.own_log_loss = own.log_loss();
  result.elsewhere_accuracy = elsewhere.points ? elsewhere.accuracy() : 0;
  result.elsewhere_log_loss = elsewhere.points ? elsewhere.log_loss() : 0;
}

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

  start = Clock::now();
  const Neighbours voters = classifier.index().search(queries, options.votes, watch);
  const double searched = seconds_since(start);
  for (const Vote vote : {Vote::majority, Vote::by_distance}) {
    start = Clock::now();
    Matrix log_p = vote_log_probabilities(y, classes, voters, vote);
    add(vote == Vote::majority ? "majority vote" : "distance-weighted vote", std::move(log_p),
        searched + seconds_since(start));
  }

  start = Clock::now();
  const Neighbours teachers = classifier.teachers(queries);
  const double taught = seconds_since(start);
  start = Clock::now();
  LocalTraining to_the_end = classifier.training();
  to_the_end.checkpoints = {to_the_end.steps};
  LocalAnswers last = local_answers(classifier.global(), x, y, teachers.view(), queries, to_the_end, false, watch);
  log_softmax(last.logits.front());
  add("local", std::move(last.logits.front()), taught + seconds_since(start));

  start = Clock::now();
  LocalMixture mixture = mix_checkpoints(classifier.local(queries, teachers), classifier.prior());
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
  measure_locality(classifier.global(), x, y, teachers, queries, truth, to_the_end,
                   std::min(options.locality_queries, queries.rows), watch, result);
  return result;
}

namespace {

bool finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

decide::Interval interval_of(std::span<const double> values, uint64_t seed) {
  if (std::ranges::all_of(values, [](double value) { return std::isfinite(value); }))
    return decide::bootstrap_mean(values, seed);
  const double sum = std::reduce(values.begin(), values.end());
  return {sum, sum, sum};
}

}  // namespace

std::vector<ClassifyScore> score_answers(std::span<const Answers> answers, std::span<const int> truth, uint64_t seed) {
  if (answers.empty() || truth.empty()) refuse("there are no answers to score");
  const size_t queries = truth.size();
  std::vector<ClassifyScore> scores;
  std::vector<double> base_right, base_loss;
  for (const Answers& way : answers) {
    const Matrix& log_p = way.log_probabilities;
    if (log_p.rows() != queries) refuse(fmt::format("{}: {} answers to {} queries", way.name, log_p.rows(), queries));
    constexpr size_t bins = 15;
    std::vector<double> right(queries), loss(queries), bin_confidence(bins), bin_right(bins);
    ClassifyScore score;
    score.name = way.name;
    score.worst_bits = -INFINITY;
    for (size_t q = 0; q < queries; ++q) {
      const auto row = log_p.row(q);
      const auto best = std::ranges::max_element(row);
      if (truth[q] < 0 || static_cast<size_t>(truth[q]) >= row.size())
        refuse(fmt::format("the label of query {} is {}, not in 0 … {}", q, truth[q], row.size() - 1));
      const bool sound = finite(row);
      right[q] = sound && best - row.begin() == truth[q] ? 1 : 0;
      loss[q] = sound ? -static_cast<double>(row[static_cast<size_t>(truth[q])]) : INFINITY;
      const double confidence = sound ? std::exp(static_cast<double>(*best)) : 1;
      const size_t bin = std::min(bins - 1, static_cast<size_t>(confidence * bins));
      bin_confidence[bin] += confidence;
      bin_right[bin] += right[q];
      if (!sound) score.worst_bits = INFINITY;
      for (size_t c = 0; c < row.size(); ++c)
        score.worst_bits = std::max(
            score.worst_bits, (static_cast<double>(answers[0].log_probabilities.row(q)[c]) - row[c]) / std::log(2.0));
    }
    for (size_t b = 0; b < bins; ++b)
      score.calibration_error += std::fabs(bin_right[b] - bin_confidence[b]) / static_cast<double>(queries);
    score.accuracy = interval_of(right, seed);
    score.log_loss = interval_of(loss, seed);
    if (scores.empty()) {
      base_right = right;
      base_loss = loss;
    }
    for (size_t q = 0; q < queries; ++q) {
      right[q] -= base_right[q];
      loss[q] -= base_loss[q];
    }
    score.accuracy_gain = interval_of(right, seed);
    score.log_loss_gain = interval_of(loss, seed);
    score.queries_per_second = static_cast<double>(queries) / std::max(way.seconds, 1e-9);
    scores.push_back(std::move(score));
  }
  return scores;
}

}  // namespace hone
