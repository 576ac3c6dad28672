// What rules over T share: a stream of tasks with, for each of them, predictions and losses on grids of T and of λ*.
#pragma once

#include <span>
#include <vector>

#include "lab/step_rules.h"

namespace hone::lab {

constexpr double tiny = 1e-300;

// What a rule predicts, and its T.
struct Choice {
  double prediction = 0;
  double steps = 0;
};

// One task at one c.
struct PreparedTask {
  std::vector<double> predictions;  // of T on the wide grid
  std::vector<double> fixed, mle;   // n ℓ_T on the wide grid, σ fixed and profiled
  std::vector<double> left_out;     // mean squared leave-one-out error on the wide grid
  Choice real_fixed, real_mle;      // the best real T
  double rho = 0;
  double lambda_star = 0;
  double bayes = 0;                  // the Bayes filter's prediction
  std::vector<double> ridge;         // predictions of λ*/λ_max on the ridge grid
  std::vector<double> ridge_losses;  // −log marginal likelihood with the best τ²
  double energy = 0;                 // log ‖r‖²
};

struct RuleStream {
  // Prepares all tasks.
  RuleStream(std::span<const StepTask> all, double c_of_all);

  std::span<const StepTask> tasks;
  double c = 0;
  std::vector<double> steps;  // the wide grid
  std::vector<PreparedTask> prepared;

  size_t examples() const { return tasks.front().residuals.size(); }
  double squared_error(size_t task, double prediction) const;
};

double weighted_sum(std::span<const double> weights, std::span<const double> values);
// Weights ∝ prior · exp(−losses), which sum to 1.
std::vector<double> soft_least(std::span<const double> losses, std::span<const double> prior);
// The smallest of the first `count` T of the grid whose loss is the least, but for rounding.
Choice least(const RuleStream& stream, const PreparedTask& task, std::span<const double> losses, size_t count);
// The mean over T of the grid.
Choice weighed(const RuleStream& stream, const PreparedTask& task, std::span<const double> weights);
// The mean over the first `count` T, weights ∝ exp(−losses).
Choice mixture(const RuleStream& stream, const PreparedTask& task, std::span<const double> losses, size_t count);

}  // namespace hone::lab
