#include "lab/step_rules.h"

#include <fmt/format.h>

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
using decide::StepPosterior;

StepTask::StepTask(decide::Matrix64 k, std::span<const double> k_x, std::vector<double> r, double in_context,
                   double truth)
    : kernel(std::move(k)),
      residuals(std::move(r)),
      base(in_context),
      target(truth),
      spectrum(kernel),
      coordinates(spectrum.coordinates(residuals, "residuals")),
      query(spectrum.coordinates(k_x, "query")) {}

double StepTask::prediction(double c, double steps) const {
  const double rho = decide::step_size(spectrum, c);
  return base + decide::correction(decide::descent_filter(spectrum, rho, steps), query, coordinates);
}

std::vector<double> RuleResult::squared_errors(std::span<const StepTask> tasks) const {
  std::vector<double> errors;
  for (size_t i = 0; i < tasks.size(); ++i) errors.push_back(std::pow(predictions[i] - tasks[i].target, 2));
  return errors;
}

std::vector<double> published_steps() { return decide::whole_steps(30); }

std::vector<double> wide_steps() {
  constexpr double last = 300;
  std::vector<double> steps = published_steps();
  while (steps.back() < last) steps.push_back(std::min(last, std::round(steps.back() * 1.1)));
  return steps;
}

std::vector<std::vector<double>> fixed_step_predictions(std::span<const StepTask> tasks, double c,
                                                        std::span<const double> steps) {
  std::vector<std::vector<double>> predictions(steps.size(), std::vector<double>(tasks.size()));
  parallel_for(tasks.size(), [&](size_t i) {
    for (size_t t = 0; t < steps.size(); ++t) predictions[t][i] = tasks[i].prediction(c, steps[t]);
  });
  return predictions;
}

namespace {

double mixed(std::span<const double> weights, std::span<const double> values) {
  return std::inner_product(weights.begin(), weights.end(), values.begin(), 0.0);
}

// Weights ∝ prior · exp(−losses).
std::vector<double> soft_least(std::span<const double> losses, std::span<const double> prior) {
  const double least = *std::ranges::min_element(losses);
  std::vector<double> weights;
  for (size_t t = 0; t < losses.size(); ++t) weights.push_back(prior[t] * std::exp(least - losses[t]));
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& w : weights) w /= sum;
  return weights;
}

// What all rules need of one task at one c; the costly part, computed side by side.
struct Prepared {
  std::vector<double> predictions;  // of T on the wide grid
  std::vector<double> fixed, mle;   // n ℓ_T on the wide grid, σ fixed and profiled
  std::vector<double> left_out;     // mean squared leave-one-out error on the wide grid
  double real_fixed = 0, real_mle = 0;
  double rho = 0;
  double lambda_star = 0;
  double bayes = 0;                  // the Bayes filter's prediction
  std::vector<double> ridge;         // predictions of λ*/λ_max on the ridge grid
  std::vector<double> ridge_losses;  // −log marginal likelihood with the best τ²
  double energy = 0;                 // log ‖r‖²
};

std::vector<double> ridge_ratios() {
  std::vector<double> ratios;
  for (int i = -24; i <= 16; ++i) ratios.push_back(std::exp2(0.5 * i));
  return ratios;
}

Prepared prepare(const StepTask& task, double c, std::span<const double> steps, std::span<const double> ratios) {
  constexpr double tiny = 1e-300;
  const double n = static_cast<double>(task.residuals.size());
  Prepared p;
  p.rho = decide::step_size(task.spectrum, c);
  const StepEvidence fixed(task.spectrum, task.coordinates, p.rho, Noise::fixed);
  const StepEvidence mle(task.spectrum, task.coordinates, p.rho, Noise::profiled);
  for (const double t : steps) {
    p.predictions.push_back(task.prediction(c, t));
    p.fixed.push_back(n * fixed.score(t));
    p.mle.push_back(n * mle.score(t));
  }
  p.real_fixed = fixed.best_steps(steps.back());
  p.real_mle = mle.best_steps(steps.back());
  p.left_out = decide::leave_one_out_descent(task.kernel, task.residuals, p.rho, steps).scores;
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
    p.ridge_losses.push_back((n * std::log(std::max(quadratic / n, tiny)) + log_det) / 2);
  }
  p.energy = std::log(std::max(mixed(task.residuals, task.residuals), tiny));
  return p;
}

class Rules {
 public:
  Rules(std::span<const StepTask> tasks, double c, double low, double high)
      : tasks_(tasks), c_(c), low_(low), high_(high), prepared_(tasks.size()) {
    parallel_for(tasks.size(), [&](size_t i) { prepared_[i] = prepare(tasks[i], c, steps_, ratios_); });
  }

  std::vector<RuleResult> all() {
    const size_t upto_30 = published_steps().size();
    each("in context", true, [&](const Prepared& p) { return std::pair(p.predictions[0], 0.0); });
    each("T = 8", true, [&](const Prepared& p) { return std::pair(p.predictions[8], 8.0); });
    each("evidence, fixed σ", true, [&](const Prepared& p) { return least(p, p.fixed, upto_30); });
    each("evidence, MLE", true, [&](const Prepared& p) { return least(p, p.mle, upto_30); });
    each("T = 30", false, [&](const Prepared& p) { return std::pair(p.predictions[30], 30.0); });
    each("Gibbs to 30, fixed σ", false, [&](const Prepared& p) { return mixture(p, p.fixed, upto_30); });
    each("Gibbs to 30, MLE", false, [&](const Prepared& p) { return mixture(p, p.mle, upto_30); });
    each("leave-one-out to 30", false, [&](const Prepared& p) { return least(p, p.left_out, upto_30); });
    each("Gibbs, MLE", false, [&](const Prepared& p) { return mixture(p, p.mle, steps_.size()); });
    each("Gibbs, geometric prior", false, [&](const Prepared& p) { return geometric(p); });
    real("real T, fixed σ", &Prepared::real_fixed);
    real("real T, MLE", &Prepared::real_mle);
    pooled_prior();
    each("Bayes filter", false, [](const Prepared& p) { return std::pair(p.bayes, 0.0); }).steps.clear();
    pooled_bayes();
    each("leave-one-out", false, [&](const Prepared& p) { return least(p, p.left_out, steps_.size()); });
    each("leave-one-out mixture", false, [&](const Prepared& p) { return left_out_mixture(p); });
    pooled_left_out("pooled leave-one-out", false);
    pooled_left_out("pooled leave-one-out, alike", true);
    best_so_far("best T so far", false);
    best_so_far("best T so far, alike", true);
    stacked_steps();
    online_mixture();
    return std::move(results_);
  }

 private:
  using Choice = std::pair<double, double>;  // prediction, T

  template <class Rule>
  RuleResult& each(std::string name, bool published, const Rule& rule) {
    RuleResult& result = results_.emplace_back();
    result.name = std::move(name);
    result.published = published;
    for (const Prepared& p : prepared_) {
      const auto [prediction, steps] = rule(p);
      result.predictions.push_back(prediction);
      result.steps.push_back(steps);
    }
    return result;
  }

  // The first of the least losses among the first `count` of the grid.
  Choice least(const Prepared& p, std::span<const double> losses, size_t count) const {
    const auto first = losses.begin();
    const auto best = static_cast<size_t>(std::min_element(first, first + static_cast<ptrdiff_t>(count)) - first);
    return {p.predictions[best], steps_[best]};
  }

  Choice weighed(const Prepared& p, std::span<const double> weights) const {
    return {mixed(weights, p.predictions), mixed(weights, steps_)};
  }

  Choice mixture(const Prepared& p, std::span<const double> losses, size_t count) const {
    return weighed(p, soft_least(losses.first(count), std::vector<double>(count, 1)));
  }

  // P(T) = (1 − p) p^T; a point of the grid stands for all T that are nearest to it.
  Choice geometric(const Prepared& p) const {
    if (p.rho == 0 || std::isinf(p.lambda_star)) return {p.predictions[0], 0};
    const double log_keep = -std::log1p(p.rho * p.lambda_star);
    std::vector<double> losses;
    for (size_t t = 0; t < steps_.size(); ++t) {
      const double below = t == 0 ? steps_[0] : steps_[t - 1],
                   above = t + 1 == steps_.size() ? steps_[t] : steps_[t + 1];
      losses.push_back(p.mle[t] - log_keep * steps_[t] - std::log(std::max((above - below) / 2, 1.0)));
    }
    return mixture(p, losses, losses.size());
  }

  void real(std::string name, double Prepared::*steps) {
    RuleResult& result = results_.emplace_back();
    result.name = std::move(name);
    for (size_t i = 0; i < tasks_.size(); ++i) {
      result.steps.push_back(prepared_[i].*steps);
      result.predictions.push_back(tasks_[i].prediction(c_, prepared_[i].*steps));
    }
  }

  // The prompt's own evidence counts for the prior too: its labels are known.
  void pooled_prior() {
    decide::StepPrior prior(std::vector<double>(steps_.size(), 1));
    each("pooled prior", false, [&](const Prepared& p) {
      prior.observe(per_example(p.mle), examples());
      return weighed(p, soft_least(p.mle, prior.prior()));
    }).sees = Sees::stream;
  }

  void pooled_bayes() {
    decide::StepPrior prior(std::vector<double>(ratios_.size(), 1));
    RuleResult& result = each("pooled Bayes filter", false, [&](const Prepared& p) {
      prior.observe(per_example(p.ridge_losses), examples());
      return Choice(mixed(soft_least(p.ridge_losses, prior.prior()), p.ridge), 0);
    });
    result.sees = Sees::stream;
    result.steps.clear();
  }

  Choice left_out_mixture(const Prepared& p) const {
    std::vector<double> losses;
    for (const double error : p.left_out)
      losses.push_back(static_cast<double>(examples()) / 2 * std::log(std::max(error, 1e-300)));
    return mixture(p, losses, losses.size());
  }

  // How much each task before task i counts, all alike or only those whose residuals are about as large.
  std::vector<double> earlier_weights(size_t i, bool alike) const {
    std::vector<double> weights(i, 1);
    for (size_t j = 0; alike && j < i; ++j)
      weights[j] = std::exp(-std::pow((prepared_[j].energy - prepared_[i].energy) / alike_width, 2) / 2);
    return weights;
  }

  // The T of the least sum of this task's own losses and those of the tasks before, `counts` of their total weight.
  template <class Losses, class Counts>
  void leader(std::string name, Sees seen, bool alike, bool own, const Losses& losses, const Counts& counts) {
    RuleResult& result = results_.emplace_back();
    result.name = std::move(name);
    result.sees = seen;
    for (size_t i = 0; i < tasks_.size(); ++i) {
      std::vector<double> total(steps_.size());
      if (own) total = losses(i);
      const std::vector<double> weights = earlier_weights(i, alike);
      const double factor = counts(std::accumulate(weights.begin(), weights.end(), 0.0));
      for (size_t j = 0; j < i; ++j) {
        const std::vector<double>& of_task = losses(j);
        for (size_t t = 0; t < total.size(); ++t) total[t] += factor * weights[j] * of_task[t];
      }
      const auto [prediction, steps] = least(prepared_[i], total, total.size());
      result.predictions.push_back(prediction);
      result.steps.push_back(steps);
    }
  }

  // With few tasks before, they count like the tasks they are.
  void pooled_left_out(std::string name, bool alike) {
    leader(
        std::move(name), Sees::stream, alike, true,
        [&](size_t i) -> const std::vector<double>& { return prepared_[i].left_out; },
        [](double weight) { return weight > pooled_weight ? pooled_weight / weight : 1; });
  }

  void best_so_far(std::string name, bool alike) {
    std::vector<std::vector<double>> errors;
    for (size_t i = 0; i < tasks_.size(); ++i) {
      errors.emplace_back();
      for (const double prediction : prepared_[i].predictions)
        errors[i].push_back(std::pow(prediction - tasks_[i].target, 2));
    }
    leader(
        std::move(name), Sees::truths, alike, false, [&](size_t i) -> const std::vector<double>& { return errors[i]; },
        [](double) { return 1.0; });
  }

  // Recursive least squares (Plackett 1950) of y − ŷ on the corrections of a few T, coefficients ~ N(0, I).
  void stacked_steps() {
    constexpr double noise = 0.1, kinds[] = {2, 20, 200};
    constexpr size_t size = std::size(kinds);
    double covariance[size][size] = {}, coefficients[size] = {};
    for (size_t a = 0; a < size; ++a) covariance[a][a] = 1;
    RuleResult& result = results_.emplace_back();
    result.name = "stacked steps";
    result.sees = Sees::truths;
    for (const StepTask& task : tasks_) {
      double features[size], gain[size] = {}, moved = 0, spread = noise;
      for (size_t a = 0; a < size; ++a) {
        features[a] = task.prediction(c_, kinds[a]) - task.base;
        moved += coefficients[a] * features[a];
      }
      result.predictions.push_back(task.base + moved);
      for (size_t a = 0; a < size; ++a)
        for (size_t b = 0; b < size; ++b) gain[a] += covariance[a][b] * features[b];
      for (size_t a = 0; a < size; ++a) spread += features[a] * gain[a];
      for (size_t a = 0; a < size; ++a) {
        coefficients[a] += gain[a] / spread * (task.target - task.base - moved);
        for (size_t b = 0; b < size; ++b) covariance[a][b] -= gain[a] * gain[b] / spread;
      }
    }
  }

  void online_mixture() {
    const size_t experts = results_.size();
    std::vector<double> prior(experts, 0.5 / static_cast<double>(experts - 1));
    prior[0] = 0.5;
    decide::SelectorMixture mixture(prior, low_, high_);
    RuleResult result{"online mixture", Sees::truths, false, {}, {}};
    for (size_t i = 0; i < tasks_.size(); ++i) {
      std::vector<double> said;
      for (size_t e = 0; e < experts; ++e) said.push_back(results_[e].predictions[i]);
      result.predictions.push_back(mixture.predict(said));
      mixture.observe(said, tasks_[i].target);
    }
    results_.push_back(std::move(result));
  }

  size_t examples() const { return tasks_.front().residuals.size(); }
  std::vector<double> per_example(std::vector<double> losses) const {
    for (double& loss : losses) loss /= static_cast<double>(examples());
    return losses;
  }

  std::span<const StepTask> tasks_;
  double c_, low_, high_;
  std::vector<double> steps_ = wide_steps();
  std::vector<double> ratios_ = ridge_ratios();
  std::vector<Prepared> prepared_;
  std::vector<RuleResult> results_;
};

}  // namespace

std::vector<RuleResult> apply_step_rules(std::span<const StepTask> tasks, double c, double low, double high) {
  if (tasks.empty()) throw Error(ErrorCode::bad_input, "step rules: there are no tasks");
  for (const StepTask& task : tasks)
    if (task.residuals.size() != tasks.front().residuals.size())
      throw Error(ErrorCode::bad_input, "step rules: tasks of a stream need the same number of examples");
  return Rules(tasks, c, low, high).all();
}

double online_mixture_bound(size_t tasks, double low, double high) {
  return decide::SelectorMixture({0.5, 0.5}, low, high).bound(tasks);
}

}  // namespace hone::lab
