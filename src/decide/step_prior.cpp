// A prior over numbers of steps learned along a stream of prompts.
#include <algorithm>
#include <numeric>

#include "decide/checks.h"
#include "decide/eigen.h"
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
  const Eigen::Map<const RowMajor> evidence(evidence_.data(), index(prompts()), index(initial_.size()));
  for (int iteration = 0; iteration < most_iterations; ++iteration) {
    const Eigen::VectorXd prior = map(std::span<const double>(prior_));
    const Eigen::VectorXd shares = (evidence * prior).cwiseInverse();
    map(std::span(prior_)) =
        (prior.cwiseProduct(evidence.transpose() * shares) + strength_ * map(std::span<const double>(initial_))) /
        (static_cast<double>(prompts()) + strength_);
    if ((map(std::span<const double>(prior_)) - prior).cwiseAbs().maxCoeff() < converged) break;
  }
}

}  // namespace hone::decide
