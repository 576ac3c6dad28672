// A prior over numbers of steps learned along a stream of prompts.
#include <algorithm>
#include <numeric>

#include "decide/checks.h"
#include "hone/selectors.h"

namespace hone::decide {
namespace {

constexpr int most_iterations = 200;
constexpr double converged = 1e-8;  // largest change of a probability

}  // namespace

StepPrior::StepPrior(std::vector<double> initial, double strength) : initial_(std::move(initial)), strength_(strength) {
  if (initial_.empty()) throw Error(ErrorCode::bad_input, "prior over steps: it is empty");
  check_finite("prior over steps", initial_);
  if (std::ranges::any_of(initial_, [](double p) { return p <= 0; }))
    throw Error(ErrorCode::bad_input, "prior over steps: every probability must be positive");
  if (!(strength_ > 0 && std::isfinite(strength_)))
    throw Error(ErrorCode::bad_input, fmt::format("prior over steps: strength {} is not positive", strength_));
  const double sum = std::accumulate(initial_.begin(), initial_.end(), 0.0);
  for (double& p : initial_) p /= sum;
  prior_ = initial_;
}

void StepPrior::observe(std::span<const double> scores, size_t examples) {
  check_size("scores", scores.size(), initial_.size());
  check_finite("scores", scores);
  const double smallest = *std::min_element(scores.begin(), scores.end());
  for (const double s : scores) evidence_.push_back(std::exp(static_cast<double>(examples) * (smallest - s)));
  const size_t choices = initial_.size();
  for (int iteration = 0; iteration < most_iterations; ++iteration) {
    std::vector<double> next(choices);
    for (size_t p = 0; p < prompts(); ++p) {
      const std::span<const double> evidence = std::span(evidence_).subspan(p * choices, choices);
      const double sum = std::inner_product(evidence.begin(), evidence.end(), prior_.begin(), 0.0);
      for (size_t t = 0; t < choices; ++t) next[t] += evidence[t] * prior_[t] / sum;
    }
    double change = 0;
    for (size_t t = 0; t < choices; ++t) {
      next[t] = (next[t] + strength_ * initial_[t]) / (static_cast<double>(prompts()) + strength_);
      change = std::max(change, std::abs(next[t] - prior_[t]));
    }
    prior_ = std::move(next);
    if (change < converged) break;
  }
}

}  // namespace hone::decide
