// Evidence, posterior and decision against dense algebra, finite differences and fine grids.
#include "hone/steps.h"

#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "tests/expect_error.h"
#include "tests/random_kernel.h"

namespace hone::decide::steps_test {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr Noise noises[] = {Noise::fixed, Noise::profiled};

struct Shape {
  size_t n, d;
};

struct Setting {
  Problem problem;
  Spectrum spectrum;
  double rho;
  std::vector<double> r;

  Setting(RandomStream& random, size_t n, size_t d, double c)
      : problem(random_problem(random, n, d)),
        spectrum(problem.spectrum()),
        rho(step_size(spectrum, c)),
        r(spectrum.coordinates(problem.r(), "residuals")) {}
};

// (1/2n)(log det Σ_T + rᵀΣ_T^{-1}r) by Cholesky, Σ_T = σ²(I − ρK)^{−T} for whole T.
double dense_score(const Setting& s, int steps, double noise) {
  const Eigen::Index n = s.problem.kernel.rows();
  Dense precision = Dense::Identity(n, n) / noise;
  for (int t = 0; t < steps; ++t) precision = precision * (Dense::Identity(n, n) - s.rho * s.problem.kernel);
  const Dense covariance = precision.inverse();
  const Eigen::LLT<Dense> cholesky((covariance + covariance.transpose()) / 2);
  const double log_determinant = 2 * Dense(cholesky.matrixL()).diagonal().array().log().sum();
  const double quadratic = s.problem.residuals.dot(cholesky.solve(s.problem.residuals));
  return (log_determinant + quadratic) / (2 * static_cast<double>(n));
}

TEST(Evidence, DeterminantAndQuadraticFormMatchCholesky) {
  RandomStream random(0, "cholesky");
  for (const auto [n, d] : {Shape{1, 3}, Shape{5, 2}, Shape{10, 30}, Shape{20, 20}}) {
    const Setting s(random, n, d, 0.2);
    const double fixed = s.problem.residuals.squaredNorm() / static_cast<double>(n);
    const StepEvidence evidence(s.spectrum, s.r, s.rho, Noise::fixed);
    const StepEvidence given(s.spectrum, s.r, s.rho, 0.37);
    const StepEvidence profiled(s.spectrum, s.r, s.rho, Noise::profiled);
    for (const int steps : {0, 1, 2, 8, 15}) {
      EXPECT_NEAR(evidence.score(steps), dense_score(s, steps, fixed), 1e-10);
      EXPECT_NEAR(given.score(steps), dense_score(s, steps, 0.37), 1e-10);
      EXPECT_NEAR(profiled.score(steps), dense_score(s, steps, profiled.noise_variance(steps)), 1e-10);
    }
    for (const double factor : {0.9, 1.1})  // σ̂_T² is the best σ² for its T
      EXPECT_GT(StepEvidence(s.spectrum, s.r, s.rho, factor * profiled.noise_variance(6)).score(6), profiled.score(6));
  }
}

TEST(Evidence, SlopeAndCurvatureAreDerivatives) {
  RandomStream random(0, "derivatives");
  for (int repetition = 0; repetition < 10; ++repetition) {
    const Setting s(random, 8, 5 + repetition, 0.3);
    for (const Noise noise : noises) {
      const StepEvidence evidence(s.spectrum, s.r, s.rho, noise);
      for (const double steps : {0.5, 3.3, 20.0}) {
        const double h = 1e-4;
        EXPECT_NEAR(evidence.slope(steps), (evidence.score(steps + h) - evidence.score(steps - h)) / (2 * h), 1e-8);
        EXPECT_NEAR(evidence.curvature(steps), (evidence.slope(steps + h) - evidence.slope(steps - h)) / (2 * h), 1e-8);
        EXPECT_GE(evidence.curvature(steps), 0);
      }
    }
  }
}

TEST(Evidence, RealOptimumIsThatOfAFineGridAndTheWholeOptimumIsItsNeighbour) {
  RandomStream random(0, "optimum");
  int inside = 0;
  for (int repetition = 0; repetition < 60; ++repetition) {
    Setting s(random, 10, 4 + repetition % 12, 0.2);
    // Half of the residuals hold a signal that the kernel explains.
    if (repetition % 2 == 0)
      s.r = s.spectrum.coordinates(
          to_vector(s.problem.features * random_column(random, s.problem.features.cols()) + s.problem.residuals), "r");
    for (const Noise noise : noises) {
      const StepEvidence evidence(s.spectrum, s.r, s.rho, noise);
      const double limit = 300, best = evidence.best_steps(limit);
      double grid = 0;
      for (double t = 0; t <= limit; t += 0.05)
        if (evidence.score(t) < evidence.score(grid)) grid = t;
      EXPECT_NEAR(best, grid, 0.051);
      EXPECT_LE(evidence.score(best), evidence.score(grid) + 1e-13);
      if (best > 0 && best < limit) {
        ++inside;
        EXPECT_NEAR(evidence.slope(best), 0, 1e-11);
      }
      const StepPosterior posterior = step_posterior(evidence, whole_steps(300));
      EXPECT_LE(std::abs(posterior.map_steps() - best), 1);
    }
  }
  EXPECT_GT(inside, 20);
}

TEST(Evidence, SurvivesFiltersSmallerThanAnyNumber) {
  RandomStream random(0, "underflow");
  Setting s(random, 3, 9, 0.999999);
  s.r = {2, 0, 0};  // only the fastest mode: (1 − ρλ)^T = 10^(−6T)
  const StepEvidence evidence(s.spectrum, s.r, s.rho, Noise::profiled);
  for (const double steps : {100.0, 1e4}) {
    EXPECT_TRUE(std::isfinite(evidence.score(steps)));
    EXPECT_LT(evidence.slope(steps), 0);
  }
  EXPECT_EQ(evidence.best_steps(1e4), 1e4);
}

TEST(Posterior, IsBayesRuleAndTheGibbsTemperatureKeepsTheMode) {
  RandomStream random(0, "posterior");
  const Setting s(random, 10, 30, 0.2);
  const StepEvidence evidence(s.spectrum, s.r, s.rho, Noise::fixed);
  std::vector<double> prior(31);
  for (double& p : prior) p = random.uniform();
  const double prior_sum = std::accumulate(prior.begin(), prior.end(), 0.0);
  const StepPosterior posterior = step_posterior(evidence, whole_steps(30), prior, 0.7);
  double sum = 0, mean_score = 0, mean_steps = 0, divergence = 0;
  for (size_t t = 0; t <= 30; ++t)
    sum += prior[t] * std::exp(-0.7 * 10 * dense_score(s, static_cast<int>(t), evidence.noise_variance(0)));
  for (size_t t = 0; t <= 30; ++t) {
    const double score = dense_score(s, static_cast<int>(t), evidence.noise_variance(0));
    const double weight = prior[t] * std::exp(-0.7 * 10 * score) / sum;
    EXPECT_NEAR(posterior.weights[t], weight, 1e-9);
    mean_score += weight * score;
    mean_steps += weight * static_cast<double>(t);
    divergence += weight * std::log(weight * prior_sum / prior[t]);
  }
  EXPECT_NEAR(posterior.mean_score(), mean_score, 1e-9);
  EXPECT_NEAR(posterior.mean_steps(), mean_steps, 1e-7);
  EXPECT_NEAR(posterior.divergence(), divergence, 1e-8);
  const double mode = step_posterior(evidence, whole_steps(30)).map_steps();
  for (const double beta : {0.01, 0.5, 2.0, 1000.0})
    EXPECT_EQ(step_posterior(evidence, whole_steps(30), {}, beta).map_steps(), mode);
  EXPECT_EQ(step_posterior(evidence, whole_steps(30), {}, 0).map_steps(), 0);  // nothing but ties
}

TEST(Posterior, GeometricPriorMakesTheMixtureTheBayesFilter) {
  RandomStream random(0, "geometric");
  for (const double lambda_star : {0.5, 5.0, 60.0}) {
    const Setting s(random, 9, 14, 0.4);
    StepPosterior posterior;
    posterior.steps = whole_steps(20000);
    posterior.weights = geometric_step_prior(s.rho, lambda_star, 20000);
    const std::vector<double> mixture = mixture_filter(s.spectrum, s.rho, posterior);
    const std::vector<double> bayes = bayes_filter(s.spectrum, lambda_star);
    for (size_t i = 0; i < bayes.size(); ++i) EXPECT_NEAR(mixture[i], bayes[i], 1e-12 + 1e-10 * bayes[i]);
  }
}

TEST(Posterior, MistakesAreErrors) {
  RandomStream random(0, "mistakes");
  const Setting s(random, 4, 4, 0.2);
  const StepEvidence evidence(s.spectrum, s.r, s.rho, Noise::fixed);
  HONE_EXPECT_ERROR(step_posterior(evidence, {}), ErrorCode::bad_input, "begin with 0");
  HONE_EXPECT_ERROR(step_posterior(evidence, {1, 2}), ErrorCode::bad_input, "begin with 0");
  HONE_EXPECT_ERROR(step_posterior(evidence, {0, 2, 2}), ErrorCode::bad_input, "ascend");
  HONE_EXPECT_ERROR(step_posterior(evidence, {0, nan}), ErrorCode::bad_input, "number of steps");
  HONE_EXPECT_ERROR(step_posterior(evidence, {0, 1}, {1}), ErrorCode::bad_input, "prior over steps: 1");
  HONE_EXPECT_ERROR(step_posterior(evidence, {0, 1}, {1, -1}), ErrorCode::bad_input, "not a probability");
  HONE_EXPECT_ERROR(step_posterior(evidence, {0, 1}, {0, 0}), ErrorCode::bad_input, "sums to 0");
  HONE_EXPECT_ERROR(step_posterior(evidence, {0, 1}, {}, nan), ErrorCode::bad_input, "β");
  HONE_EXPECT_ERROR(geometric_step_prior(0, 1, 5), ErrorCode::bad_input, "geometric");
  HONE_EXPECT_ERROR(evidence.score(-1), ErrorCode::bad_input, "number of steps");
  HONE_EXPECT_ERROR(evidence.best_steps(nan), ErrorCode::bad_input, "number of steps");
  HONE_EXPECT_ERROR(StepEvidence(s.spectrum, s.r, 1 / s.spectrum.largest(), Noise::fixed), ErrorCode::bad_input, "ρ");
  HONE_EXPECT_ERROR(StepEvidence(s.spectrum, s.r, s.rho, 0.0), ErrorCode::bad_input, "σ²");
  HONE_EXPECT_ERROR(StepEvidence(s.spectrum, std::vector<double>(3), s.rho, Noise::fixed), ErrorCode::bad_input, "3");
  HONE_EXPECT_ERROR(StepEvidence(s.spectrum, std::vector<double>(4, 1e200), s.rho, Noise::fixed), ErrorCode::bad_input,
                    "too large");
}

TEST(Decision, HoldsTheCorrectionsOfEveryChoice) {
  RandomStream random(0, "decision");
  const Setting s(random, 10, 25, 0.2);
  const StepDecision decision = decide_steps(s.spectrum, s.problem.r(), s.problem.k());
  double mixture = 0, map = 0;
  Column theta = Column::Zero(25);
  for (size_t t = 0; t <= 30; ++t) {
    const double at = s.problem.query_feature.dot(theta);
    mixture += decision.posterior.weights[t] * at;
    if (decision.posterior.map_steps() == static_cast<double>(t)) map = at;
    theta += decision.rho * s.problem.features.transpose() * (s.problem.residuals - s.problem.features * theta);
  }
  EXPECT_NEAR(decision.mixture.correction, mixture, 1e-10);
  EXPECT_NEAR(decision.map.correction, map, 1e-10);
  EXPECT_NEAR(decision.bayes.gap.adapted, 0, 1e-12);
  EXPECT_TRUE(decision.map_certificate && decision.mixture_certificate);
  EXPECT_TRUE(decision.map_certificate->assumed);
  EXPECT_FALSE(decide_steps(s.spectrum, s.problem.r(), s.problem.k(), {.noise = Noise::profiled}).map_certificate);
  HONE_EXPECT_ERROR(decide_steps(s.spectrum, s.problem.r(), s.problem.k(), {.step = 1.5}), ErrorCode::bad_input, "1.5");
  HONE_EXPECT_ERROR(decide_steps(s.spectrum, s.problem.r(), s.problem.k(), {.delta = 0}), ErrorCode::bad_input, "δ");
  HONE_EXPECT_ERROR(decide_steps(s.spectrum, s.problem.r(), {}), ErrorCode::bad_input, "query: 0");
}

// Real T is sought as far as whole T are.
TEST(Decision, RealStepsStandBesideTheBestWholeOnes) {
  Matrix64 kernel(3, 3);
  kernel(0, 0) = 1, kernel(1, 1) = 0.4, kernel(2, 2) = 0.1;
  const StepDecision decision = decide_steps(Spectrum(kernel), std::vector{1.0, 0.6, 0.1}, std::vector{1.0, 1.0, 1.0},
                                             {.step = 5e-4, .steps = whole_steps(20000)});
  EXPECT_GT(decision.posterior.map_steps(), 300);
  EXPECT_LT(decision.posterior.map_steps(), 20000);
  EXPECT_NEAR(decision.real_steps, decision.posterior.map_steps(), 1);
}

void expect_no_correction(const StepDecision& decision) {
  EXPECT_EQ(decision.posterior.map_steps(), 0);
  EXPECT_EQ(decision.real_steps, 0);
  for (const StepChoice* choice : {&decision.map, &decision.mixture, &decision.real, &decision.bayes}) {
    EXPECT_EQ(choice->correction, 0);
    EXPECT_FALSE(choice->gap.adapt);
  }
  for (const double score : decision.posterior.scores) EXPECT_TRUE(std::isfinite(score));
  EXPECT_NEAR(std::accumulate(decision.posterior.weights.begin(), decision.posterior.weights.end(), 0.0), 1, 1e-12);
}

TEST(Decision, LimitCasesDoNotAdapt) {
  RandomStream random(0, "limits");
  for (const Noise noise : noises) {
    const StepOptions options{.noise = noise};
    const Setting s(random, 6, 9, 0.2);
    expect_no_correction(decide_steps(s.spectrum, std::vector<double>(6), s.problem.k(), options));
    const Spectrum zero(Matrix64(6, 6));
    expect_no_correction(decide_steps(zero, s.problem.r(), std::vector<double>(6), options));
    expect_no_correction(decide_steps(zero, std::vector<double>(6), std::vector<double>(6), options));
  }
}

TEST(Decision, OneExampleAndEqualExamples) {
  Matrix64 one(1, 1);
  one(0, 0) = 2;
  for (const Noise noise : noises) {
    const StepDecision decision = decide_steps(Spectrum(one), std::vector{0.5}, std::vector{1.5}, {.noise = noise});
    EXPECT_EQ(decision.posterior.map_steps(), 0);  // one residual is no evidence for anything
    EXPECT_EQ(decision.real_steps, 0);
    EXPECT_EQ(decision.signal.boundary, SignalBoundary::no_signal);
  }
  // Five equal examples with residuals that agree: the one direction explains them all.
  Matrix64 equal(5, 5);
  for (double& x : equal.values) x = 1;
  const std::vector<double> agreeing = {1, 1.02, 0.98, 1.01, 0.99}, query(5, 1.0);
  const StepDecision decision = decide_steps(Spectrum(equal), agreeing, query);
  EXPECT_GT(decision.posterior.map_steps(), 0);
  EXPECT_TRUE(decision.bayes.gap.adapt);
  EXPECT_NEAR(decision.bayes.correction, 1, 0.01);
  const StepDecision against = decide_steps(Spectrum(equal), std::vector<double>{1, -1, 0.5, -0.5, 0}, query);
  EXPECT_EQ(against.posterior.map_steps(), 0);
  EXPECT_EQ(against.signal.boundary, SignalBoundary::no_signal);
}

}  // namespace
}  // namespace hone::decide::steps_test
