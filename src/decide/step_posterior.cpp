// The Gibbs posterior over numbers of steps, its priors and its mixture of filters.
#include <algorithm>
#include <limits>
#include <numeric>

#include "decide/checks.h"
#include "hone/steps.h"

namespace hone::decide {
namespace {

// Ties go to the smallest T; rounding must not decide.
constexpr double tie = 1e-12;

void check_grid(const std::vector<double>& steps) {
  if (steps.empty() || steps.front() != 0)
    throw Error(ErrorCode::bad_input, "steps: the set must begin with 0, not adapting");
  for (size_t i = 0; i < steps.size(); ++i) {
    check_steps(steps[i]);
    if (i > 0 && !(steps[i] > steps[i - 1]))
      throw Error(ErrorCode::bad_input, fmt::format("steps: {} follows {}; they must ascend", steps[i], steps[i - 1]));
  }
}

std::vector<double> normalized_prior(std::vector<double> prior, size_t size) {
  if (prior.empty()) return std::vector<double>(size, 1 / static_cast<double>(size));
  check_size("prior over steps", prior.size(), size);
  for (const double p : prior)
    if (!(p >= 0)) throw Error(ErrorCode::bad_input, fmt::format("prior over steps: {} is not a probability", p));
  const double sum = std::accumulate(prior.begin(), prior.end(), 0.0);
  if (!(sum > 0 && std::isfinite(sum)))
    throw Error(ErrorCode::bad_input, fmt::format("prior over steps: it sums to {}", sum));
  for (double& p : prior) p /= sum;
  return prior;
}

}  // namespace

double StepPosterior::mean_steps() const {
  return std::inner_product(steps.begin(), steps.end(), weights.begin(), 0.0);
}

double StepPosterior::mean_score() const {
  return std::inner_product(scores.begin(), scores.end(), weights.begin(), 0.0);
}

double StepPosterior::divergence() const {
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i)
    if (weights[i] > 0) sum += weights[i] * std::log(weights[i] / prior[i]);
  return std::max(0.0, sum);
}

std::vector<double> whole_steps(size_t last) {
  std::vector<double> steps(last + 1);
  std::iota(steps.begin(), steps.end(), 0.0);
  return steps;
}

StepPosterior step_posterior(const StepEvidence& evidence, std::vector<double> steps, std::vector<double> prior,
                             double beta) {
  check_grid(steps);
  if (!(beta >= 0 && std::isfinite(beta)))
    throw Error(ErrorCode::bad_input, fmt::format("β: {} is not a temperature; 1 is the exact posterior", beta));
  StepPosterior posterior;
  posterior.steps = std::move(steps);
  posterior.prior = normalized_prior(std::move(prior), posterior.steps.size());
  posterior.beta = beta;
  std::vector<double>& weights = posterior.weights;
  for (size_t i = 0; i < posterior.steps.size(); ++i) {
    posterior.scores.push_back(evidence.score(posterior.steps[i]));
    weights.push_back(std::log(posterior.prior[i]) -
                      beta * static_cast<double>(evidence.size()) * posterior.scores.back());
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  const double close = largest - tie * std::max(1.0, std::abs(largest));
  while (weights[posterior.best] < close) ++posterior.best;
  double sum = 0;
  for (double& w : weights) sum += w = std::exp(w - largest);
  for (double& w : weights) w /= sum;
  return posterior;
}

std::vector<double> geometric_step_prior(double rho, double lambda_star, size_t last) {
  if (!(rho > 0 && lambda_star > 0 && std::isfinite(rho * lambda_star)))
    throw Error(ErrorCode::bad_input,
                fmt::format("geometric prior: ρ = {} and λ* = {} must be positive numbers", rho, lambda_star));
  const double log_ratio = -std::log1p(rho * lambda_star);  // log p
  std::vector<double> prior(last + 1);
  for (size_t t = 0; t <= last; ++t) prior[t] = std::exp(static_cast<double>(t) * log_ratio);
  const double sum = std::accumulate(prior.begin(), prior.end(), 0.0);
  for (double& p : prior) p /= sum;
  return prior;
}

std::vector<double> mixture_filter(const Spectrum& spectrum, double rho, const StepPosterior& posterior) {
  std::vector<double> mixture(spectrum.size());
  for (size_t t = 0; t < posterior.steps.size(); ++t) {
    const std::vector<double> filter = descent_filter(spectrum, rho, posterior.steps[t]);
    for (size_t i = 0; i < mixture.size(); ++i) mixture[i] += posterior.weights[t] * filter[i];
  }
  return mixture;
}

}  // namespace hone::decide
