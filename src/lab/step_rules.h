// Rules that choose how far to adapt, applied to a stream of tasks whose kernels are known. Everything here follows
// from K, k_x and r: no model.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "hone/spectrum.h"

namespace hone::lab {

// One task of a stream, with its spectrum.
struct StepTask {
  StepTask(decide::Matrix64 k, std::span<const double> k_x, std::vector<double> r, double in_context, double truth);

  decide::Matrix64 kernel;          // K [n, n]
  std::vector<double> residuals;    // r [n]
  double base = 0;                  // B(P_n, x)
  double target = 0;                // y of the query: for scoring, and for rules that say so
  decide::Spectrum spectrum;        // of K
  std::vector<double> coordinates;  // Uᵀr [n]
  std::vector<double> query;        // Uᵀk_x [n]

  // B(P_n, x) + k_xᵀ q_T(K) r, ρ = c/λ_max.
  double prediction(double c, double steps) const;
};

// Which tasks' labels a rule has seen when it predicts one.
enum class Sees {
  prompt,  // this task's examples
  stream,  // and those of the tasks before it
  truths,  // and the answers to the queries before it
};

// What a rule did with every task of the stream, in its order.
struct RuleResult {
  std::string name;
  Sees sees = Sees::prompt;
  bool published = false;           // [DTV]'s; otherwise ours
  std::vector<double> predictions;  // [tasks]
  std::vector<double> steps;        // [tasks]: T, of a mixture its mean; empty where a rule has none

  std::vector<double> squared_errors(std::span<const StepTask> tasks) const;
};

// Grids of T: 0 … 30 as published; 0 … 30 and then up to 300 in steps of about 10 per cent.
std::vector<double> published_steps();
std::vector<double> wide_steps();

// predictions[T][task] of the same T for every task.
std::vector<std::vector<double>> fixed_step_predictions(std::span<const StepTask> tasks, double c,
                                                        std::span<const double> steps);

enum class Answers { within_0_and_1, unbounded };  // probabilities, say, or margins

// All rules. Published: in context (T = 0), T = 8, and the best T of 0 … 30 by evidence with fixed and with profiled σ
// ("MLE"). Ours, T up to 300 unless the name says 30:
//   T = 30              for every task
//   Gibbs …             mixtures of filters by the posterior over T: uniform over its grid, or geometric up to
//                       300 with p = 1/(1 + ρλ*), λ* of the prompt's own marginal likelihood (τ² = 0: not adapting)
//   real T …            the best real T by evidence
//   pooled prior        the Gibbs mixture with the prior learned from the tasks so far, this one included
//                       (decide::StepPrior)
//   Bayes filter        1/(λ + λ*), λ* of the prompt's own marginal likelihood over (σ², τ²)
//   pooled Bayes filter a mixture of 1/(λ + λ*), λ*/λ_max on a grid with a prior learned from the tasks so far
//   leave-one-out …     the T of the least squared error on each residual from the others; its mixture, weights
//                       ∝ (that error)^{−n/2}; and pooled, where the mean of the errors of the tasks before counts like
//                       `pooled_weight` tasks, all of them or those whose residuals are about as large as this task's
//   best T so far …     the T of the least squared error at the queries before, all or those of tasks alike
//   pooled signal       a mixture of Bayes filters over (σ², τ²), their prior learned from the tasks before
//   stacked steps       B(P_n, x) plus a combination of the corrections of T = 2, 20 and 200, by ridge regression on
//                       the answers before
//   stacked rules       the same of these three and of the Gibbs mixture, the leave-one-out mixture, the pooled signal
//   soft best T so far  a mixture over T by the errors at the queries before, of prompts with about as much noise
//   mean of two         of the leave-one-out mixture and the pooled signal
//   mean of three       of these and the soft best T so far
//   stacked and Gibbs   two thirds stacked rules, one third the Gibbs mixture
//   online mixture      the no-harm mixture over the rules above (decide::SelectorMixture)
//   stacked and Gibbs, bounded   the no-harm mixture of not adapting and stacked and Gibbs
// The last two, the bounded mixtures, clamp what they mix to [0, 1], where the answers have to lie; where answers have
// no such range, they are left out. The grids of the pooled signal and the ridge of stacked steps suit answers and
// corrections of the size of 1.
std::vector<RuleResult> apply_step_rules(std::span<const StepTask> tasks, double c,
                                         Answers answers = Answers::within_0_and_1);

constexpr double pooled_weight = 4;  // of pooled leave-one-out
constexpr double alike_width = 0.5;  // of a Gaussian weight in log ‖r‖²: which tasks are alike

// What the sum of squared errors of either bounded mixture can exceed that of not adapting by, at most.
double online_mixture_bound(size_t tasks);

}  // namespace hone::lab
