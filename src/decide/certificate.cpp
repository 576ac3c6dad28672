#include "hone/certificate.h"

#include "decide/checks.h"
#include "decide/eigen.h"
#include "hone/signal.h"
#include "hone/steps.h"

namespace hone::decide {
namespace {

double fixed_noise(const StepEvidence& evidence) {
  if (evidence.noise() != Noise::fixed)
    throw Error(ErrorCode::bad_input, "certificate: σ is profiled, which the theorem does not cover; use a fixed σ");
  const double noise_variance = evidence.noise_variance(0);
  if (noise_variance == 0)
    throw Error(ErrorCode::bad_input, "certificate: σ² is 0, since all residuals are; nothing can be certified");
  return noise_variance;
}

void check_covariance(const Matrix64& covariance, size_t n) {
  check_size("covariance: rows", covariance.rows, n);
  check_size("covariance", covariance.values.size(), n * n);
  check_finite("covariance", covariance.values);
}

Certificate certificate(const StepEvidence& evidence, const StepPosterior& posterior, double score, double slack,
                        double delta, bool known) {
  return {
      score, slack, score + slack, delta, slack > posterior.scores.front() - score, !(known && evidence.noise_given())};
}

// L(T) from variance(i) = uᵢᵀΣ*uᵢ along K's eigenvectors, where Σ_T has the variances σ² e^(−T decay_i).
template <class Variance>
double score_of_variances(const StepEvidence& evidence, const Spectrum& spectrum, double steps,
                          const Variance& variance) {
  const double noise_variance = fixed_noise(evidence);
  check_steps(steps);
  check_size("certificate: eigenvalues", spectrum.size(), evidence.size());
  double sum = 0;
  for (size_t i = 0; i < spectrum.size(); ++i) {
    const double exponent = steps * evidence.decay()[i];
    sum += std::log(noise_variance) - exponent + std::exp(exponent) * variance(i) / noise_variance;
  }
  return sum / (2 * static_cast<double>(spectrum.size()));
}

}  // namespace

double certificate_variance(const StepEvidence& evidence, const Spectrum& spectrum, const Signal& signal) {
  const double noise_variance = fixed_noise(evidence);
  check_size("certificate: eigenvalues", spectrum.size(), evidence.size());
  check_variance("τ²", signal.signal_variance);
  check_variance("σ*²", signal.noise_variance);
  double sum = 0;
  for (const double lambda : spectrum.eigenvalues()) {
    const double a = (signal.signal_variance * lambda + signal.noise_variance) / noise_variance;
    sum += a * a;
  }
  return sum / static_cast<double>(evidence.size());
}

double certificate_variance(const StepEvidence& evidence, const Matrix64& covariance) {
  const double noise_variance = fixed_noise(evidence);
  check_covariance(covariance, evidence.size());
  return (map(covariance) / noise_variance).squaredNorm() / static_cast<double>(evidence.size());
}

Certificate certify_map(const StepEvidence& evidence, const StepPosterior& posterior, double variance, double delta,
                        bool known) {
  fixed_noise(evidence);
  check_variance("v̄", variance);
  check_probability("δ", delta);
  check_size("certificate: prior", posterior.prior.size(), posterior.scores.size());
  const double n = static_cast<double>(evidence.size());
  const double choices = -std::log(posterior.prior[posterior.best]);  // log|T| under a uniform prior
  return certificate(evidence, posterior, posterior.scores[posterior.best],
                     std::sqrt(variance * (choices - std::log(delta)) / n), delta, known);
}

Certificate certify_mixture(const StepEvidence& evidence, const StepPosterior& posterior, double variance, double delta,
                            bool known) {
  fixed_noise(evidence);
  check_variance("v̄", variance);
  check_probability("δ", delta);
  if (!(posterior.beta > 0))
    throw Error(ErrorCode::bad_input, "certificate: β is 0; the mixture's bound needs a positive one");
  const double n = static_cast<double>(evidence.size());
  const double slack =
      (posterior.divergence() - std::log(delta)) / (posterior.beta * n) + posterior.beta * variance / 4;
  return certificate(evidence, posterior, posterior.mean_score(), slack, delta, known);
}

double population_score(const StepEvidence& evidence, const Spectrum& spectrum, const Signal& signal, double steps) {
  check_variance("τ²", signal.signal_variance);
  check_variance("σ*²", signal.noise_variance);
  return score_of_variances(evidence, spectrum, steps, [&](size_t i) {
    return signal.signal_variance * spectrum.eigenvalues()[i] + signal.noise_variance;
  });
}

double population_score(const StepEvidence& evidence, const Spectrum& spectrum, const Matrix64& covariance,
                        double steps) {
  check_covariance(covariance, evidence.size());
  return score_of_variances(evidence, spectrum, steps, [&](size_t i) {
    const auto u = map(spectrum.eigenvector(i));
    return u.dot(map(covariance) * u);
  });
}

double transfer_bound(const StepEvidence& evidence, const Spectrum& spectrum, double signal_variance, double steps) {
  const double noise_variance = fixed_noise(evidence);
  check_steps(steps);
  check_variance("τ²", signal_variance);
  check_size("certificate: eigenvalues", spectrum.size(), evidence.size());
  double sum = 0;  // 2n (L(T) − L_true) = Σ (x − 1 − log x) with x the eigenvalues of Σ_T^{-1}Σ*
  for (size_t i = 0; i < spectrum.size(); ++i) {
    const double true_variance = signal_variance * spectrum.eigenvalues()[i] / noise_variance + 1;
    const double log_x = std::log(true_variance) + steps * evidence.decay()[i];
    sum += std::expm1(log_x) - log_x;
  }
  return 2 * noise_variance * sum / static_cast<double>(spectrum.size());
}

}  // namespace hone::decide
