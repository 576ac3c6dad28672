// The certificate holds as often as it promises, and its parts match dense algebra.
#include "hone/certificate.h"

#include <algorithm>
#include <cmath>

#include "hone/signal.h"
#include "hone/steps.h"
#include "tests/expect_error.h"
#include "tests/random_kernel.h"

namespace hone::decide::certificate_test {
namespace {

Dense covariance_of(const Problem& p, double signal_variance, double noise_variance) {
  return signal_variance * p.kernel + noise_variance * Dense::Identity(p.kernel.rows(), p.kernel.rows());
}

// Σ_T^{-1} = (I − ρK)^T/σ² for whole T.
Dense precision_of(const Problem& p, double rho, int steps, double noise_variance) {
  const Eigen::Index n = p.kernel.rows();
  Dense precision = Dense::Identity(n, n) / noise_variance;
  for (int t = 0; t < steps; ++t) precision = precision * (Dense::Identity(n, n) - rho * p.kernel);
  return precision;
}

TEST(Certificate, VarianceIsTheSupremumOverSteps) {
  RandomStream random(0, "variance");
  const Problem p = random_problem(random, 7, 9);
  const Spectrum spectrum = p.spectrum();
  const double rho = step_size(spectrum, 0.2);
  const StepEvidence evidence(spectrum, spectrum.coordinates(p.r(), "r"), rho, 0.8);
  Dense unrelated = random_matrix(random, 7, 7);  // a Σ* with other eigenvectors than K
  unrelated = unrelated * unrelated.transpose() + Dense::Identity(7, 7);
  for (const Dense& truth : {covariance_of(p, 0.3, 1.2), unrelated}) {
    const Dense root = Eigen::SelfAdjointEigenSolver<Dense>(truth).operatorSqrt();
    double supremum = 0;
    for (int steps = 0; steps <= 30; ++steps) {
      const Dense a = root * precision_of(p, rho, steps, 0.8) * root;
      supremum = std::max(supremum, (a * a).trace() / 7);
      const double population = (7 * std::log(0.8) - std::log((0.8 * precision_of(p, rho, steps, 0.8)).determinant()) +
                                 (precision_of(p, rho, steps, 0.8) * truth).trace()) /
                                14;
      EXPECT_NEAR(population_score(evidence, spectrum, to_matrix64(truth), steps), population, 1e-10);
      EXPECT_NEAR(population_score(evidence, spectrum, Signal{0.3, 1.2}, steps),
                  population_score(evidence, spectrum, to_matrix64(covariance_of(p, 0.3, 1.2)), steps), 1e-10);
    }
    EXPECT_NEAR(certificate_variance(evidence, to_matrix64(truth)), supremum, 1e-9 * supremum);
  }
  EXPECT_NEAR(certificate_variance(evidence, spectrum, {0.3, 1.2}),
              certificate_variance(evidence, to_matrix64(covariance_of(p, 0.3, 1.2))), 1e-9);
}

// n = 10, |T| = 31, δ = .05 give a slack of .80 sqrt(v̄).
TEST(Certificate, SlackIsTheFormula) {
  RandomStream random(0, "slack");
  const Problem p = random_problem(random, 10, 20);
  const Spectrum spectrum = p.spectrum();
  const StepEvidence evidence(spectrum, spectrum.coordinates(p.r(), "r"), step_size(spectrum, 0.2), 1.0);
  const StepPosterior posterior = step_posterior(evidence, whole_steps(30), {}, 0.5);
  const Certificate map = certify_map(evidence, posterior, 2, 0.05, true);
  EXPECT_NEAR(map.slack, 0.80 * std::sqrt(2.0), 0.005);
  EXPECT_EQ(map.score, posterior.scores[posterior.best]);
  EXPECT_EQ(map.bound, map.score + map.slack);
  EXPECT_EQ(map.vacuous, map.slack > posterior.scores[0] - map.score);
  EXPECT_TRUE(map.vacuous);
  EXPECT_FALSE(map.assumed);
  const Certificate mixture = certify_mixture(evidence, posterior, 2, 0.05, false);
  EXPECT_NEAR(mixture.slack, (posterior.divergence() + std::log(20)) / (0.5 * 10) + 0.5 * 2 / 4, 1e-12);
  EXPECT_TRUE(mixture.assumed);
}

TEST(Certificate, StrongSignalInManyExamplesIsNotVacuous) {
  RandomStream random(0, "strong");
  const Problem p = random_problem(random, 200, 3);
  const Spectrum spectrum = p.spectrum();
  const Column r = p.features * Column::Constant(3, 3) + random_column(random, 200);
  const double noise = r.squaredNorm() / 200;
  const StepEvidence evidence(spectrum, spectrum.coordinates(to_vector(r), "r"), step_size(spectrum, 0.2), noise);
  const StepPosterior posterior = step_posterior(evidence, whole_steps(30));
  EXPECT_FALSE(certify_map(evidence, posterior, 1, 0.05, true).vacuous);
}

// 10^4 draws from the reference model: for every draw L(T_MAP), and E_ν L of the mixture, must lie below their bounds
// except with frequency δ.
TEST(Certificate, FailsAtMostAsOftenAsPromised) {
  RandomStream random(0, "coverage");
  constexpr int draws = 10000;
  struct Case {
    size_t n, d;
    double signal_variance, noise_variance, delta;
  };
  for (const Case& c : {Case{10, 20, 0.1, 1, 0.05}, Case{4, 3, 2, 0.5, 0.3}, Case{30, 5, 0, 1, 0.1}}) {
    const Problem p = random_problem(random, c.n, c.d);
    const Spectrum spectrum = p.spectrum();
    const double rho = step_size(spectrum, 0.2);
    const Dense truth = covariance_of(p, c.signal_variance, c.noise_variance);
    const Dense root = truth.llt().matrixL();
    std::vector<double> population;
    double variance = 0;
    int failures = 0, mixture_failures = 0;
    for (int draw = 0; draw < draws; ++draw) {
      const Column r = root * random_column(random, c.n);
      const StepEvidence evidence(spectrum, spectrum.coordinates(to_vector(r), "r"), rho, c.noise_variance);
      if (draw == 0) {
        variance = certificate_variance(evidence, to_matrix64(truth));
        for (int t = 0; t <= 30; ++t) population.push_back(population_score(evidence, spectrum, to_matrix64(truth), t));
      }
      const StepPosterior posterior = step_posterior(evidence, whole_steps(30));
      double mixture = 0;
      for (size_t t = 0; t < population.size(); ++t) mixture += posterior.weights[t] * population[t];
      failures += population[posterior.best] > certify_map(evidence, posterior, variance, c.delta, true).bound;
      mixture_failures += mixture > certify_mixture(evidence, posterior, variance, c.delta, true).bound;
    }
    EXPECT_LE(failures, c.delta * draws);
    EXPECT_LE(mixture_failures, c.delta * draws);
  }
}

TEST(Certificate, EvidenceBoundsTheDistanceToBayesAtThePrompt) {
  RandomStream random(0, "transfer");
  for (const double signal_variance : {0.0, 0.05, 1.0})
    for (const int steps : {0, 1, 5, 30}) {
      const Problem p = random_problem(random, 8, 11);
      const Spectrum spectrum = p.spectrum();
      const double rho = step_size(spectrum, 0.3), noise = 0.9;
      const StepEvidence evidence(spectrum, spectrum.coordinates(p.r(), "r"), rho, noise);
      const Dense truth = covariance_of(p, signal_variance, noise);
      const Dense difference = noise * (precision_of(p, rho, steps, noise) - truth.inverse());  // of the two fits
      const double distance = (difference * truth * difference).trace() / 8;
      const double best = (std::log(truth.determinant()) + 8) / 16;
      const double bound = 4 * noise * (population_score(evidence, spectrum, to_matrix64(truth), steps) - best);
      EXPECT_NEAR(transfer_bound(evidence, spectrum, signal_variance, steps), bound, 1e-9);
      EXPECT_LE(distance, bound + 1e-12);
    }
}

TEST(Certificate, RefusesWhatTheTheoremDoesNotCover) {
  RandomStream random(0, "refusals");
  const Problem p = random_problem(random, 5, 5);
  const Spectrum spectrum = p.spectrum();
  const std::vector<double> r = spectrum.coordinates(p.r(), "r");
  const StepEvidence profiled(spectrum, r, 0, Noise::profiled), fixed(spectrum, r, 0, Noise::fixed);
  const StepEvidence silent(spectrum, std::vector<double>(5), 0, Noise::fixed);
  const StepPosterior posterior = step_posterior(fixed, whole_steps(3));
  HONE_EXPECT_ERROR(certificate_variance(profiled, spectrum, {1, 1}), ErrorCode::bad_input, "profiled");
  HONE_EXPECT_ERROR(certify_map(profiled, posterior, 1, 0.05, true), ErrorCode::bad_input, "profiled");
  HONE_EXPECT_ERROR(certificate_variance(silent, spectrum, {1, 1}), ErrorCode::bad_input, "σ² is 0");
  HONE_EXPECT_ERROR(certificate_variance(fixed, Matrix64(4, 4)), ErrorCode::bad_input, "covariance");
  HONE_EXPECT_ERROR(certify_map(fixed, posterior, -1, 0.05, true), ErrorCode::bad_input, "v̄");
  HONE_EXPECT_ERROR(certify_map(fixed, posterior, 1, 1, true), ErrorCode::bad_input, "δ");
  HONE_EXPECT_ERROR(certify_mixture(fixed, step_posterior(fixed, {0, 1}, {}, 0), 1, 0.05, true), ErrorCode::bad_input,
                    "β is 0");
  EXPECT_TRUE(certify_map(fixed, posterior, 1, 0.05, true).assumed);  // σ² = ‖r‖²/n was seen
}

}  // namespace
}  // namespace hone::decide::certificate_test
