#include "lab/stream_rules.h"

#include <Eigen/Dense>
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "hone/selectors.h"

namespace hone::lab {
namespace {

void add(RuleResult& result, const Choice& choice) {
  result.predictions.push_back(choice.prediction);
  result.steps.push_back(choice.steps);
}

// How much each task before task i counts, all alike or only those whose residuals are about as large.
std::vector<double> earlier_weights(const RuleStream& stream, size_t i, bool alike) {
  std::vector<double> weights(i, 1);
  for (size_t j = 0; alike && j < i; ++j) {
    const double apart = (stream.prepared[j].energy - stream.prepared[i].energy) / alike_width;
    weights[j] = std::exp(-apart * apart / 2);
  }
  return weights;
}

void add_scaled(std::vector<double>& total, double factor, std::span<const double> values) {
  for (size_t t = 0; t < total.size(); ++t) total[t] += factor * values[t];
}

// [tasks][T]: squared errors at the query.
std::vector<std::vector<double>> query_errors(const RuleStream& stream) {
  std::vector<std::vector<double>> errors(stream.tasks.size());
  for (size_t i = 0; i < errors.size(); ++i)
    for (const double prediction : stream.prepared[i].predictions)
      errors[i].push_back(stream.squared_error(i, prediction));
  return errors;
}

}  // namespace

// The prompt's own evidence counts for the prior too: its labels are known.
RuleResult pooled_prior(const RuleStream& stream) {
  RuleResult result{"pooled prior", Sees::stream, false, {}, {}};
  decide::StepPrior prior(std::vector<double>(stream.steps.size(), 1));
  for (const PreparedTask& task : stream.prepared) {
    prior.observe(task.mle, 1);
    add(result, weighed(stream, task, soft_least(task.mle, prior.prior())));
  }
  return result;
}

RuleResult pooled_bayes_filter(const RuleStream& stream) {
  RuleResult result{"pooled Bayes filter", Sees::stream, false, {}, {}};
  decide::StepPrior prior(std::vector<double>(stream.prepared.front().ridge.size(), 1));
  for (const PreparedTask& task : stream.prepared) {
    prior.observe(task.ridge_losses, 1);
    result.predictions.push_back(weighted_sum(soft_least(task.ridge_losses, prior.prior()), task.ridge));
  }
  return result;
}

// The T of the least sum of this task's own error and those of the tasks before, which with few before count as they
// are.
RuleResult pooled_left_out(const RuleStream& stream, std::string name, bool alike) {
  RuleResult result{std::move(name), Sees::stream, false, {}, {}};
  for (size_t i = 0; i < stream.tasks.size(); ++i) {
    std::vector<double> total = stream.prepared[i].left_out;
    const std::vector<double> weights = earlier_weights(stream, i, alike);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    const double factor = sum > pooled_weight ? pooled_weight / sum : 1;
    for (size_t j = 0; j < i; ++j) add_scaled(total, factor * weights[j], stream.prepared[j].left_out);
    add(result, least(stream, stream.prepared[i], total, total.size()));
  }
  return result;
}

RuleResult best_so_far(const RuleStream& stream, std::string name, bool alike) {
  RuleResult result{std::move(name), Sees::truths, false, {}, {}};
  const std::vector<std::vector<double>> errors = query_errors(stream);
  for (size_t i = 0; i < stream.tasks.size(); ++i) {
    std::vector<double> total(stream.steps.size());
    const std::vector<double> weights = earlier_weights(stream, i, alike);
    for (size_t j = 0; j < i; ++j) add_scaled(total, weights[j], errors[j]);
    add(result, least(stream, stream.prepared[i], total, total.size()));
  }
  return result;
}

// Recursive least squares (Plackett 1950).
RuleResult stacked(const RuleStream& stream, std::string name, std::span<const std::vector<double>> predictions) {
  constexpr double noise = 0.1;
  const auto size = static_cast<Eigen::Index>(predictions.size());
  Eigen::MatrixXd covariance = Eigen::MatrixXd::Identity(size, size);
  Eigen::VectorXd coefficients = Eigen::VectorXd::Zero(size), corrections(size);
  RuleResult result{std::move(name), Sees::truths, false, {}, {}};
  for (size_t i = 0; i < stream.tasks.size(); ++i) {
    const StepTask& task = stream.tasks[i];
    for (Eigen::Index f = 0; f < size; ++f) corrections(f) = predictions[static_cast<size_t>(f)][i] - task.base;
    const double moved = coefficients.dot(corrections);
    result.predictions.push_back(task.base + moved);
    const Eigen::VectorXd gain = covariance * corrections;
    const double spread = noise + corrections.dot(gain);
    coefficients += gain / spread * (task.target - task.base - moved);
    covariance -= gain * gain.transpose() / spread;
  }
  return result;
}

PooledSignal pooled_signal(const RuleStream& stream) {
  struct Signal {
    double noise, signal;  // σ², τ²
  };
  std::vector<Signal> grid;
  for (int s = 0; s <= 12; ++s) {  // σ² from 1e-4 to 1, τ² 0 and from 1e-3 to 10
    const double noise = std::pow(10, -4 + s / 3.0);
    grid.push_back({noise, 0});
    for (int u = 0; u <= 12; ++u) grid.push_back({noise, std::pow(10, -3 + u / 3.0)});
  }
  PooledSignal result{{"pooled signal", Sees::stream, false, {}, {}}, {}};
  std::vector<double> counts(grid.size(), 1 / static_cast<double>(grid.size()));
  double diagonals = 0;
  for (size_t i = 0; i < stream.tasks.size(); ++i) {
    const StepTask& task = stream.tasks[i];
    const std::span<const double> eigenvalues = task.spectrum.eigenvalues();
    diagonals += std::accumulate(eigenvalues.begin(), eigenvalues.end(), 0.0) / static_cast<double>(stream.examples());
    const double scale = std::max(diagonals / static_cast<double>(i + 1), tiny);
    std::vector<double> losses, predictions;
    for (const auto& [noise, signal] : grid) {
      double loss = 0, moved = 0;
      for (size_t k = 0; k < eigenvalues.size(); ++k) {
        const double variance = signal * eigenvalues[k] / scale + noise, a = task.coordinates[k];
        loss += (a * a / variance + std::log(variance)) / 2;
        moved += task.query[k] * a * (signal / scale) / variance;
      }
      losses.push_back(loss);
      predictions.push_back(task.base + moved);
    }
    const std::vector<double> posterior = soft_least(losses, counts);
    result.rule.predictions.push_back(weighted_sum(posterior, predictions));
    double log_noise = 0;
    for (size_t g = 0; g < grid.size(); ++g) {
      log_noise += posterior[g] * std::log(grid[g].noise);
      counts[g] += posterior[g];
    }
    result.log_noise.push_back(log_noise);
  }
  return result;
}

RuleResult soft_best_so_far(const RuleStream& stream, std::span<const double> log_noise) {
  constexpr double width = 0.7, sharpness = 4;
  using Features = std::array<double, 3>;
  RuleResult result{"soft best T so far", Sees::truths, false, {}, {}};
  const std::vector<std::vector<double>> errors = query_errors(stream);
  std::vector<Features> features;
  Features sums{}, squares{};
  double not_adapting = 0;
  for (size_t i = 0; i < stream.tasks.size(); ++i) {
    const PreparedTask& task = stream.prepared[i];
    const double left_out = *std::ranges::min_element(task.left_out);
    features.push_back({log_noise[i], std::log(std::max(left_out, tiny)), task.energy});
    Features variances{};
    for (size_t f = 0; f < variances.size(); ++f) {
      sums[f] += features[i][f];
      squares[f] += features[i][f] * features[i][f];
      const double count = static_cast<double>(i + 1), mean = sums[f] / count;
      variances[f] = std::max(squares[f] / count - mean * mean, 1e-12);
    }
    std::vector<double> losses(stream.steps.size());
    for (size_t j = 0; j < i; ++j) {
      double apart = 0;
      for (size_t f = 0; f < variances.size(); ++f) {
        const double difference = features[j][f] - features[i][f];
        apart += difference * difference / variances[f];
      }
      add_scaled(losses, std::exp(-apart / (2 * width * width)), errors[j]);
    }
    const double scale = i == 0 ? 0 : sharpness / std::max(not_adapting / static_cast<double>(i), tiny);
    for (double& loss : losses) loss *= scale;
    add(result, i == 0 ? Choice{task.predictions[0], 0} : mixture(stream, task, losses, losses.size()));
    not_adapting += errors[i][0];
  }
  return result;
}

}  // namespace hone::lab
