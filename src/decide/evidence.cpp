// The score ℓ_T of a number of steps, real T allowed, and its optimum.
#include <algorithm>
#include <numeric>

#include "decide/checks.h"
#include "hone/steps.h"

namespace hone::decide {

// Of the decays under the weights w_i = (1 − ρλ_i)^T r̃_i².
struct StepEvidence::Moments {
  double log_sum = 0;  // log Σ w_i; meaningless for r = 0
  double mean = 0;
  double variance = 0;
  bool empty = true;  // r = 0
};

StepEvidence::StepEvidence(const Spectrum& spectrum, std::span<const double> residuals, double rho, Noise noise)
    : noise_(noise) {
  check_size("residuals", residuals.size(), spectrum.size());
  check_finite("residuals", residuals);
  check_step_size(spectrum, rho);
  for (size_t i = 0; i < residuals.size(); ++i) {
    decay_.push_back(std::log1p(-rho * spectrum.eigenvalues()[i]));
    total_decay_ += decay_.back();
    squares_.push_back(residuals[i] * residuals[i]);
    noise_variance_ += squares_.back() / static_cast<double>(residuals.size());
  }
  if (!std::isfinite(noise_variance_))
    throw Error(ErrorCode::bad_input, "residuals: their squares are too large for a number; scale them nearer to 1");
}

StepEvidence::StepEvidence(const Spectrum& spectrum, std::span<const double> residuals, double rho,
                           double noise_variance)
    : StepEvidence(spectrum, residuals, rho, Noise::fixed) {
  check_variance("σ²", noise_variance);
  if (noise_variance == 0) throw Error(ErrorCode::bad_input, "σ²: it is 0; give a positive variance");
  noise_variance_ = noise_variance;
  noise_given_ = true;
}

// The largest exponent is taken out, so that (1 − ρλ)^T may be smaller than any number.
StepEvidence::Moments StepEvidence::moments(double steps) const {
  check_steps(steps);
  Moments m;
  double largest = 0;
  for (size_t i = 0; i < size(); ++i) {
    if (squares_[i] == 0) continue;
    largest = m.empty ? steps * decay_[i] : std::max(largest, steps * decay_[i]);
    m.empty = false;
  }
  if (m.empty) return m;
  double sum = 0, first = 0, second = 0;
  for (size_t i = 0; i < size(); ++i) {
    const double weight = squares_[i] == 0 ? 0 : squares_[i] * std::exp(steps * decay_[i] - largest);
    sum += weight;
    first += weight * decay_[i];
    second += weight * decay_[i] * decay_[i];
  }
  m.log_sum = std::log(sum) + largest;
  m.mean = first / sum;
  m.variance = std::max(0.0, second / sum - m.mean * m.mean);
  return m;
}

double StepEvidence::score(double steps) const {
  const Moments m = moments(steps);
  const double n = static_cast<double>(size());
  const double determinant = -steps * total_decay_ / n;
  if (noise_ == Noise::profiled) return (m.empty ? determinant : m.log_sum - std::log(n) + 1 + determinant) / 2;
  if (noise_variance_ == 0) return determinant / 2;
  const double quadratic = m.empty ? 0 : std::exp(m.log_sum) / (n * noise_variance_);
  return (std::log(noise_variance_) + determinant + quadratic) / 2;
}

double StepEvidence::slope(double steps) const {
  const Moments m = moments(steps);
  const double n = static_cast<double>(size());
  const double determinant = -total_decay_ / n;
  if (m.empty) return determinant / 2;
  if (noise_ == Noise::profiled) return (m.mean + determinant) / 2;
  return (determinant + std::exp(m.log_sum) / (n * noise_variance_) * m.mean) / 2;
}

double StepEvidence::curvature(double steps) const {
  const Moments m = moments(steps);
  if (m.empty) return 0;
  if (noise_ == Noise::profiled) return m.variance / 2;
  const double quadratic = std::exp(m.log_sum) / (static_cast<double>(size()) * noise_variance_);
  return quadratic * (m.variance + m.mean * m.mean) / 2;
}

double StepEvidence::noise_variance(double steps) const {
  if (noise_ == Noise::fixed) return noise_variance_;
  const Moments m = moments(steps);
  return m.empty ? 0 : std::exp(m.log_sum) / static_cast<double>(size());
}

double StepEvidence::best_steps(double limit) const {
  check_steps(limit);
  const double flat = 1e-13 * std::abs(total_decay_);
  if (slope(0) >= -flat) return 0;
  if (slope(limit) <= 0) return limit;
  double low = 0, high = limit, steps = 0;
  for (int i = 0; i < 100 && high - low > 1e-12 * high; ++i) {
    const double at = slope(steps);
    if (at == 0) return steps;
    (at < 0 ? low : high) = steps;
    const double newton = steps - at / curvature(steps);
    const double next = newton > low && newton < high ? newton : std::midpoint(low, high);
    if (std::abs(next - steps) <= 1e-13 * high) return next;
    steps = next;
  }
  return steps;
}

}  // namespace hone::decide
