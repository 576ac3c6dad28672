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
constexpr double most_lost = 1;     // log posterior, by an extrapolation

// One step of expectation maximisation, (strength · π_0 + Σ_prompts posterior)/(strength + prompts), and the log
// posterior that it starts from, up to a constant.
struct Step {
  Step(const Eigen::Map<const RowMajor>& evidence, std::span<const double> initial, double strength,
       const Eigen::VectorXd& from) {
    const Eigen::VectorXd likelihoods = evidence * from;
    objective = likelihoods.array().log().sum() + strength * map(initial).dot(from.array().log().matrix());
    to = (from.cwiseProduct(evidence.transpose() * likelihoods.cwiseInverse()) + strength * map(initial)) /
         (static_cast<double>(evidence.rows()) + strength);
  }
  Eigen::VectorXd to;
  double objective;
};

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
  const auto step = [&](const Eigen::VectorXd& from) { return Step(evidence, initial_, strength_, from); };
  Eigen::VectorXd prior = map(std::span<const double>(prior_));
  for (int iteration = 0; iteration < most_iterations; ++iteration) {
    const Step first = step(prior);
    const Eigen::VectorXd moved = first.to - prior;
    if (moved.cwiseAbs().maxCoeff() < converged) {
      prior = first.to;
      break;
    }
    // Extrapolates along two steps (SQUAREM, Varadhan & Roland 2008). Where that leaves the simplex or is much less
    // probable than one step, the two steps stand; a little less is how it gets ahead.
    const Step second = step(first.to);
    const Eigen::VectorXd turned = second.to - first.to - moved;
    const double length = std::max(1.0, moved.norm() / turned.norm());
    const Eigen::VectorXd ahead = prior + 2 * length * moved + length * length * turned;
    prior = second.to;
    if (!(ahead.minCoeff() > 0)) continue;
    const Step beyond = step(ahead);
    if (beyond.objective >= second.objective - most_lost) prior = beyond.to;
  }
  map(std::span(prior_)) = prior;
}

}  // namespace hone::decide
