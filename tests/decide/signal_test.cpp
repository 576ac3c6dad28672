// The Bayes gap against Monte Carlo, and the marginal likelihood against dense algebra and a fine grid.
#include "hone/signal.h"

#include <cmath>
#include <limits>

#include "tests/expect_error.h"
#include "tests/random_kernel.h"

namespace hone::decide::signal_test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// Residuals of the benchmark: f = τΦθ, r = f + σε.
Column draw(RandomStream& random, const Problem& p, const Signal& signal) {
  return std::sqrt(signal.signal_variance) * p.features * random_column(random, p.features.cols()) +
         std::sqrt(signal.noise_variance) * random_column(random, p.features.rows());
}

TEST(BayesGap, ExcessRiskMatchesMonteCarlo) {
  RandomStream random(0, "bayes gap");
  constexpr int draws = 100000;
  struct Case {
    size_t n, d;
    Signal signal;
    double steps;
  };
  for (const Case& c : {Case{6, 10, {0.5, 2}, 3}, Case{5, 2, {2, 0.3}, 20}, Case{4, 9, {0, 1}, 8}}) {
    const Problem p = random_problem(random, c.n, c.d);
    const Spectrum spectrum = p.spectrum();
    const std::vector<double> k = spectrum.coordinates(p.k(), "k");
    const double rho = step_size(spectrum, 0.3);
    const std::vector<double> filter = descent_filter(spectrum, rho, c.steps);
    const BayesGap gap = bayes_gap(spectrum, k, c.signal, filter);

    // Total risk: the query's truth is τφ(x)ᵀθ. Differences to the Bayes rule on the same draw are the excess.
    const Dense total = c.signal.signal_variance * p.kernel +
                        c.signal.noise_variance * Dense::Identity(p.kernel.rows(), p.kernel.rows());
    const Column bayes = c.signal.signal_variance * total.llt().solve(p.query);
    const Column adapted = to_dense(spectrum.function(filter)) * p.query;
    double sums[2] = {}, squares[2] = {};
    for (int i = 0; i < draws; ++i) {
      const Column theta = random_column(random, c.d);
      const Column r = std::sqrt(c.signal.signal_variance) * p.features * theta +
                       std::sqrt(c.signal.noise_variance) * random_column(random, c.n);
      const double truth = std::sqrt(c.signal.signal_variance) * p.query_feature.dot(theta);
      const double least = std::pow(bayes.dot(r) - truth, 2);
      const double excess[2] = {std::pow(adapted.dot(r) - truth, 2) - least, truth * truth - least};
      for (int j = 0; j < 2; ++j) sums[j] += excess[j], squares[j] += excess[j] * excess[j];
    }
    const double expected[2] = {gap.adapted, gap.base};
    for (int j = 0; j < 2; ++j) {
      const double mean = sums[j] / draws;
      const double error = std::sqrt((squares[j] / draws - mean * mean) / draws);
      EXPECT_NEAR(mean, expected[j], 3 * error + 1e-12) << "filter " << j << ", τ² " << c.signal.signal_variance;
    }
    EXPECT_EQ(gap.adapt, gap.adapted < gap.base);
    const double closed = c.signal.signal_variance * p.query.dot(bayes);  // τ² k_xᵀ(K + λ*I)^{-1}k_x
    EXPECT_NEAR(gap.base, closed, 1e-9 * (1 + closed));
  }
}

TEST(BayesGap, NoFilterBeatsBayesAndNoSignalNeverAdapts) {
  RandomStream random(0, "bayes");
  const Problem p = random_problem(random, 8, 12);
  const Spectrum spectrum = p.spectrum();
  const std::vector<double> k = spectrum.coordinates(p.k(), "k");
  const Signal signal{0.7, 1.1};
  EXPECT_NEAR(excess_risk(spectrum, k, signal, bayes_filter(spectrum, signal.lambda_star())), 0, 1e-14);
  for (const double steps : {1.0, 5.0, 30.0}) {
    const std::vector<double> filter = descent_filter(spectrum, step_size(spectrum, 0.2), steps);
    EXPECT_GT(excess_risk(spectrum, k, signal, filter), 0);
    EXPECT_FALSE(bayes_gap(spectrum, k, {0, 1}, filter).adapt);
  }
  const Signal noiseless{1, 0};  // Bayes interpolates; the gap of not adapting is all of k_xᵀK⁻¹k_x
  EXPECT_NEAR(bayes_gap(spectrum, k, noiseless, bayes_filter(spectrum, 0)).base,
              p.query.dot(p.kernel.llt().solve(p.query)), 1e-8);
}

TEST(Signal, LikelihoodMatchesDenseAlgebra) {
  RandomStream random(0, "likelihood");
  for (const size_t d : {3, 12}) {
    const Problem p = random_problem(random, 9, d);
    const Dense total = 0.4 * p.kernel + 1.3 * Dense::Identity(9, 9);
    const double log_determinant = std::log(total.determinant());
    const double expected = -(log_determinant + p.residuals.dot(total.llt().solve(p.residuals))) / 2;
    const Spectrum spectrum = p.spectrum();
    EXPECT_NEAR(log_likelihood(spectrum, spectrum.coordinates(p.r(), "r"), 0.4, 1.3), expected, 1e-10);
  }
}

TEST(Signal, FitIsTheMaximumOfTheLikelihood) {
  RandomStream random(0, "fit");
  for (int repetition = 0; repetition < 40; ++repetition) {
    const Problem p = random_problem(random, 12, 3 + repetition % 20);
    const Spectrum spectrum = p.spectrum();
    const Signal truth{repetition % 3 * 0.5, 1};
    const std::vector<double> r = spectrum.coordinates(to_vector(draw(random, p, truth)), "r");
    const Signal fit = fit_signal(spectrum, r);
    EXPECT_NEAR(fit.log_likelihood, log_likelihood(spectrum, r, fit.signal_variance, fit.noise_variance), 1e-8);
    for (double log_ratio = -18; log_ratio <= 18; log_ratio += 0.03) {
      const double lambda_star = std::exp(log_ratio) * spectrum.largest();
      double signal_variance = 0;
      for (size_t i = 0; i < r.size(); ++i)
        signal_variance += r[i] * r[i] / (spectrum.eigenvalues()[i] + lambda_star) / 12;
      ASSERT_GE(fit.log_likelihood + 1e-8, log_likelihood(spectrum, r, signal_variance, signal_variance * lambda_star));
    }
    if (fit.boundary == SignalBoundary::none)
      for (const double factor : {0.99, 1.01}) {
        EXPECT_GE(fit.log_likelihood, log_likelihood(spectrum, r, factor * fit.signal_variance, fit.noise_variance));
        EXPECT_GE(fit.log_likelihood, log_likelihood(spectrum, r, fit.signal_variance, factor * fit.noise_variance));
      }
  }
}

TEST(Signal, IsFoundInManyExamples) {
  RandomStream random(0, "many");
  const Problem p = random_problem(random, 400, 300);
  const Spectrum spectrum = p.spectrum();
  const Signal fit = fit_signal(spectrum, spectrum.coordinates(to_vector(draw(random, p, {0.5, 20})), "r"));
  EXPECT_NEAR(fit.signal_variance, 0.5, 0.15);
  EXPECT_NEAR(fit.noise_variance, 20, 6);
  EXPECT_EQ(fit.boundary, SignalBoundary::none);
}

TEST(Signal, BoundariesAreReported) {
  RandomStream random(0, "boundaries");
  const Problem p = random_problem(random, 8, 3);
  const Spectrum spectrum = p.spectrum();
  std::vector<double> outside(8);
  outside[7] = 1;  // a null mode: nothing that the kernel could explain
  const Signal none = fit_signal(spectrum, outside);
  EXPECT_EQ(none.boundary, SignalBoundary::no_signal);
  EXPECT_EQ(none.signal_variance, 0);
  EXPECT_NEAR(none.noise_variance, 1.0 / 8, 1e-15);
  EXPECT_EQ(none.lambda_star(), infinity);
  std::vector<double> inside(8);
  for (size_t i = 0; i < 3; ++i) inside[i] = std::sqrt(spectrum.eigenvalues()[i]);
  EXPECT_EQ(fit_signal(spectrum, inside).boundary, SignalBoundary::no_noise);
  EXPECT_EQ(fit_signal(Spectrum(Matrix64(8, 8)), inside).boundary, SignalBoundary::no_signal);
  EXPECT_EQ(fit_signal(spectrum, std::vector<double>(8)).boundary, SignalBoundary::no_signal);
  HONE_EXPECT_ERROR(fit_signal(spectrum, std::vector<double>(7)), ErrorCode::bad_input, "residuals: 7");
  HONE_EXPECT_ERROR(log_likelihood(spectrum, inside, -1, 1), ErrorCode::bad_input, "τ²");
  HONE_EXPECT_ERROR(excess_risk(spectrum, inside, {1, infinity}, inside), ErrorCode::bad_input, "σ²");
  HONE_EXPECT_ERROR(excess_risk(spectrum, inside, {1, 1}, {}), ErrorCode::bad_input, "filter");
}

}  // namespace
}  // namespace hone::decide::signal_test
