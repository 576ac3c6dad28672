// A prior over numbers of steps learned along a stream of prompts.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "decide/checks.h"
#include "decide/eigen.h"
#include "hone/selectors.h"

namespace hone::decide {
namespace {

constexpr int most_iterations = 100;
constexpr double converged = 1e-8;  // twice what the last step gains in log posterior; the next would gain its square
constexpr double shortest = 1e-6;   // part of a step
constexpr double rounding = 1e-9;   // of a log posterior

// The log posterior of mixing proportions π, Σ_prompts log(evidence · π) + strength Σ π_0 log π, up to a constant.
class LogPosterior {
 public:
  LogPosterior(std::span<const double> evidence, std::span<const double> initial, double strength)
      : evidence_(evidence.data(), index(evidence.size() / initial.size()), index(initial.size())),
        pseudo_prompts_(strength * map(initial)) {}

  double at(const Eigen::VectorXd& prior) const {
    return (evidence_ * prior).array().log().sum() + pseudo_prompts_.dot(prior.array().log().matrix());
  }
  // Newton's step within Σπ = 1, and its directional derivative, which is what the step would gain, twice.
  std::pair<Eigen::VectorXd, double> step(const Eigen::VectorXd& prior) const {
    const Eigen::VectorXd weights = (evidence_ * prior).cwiseInverse();
    const RowMajor weighed = weights.asDiagonal() * evidence_;
    const Eigen::VectorXd gradient = weighed.colwise().sum().transpose() + pseudo_prompts_.cwiseQuotient(prior);
    const Eigen::VectorXd diagonal = pseudo_prompts_.cwiseQuotient(prior.cwiseAbs2());
    RowMajor sides(prior.size(), 2);
    sides << gradient, Eigen::VectorXd::Ones(prior.size());
    const RowMajor solved = solve(diagonal, weighed, sides);
    const Eigen::VectorXd along = solved.col(0) - solved.col(0).sum() / solved.col(1).sum() * solved.col(1);
    return {along, along.dot(gradient)};
  }

 private:
  // (D + WᵀW)^{-1} B through the smaller of its two sides: (D + WᵀW)^{-1} = D^{-1} − D^{-1}Wᵀ(I + W D^{-1}Wᵀ)^{-1}W
  // D^{-1}.
  static RowMajor solve(const Eigen::VectorXd& diagonal, const RowMajor& w, const RowMajor& b) {
    if (w.rows() >= w.cols()) {
      Eigen::MatrixXd curvature = diagonal.asDiagonal();
      curvature.selfadjointView<Eigen::Lower>().rankUpdate(w.transpose());
      return curvature.selfadjointView<Eigen::Lower>().llt().solve(b);
    }
    const Eigen::VectorXd inverse = diagonal.cwiseInverse();
    const RowMajor scaled = w * inverse.asDiagonal();
    const Eigen::MatrixXd inner = Eigen::MatrixXd::Identity(w.rows(), w.rows()) + scaled * w.transpose();
    return inverse.asDiagonal() * b - scaled.transpose() * inner.llt().solve(scaled * b);
  }

  Eigen::Map<const RowMajor> evidence_;
  Eigen::VectorXd pseudo_prompts_;
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
  const LogPosterior posterior(evidence_, initial_, strength_);
  Eigen::VectorXd prior = map(std::span<const double>(prior_));
  double value = posterior.at(prior);
  for (int iteration = 0; iteration < most_iterations; ++iteration) {
    const auto [along, gain] = posterior.step(prior);
    // Shorter, until it stays inside and gains a tenth of what its slope promises.
    double length = 1, next_value = -INFINITY;
    Eigen::VectorXd next;
    for (; length > shortest; length /= 2) {
      next = prior + length * along;
      if (next.minCoeff() > 0 && (next_value = posterior.at(next)) >= value + 0.1 * length * gain - rounding) break;
    }
    if (length <= shortest) break;  // as far as rounding lets it climb
    prior = next;
    value = next_value;
    if (gain < converged) break;
  }
  map(std::span(prior_)) = prior / prior.sum();
}

}  // namespace hone::decide
