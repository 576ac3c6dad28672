#include "hone/signal.h"

#include <algorithm>
#include <limits>
#include <numbers>
#include <numeric>

#include "decide/checks.h"

namespace hone::decide {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double half_range = 8 * std::numbers::ln10;  // of log(λ*/λ_max)
constexpr int grid_points = 81;
constexpr int refinements = 40;

// With τ² at its best for the given λ*.
Signal profiled(const Spectrum& spectrum, std::span<const double> residuals, double lambda_star) {
  const double n = static_cast<double>(spectrum.size());
  double quadratic = 0, log_determinant = 0;
  for (size_t i = 0; i < residuals.size(); ++i) {
    const double s = spectrum.eigenvalues()[i] + lambda_star;
    quadratic += residuals[i] * residuals[i] / s;
    log_determinant += std::log(s);
  }
  const double signal_variance = quadratic / n;
  return {signal_variance, signal_variance * lambda_star, -(n * (std::log(signal_variance) + 1) + log_determinant) / 2,
          SignalBoundary::none};
}

// τ² = 0.
Signal noise_alone(std::span<const double> residuals) {
  const double n = static_cast<double>(residuals.size());
  double noise_variance = 0;
  for (const double r : residuals) noise_variance += r * r / n;
  return {0, noise_variance, -n * (std::log(noise_variance) + 1) / 2, SignalBoundary::no_signal};
}

}  // namespace

double Signal::lambda_star() const { return signal_variance > 0 ? noise_variance / signal_variance : infinity; }

Signal fit_signal(const Spectrum& spectrum, std::span<const double> residuals) {
  check_size("residuals", residuals.size(), spectrum.size());
  check_finite("residuals", residuals);
  const Signal noise = noise_alone(residuals);
  if (spectrum.largest() == 0 || noise.noise_variance == 0) return noise;
  const auto at = [&](double log_ratio) {
    return profiled(spectrum, residuals, std::exp(log_ratio) * spectrum.largest());
  };
  const double spacing = 2 * half_range / (grid_points - 1);
  double best = 0, best_likelihood = -infinity;
  for (int i = 0; i < grid_points; ++i) {
    const double candidate = -half_range + i * spacing;
    const double likelihood = at(candidate).log_likelihood;
    if (likelihood > best_likelihood) best = candidate, best_likelihood = likelihood;
  }
  double low = std::max(best - spacing, -half_range), high = std::min(best + spacing, half_range);
  const auto lower = [&] { return high - (high - low) / std::numbers::phi; };
  const auto upper = [&] { return low + (high - low) / std::numbers::phi; };
  double at_lower = at(lower()).log_likelihood, at_upper = at(upper()).log_likelihood;
  for (int i = 0; i < refinements; ++i) {
    if (at_lower < at_upper) {
      low = lower();
      at_lower = at_upper;
      at_upper = at(upper()).log_likelihood;
    } else {
      high = upper();
      at_upper = at_lower;
      at_lower = at(lower()).log_likelihood;
    }
  }
  Signal signal = at(std::midpoint(low, high));
  if (!(signal.log_likelihood > noise.log_likelihood + 1e-9)) return noise;
  if (low <= -half_range + 1e-6) signal.boundary = SignalBoundary::no_noise;
  return signal;
}

double log_likelihood(const Spectrum& spectrum, std::span<const double> residuals, double signal_variance,
                      double noise_variance) {
  check_size("residuals", residuals.size(), spectrum.size());
  check_variance("τ²", signal_variance);
  check_variance("σ²", noise_variance);
  double sum = 0;
  for (size_t i = 0; i < residuals.size(); ++i) {
    const double s = signal_variance * spectrum.eigenvalues()[i] + noise_variance;
    if (s == 0 && residuals[i] != 0) return -infinity;
    sum += std::log(s) + (residuals[i] == 0 ? 0 : residuals[i] * residuals[i] / s);
  }
  return -sum / 2;
}

double excess_risk(const Spectrum& spectrum, std::span<const double> query, const Signal& signal,
                   std::span<const double> filter) {
  check_size("query", query.size(), spectrum.size());
  check_size("filter", filter.size(), spectrum.size());
  check_variance("τ²", signal.signal_variance);
  check_variance("σ²", signal.noise_variance);
  double risk = 0;
  for (size_t i = 0; i < query.size(); ++i) {
    const double lambda = spectrum.eigenvalues()[i];
    const double difference = filter[i] - bayes_filter(lambda, signal.lambda_star());
    risk += (signal.signal_variance * lambda + signal.noise_variance) * query[i] * query[i] * difference * difference;
  }
  return risk;
}

BayesGap bayes_gap(const Spectrum& spectrum, std::span<const double> query, const Signal& signal,
                   std::span<const double> filter) {
  BayesGap gap;
  gap.adapted = excess_risk(spectrum, query, signal, filter);
  gap.base = excess_risk(spectrum, query, signal, std::vector<double>(spectrum.size()));
  gap.adapt = gap.adapted < gap.base;
  return gap;
}

}  // namespace hone::decide
