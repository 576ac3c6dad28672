// Rules over T that learn from the tasks before: from their examples, or also from the answers to their queries.
#pragma once

#include <string>
#include <vector>

#include "lab/rule_stream.h"

namespace hone::lab {

// See apply_step_rules for what each does.
RuleResult pooled_prior(const RuleStream& stream);
RuleResult pooled_bayes_filter(const RuleStream& stream);
RuleResult pooled_left_out(const RuleStream& stream, std::string name, bool alike);
RuleResult best_so_far(const RuleStream& stream, std::string name, bool alike);

// B(P_n, x) plus a combination of the corrections of some predictors [predictors][tasks], by ridge regression on the
// answers before: coefficients ~ N(0, I), noise of variance .1.
RuleResult stacked(const RuleStream& stream, std::string name, std::span<const std::vector<double>> predictions);

// The mixture of Bayes filters over a grid of (σ², τ²), r ~ N(0, τ²K/k̄ + σ²I), k̄ the mean of K's diagonals so far: what
// the tasks before had of each is the prior. `log_noise` is its posterior mean of log σ².
struct PooledSignal {
  RuleResult rule;
  std::vector<double> log_noise;  // [tasks]
};
PooledSignal pooled_signal(const RuleStream& stream);

// The mean over T with weights ∝ exp(−4 Σ w_j e_j(T)/ē): e_j(T) the squared error at the query of task j before, ē that
// of not adapting so far, w_j Gaussian in what tells prompts apart: log σ² (`log_noise`), the least leave-one-out error
// and log ‖r‖², each in standard deviations of the tasks so far. Where no prompt before was alike, all T weigh about
// the same; the first task is not adapted to.
RuleResult soft_best_so_far(const RuleStream& stream, std::span<const double> log_noise);

}  // namespace hone::lab
