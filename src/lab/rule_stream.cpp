#include "lab/rule_stream.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "hone/selectors.h"
#include "hone/signal.h"
#include "hone/steps.h"

namespace hone::lab {

using decide::Noise;
using decide::StepEvidence;

namespace {

// λ*/λ_max.
std::vector<double> ridge_ratios() {
  std::vector<double> ratios;
  for (int i = -24; i <= 16; ++i) ratios.push_back(std::exp2(0.5 * i));
  return ratios;
}

PreparedTask prepare(const StepTask& task, double c, std::span<const double> steps, std::span<const double> ratios) {
  const double n = static_cast<double>(task.residuals.size());
  PreparedTask p;
  p.rho = decide::step_size(task.spectrum, c);
  const StepEvidence fixed(task.spectrum, task.coordinates, p.rho, Noise::fixed);
  const StepEvidence mle(task.spectrum, task.coordinates, p.rho, Noise::profiled);
  for (const double t : steps) {
    p.predictions.push_back(task.prediction(c, t));
    p.fixed.push_back(n * fixed.score(t));
    p.mle.push_back(n * mle.score(t));
  }
  const auto at = [&](double t) { return Choice{task.prediction(c, t), t}; };
  p.real_fixed = at(fixed.best_steps(steps.back()));
  p.real_mle = at(mle.best_steps(steps.back()));
  p.left_out = decide::leave_one_out_descent(task.kernel, task.spectrum, task.residuals, p.rho, steps).scores;
  p.lambda_star = decide::fit_signal(task.spectrum, task.coordinates).lambda_star();
  const auto with_ridge = [&](double lambda_star) {
    return task.base +
           decide::correction(decide::bayes_filter(task.spectrum, lambda_star), task.query, task.coordinates);
  };
  p.bayes = with_ridge(p.lambda_star);
  for (const double ratio : ratios) {
    const double lambda_star = std::max(ratio * task.spectrum.largest(), tiny);
    p.ridge.push_back(with_ridge(lambda_star));
    double quadratic = 0, log_det = 0;
    for (size_t i = 0; i < task.coordinates.size(); ++i) {
      const double s = task.spectrum.eigenvalues()[i] + lambda_star;
      quadratic += task.coordinates[i] * task.coordinates[i] / s;
      log_det += std::log(s);
    }
    p.ridge_losses.push_back(quadratic > 0 ? (n * std::log(quadratic / n) + log_det) / 2 : 0);
  }
  p.energy = std::log(std::max(weighted_sum(task.residuals, task.residuals), tiny));
  return p;
}

}  // namespace

RuleStream::RuleStream(std::span<const StepTask> all, double c_of_all)
    : tasks(all), c(c_of_all), steps(wide_steps()), prepared(all.size()) {
  const std::vector<double> ratios = ridge_ratios();
  parallel_for(tasks.size(), [&](size_t i) { prepared[i] = prepare(tasks[i], c, steps, ratios); });
}

double RuleStream::squared_error(size_t task, double prediction) const {
  return std::pow(prediction - tasks[task].target, 2);
}

double weighted_sum(std::span<const double> weights, std::span<const double> values) {
  return std::inner_product(weights.begin(), weights.end(), values.begin(), 0.0);
}

std::vector<double> soft_least(std::span<const double> losses, std::span<const double> prior) {
  const double least = *std::ranges::min_element(losses);
  std::vector<double> weights;
  for (size_t t = 0; t < losses.size(); ++t) weights.push_back(prior[t] * std::exp(least - losses[t]));
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& w : weights) w /= sum;
  return weights;
}

Choice least(const RuleStream& stream, const PreparedTask& task, std::span<const double> losses, size_t count) {
  const auto among = losses.first(count);
  const double least = *std::ranges::min_element(among), rounding = 1e-12 * std::max(1.0, std::fabs(least));
  const auto near = [&](double loss) { return loss <= least + rounding; };
  const auto best = static_cast<size_t>(std::ranges::find_if(among, near) - among.begin());
  return {task.predictions[best], stream.steps[best]};
}

Choice weighed(const RuleStream& stream, const PreparedTask& task, std::span<const double> weights) {
  return {weighted_sum(weights, task.predictions), weighted_sum(weights, stream.steps)};
}

Choice mixture(const RuleStream& stream, const PreparedTask& task, std::span<const double> losses, size_t count) {
  return weighed(stream, task, soft_least(losses.first(count), std::vector<double>(count, 1)));
}

}  // namespace hone::lab
