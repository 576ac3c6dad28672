#include "heads/scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "heads/checks.h"

namespace hone {

void check_truth(std::span<const int> truth, size_t classes) {
  for (size_t q = 0; q < truth.size(); ++q)
    if (truth[q] < 0 || static_cast<size_t>(truth[q]) >= classes)
      refuse(fmt::format("the label of query {} is {}, not in 0 … {}", q, truth[q], classes - 1));
}

Matrix log_probabilities(const LinearHead& head, ConstMatrixView x) {
  Matrix logits = head.logits(x);
  log_softmax(logits);
  return logits;
}

decide::Interval mean_interval(std::span<const double> values, uint64_t seed) {
  constexpr size_t draws = 2000;
  if (values.empty()) return {};
  if (std::ranges::all_of(values, [](double value) { return std::isfinite(value); }))
    return decide::bootstrap_mean(values, seed, draws);
  const double sum = std::reduce(values.begin(), values.end());
  return {sum, sum, sum};
}

std::vector<ClassifyScore> score_answers(std::span<const Answers> answers, std::span<const int> truth, uint64_t seed,
                                         const Watch& watch) {
  if (answers.empty() || truth.empty()) refuse("there are no answers to score");
  const size_t queries = truth.size();
  std::vector<ClassifyScore> scores;
  std::vector<double> base_right, base_loss;
  for (const Answers& way : answers) {
    watch.report("scores", scores.size(), answers.size());
    const Matrix& log_p = way.log_probabilities;
    if (log_p.rows() != queries) refuse(fmt::format("{}: {} answers to {} queries", way.name, log_p.rows(), queries));
    if (log_p.cols() != answers[0].log_probabilities.cols())
      refuse(fmt::format("{}: answers of {} classes, the first way's are of {}", way.name, log_p.cols(),
                         answers[0].log_probabilities.cols()));
    check_truth(truth, log_p.cols());
    constexpr size_t bins = 15;
    std::vector<double> right(queries), loss(queries), bin_confidence(bins), bin_right(bins);
    ClassifyScore score;
    score.name = way.name;
    score.worst_bits = -INFINITY;
    for (size_t q = 0; q < queries; ++q) {
      const auto row = log_p.row(q);
      const auto best = std::ranges::max_element(row);
      const bool sound = is_finite(row);
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
    score.accuracy = decide::share_interval(static_cast<size_t>(std::ranges::count(right, 1.0)), queries);
    score.log_loss = mean_interval(loss, seed);
    if (scores.empty()) {
      base_right = right;
      base_loss = loss;
    }
    for (size_t q = 0; q < queries; ++q) {
      right[q] -= base_right[q];
      loss[q] -= base_loss[q];
    }
    watch.cancel.check();
    score.accuracy_gain = mean_interval(right, seed);
    watch.cancel.check();
    score.log_loss_gain = mean_interval(loss, seed);
    score.queries_per_second = static_cast<double>(queries) / std::max(way.seconds, 1e-9);
    scores.push_back(std::move(score));
  }
  return scores;
}

}  // namespace hone
