// Gradient descent, run step by step in weight space, is the filter that the spectrum computes.
#include "hone/spectrum.h"

#include <cmath>
#include <limits>

#include "tests/expect_error.h"
#include "tests/random_kernel.h"

namespace hone::decide::spectrum_test {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

struct Shape {
  size_t n, d;
};
constexpr Shape shapes[] = {{1, 1}, {1, 5}, {2, 1}, {6, 20}, {10, 4}, {40, 60}};

TEST(Spectrum, RebuildsTheKernel) {
  RandomStream random(0, "spectrum");
  for (const auto [n, d] : shapes) {
    const Problem p = random_problem(random, n, d);
    const Spectrum spectrum = p.spectrum();
    EXPECT_EQ(spectrum.size(), n);
    EXPECT_EQ(spectrum.rank(), std::min(n, d));
    for (size_t i = 1; i < n; ++i) EXPECT_GE(spectrum.eigenvalues()[i - 1], spectrum.eigenvalues()[i]);
    EXPECT_LT((to_dense(spectrum.function(spectrum.eigenvalues())) - p.kernel).norm(), 1e-12 * p.kernel.norm());
    const std::vector<double> there = spectrum.coordinates(p.r(), "r");
    EXPECT_LT((to_column(spectrum.combination(there)) - p.residuals).norm(), 1e-12);
    EXPECT_NEAR(to_column(there).norm(), p.residuals.norm(), 1e-12);
  }
}

TEST(Spectrum, FilterIsGradientDescentRunStepByStep) {
  RandomStream random(0, "descent");
  for (const auto [n, d] : shapes)
    for (const double c : {0.05, 0.2, 0.95}) {
      const Problem p = random_problem(random, n, d);
      const Spectrum spectrum = p.spectrum();
      const double rho = step_size(spectrum, c);
      const std::vector<double> r = spectrum.coordinates(p.r(), "r"), k = spectrum.coordinates(p.k(), "k");
      Column theta = Column::Zero(p.query_feature.size());
      for (int steps = 0; steps <= 40; ++steps) {
        const double expected = p.query_feature.dot(theta);
        ASSERT_NEAR(correction(descent_filter(spectrum, rho, steps), k, r), expected,
                    1e-10 * std::max(1.0, std::abs(expected)))
            << n << " x " << d << ", c " << c << ", " << steps << " steps";
        theta += rho * p.features.transpose() * (p.residuals - p.features * theta);
      }
    }
}

// [DTV] Prop. 4.1: the fit after T steps is the posterior mean of f under f ~ N(0, σ² G_T (I − G_T)^{-1}), r = f +
// noise σ².
TEST(Spectrum, FilterIsAPosteriorMean) {
  RandomStream random(0, "prior");
  for (const auto [n, d] : shapes)
    for (const double steps : {1.0, 3.0, 7.5}) {
      const Problem p = random_problem(random, n, d);
      const Spectrum spectrum = p.spectrum();
      const double rho = step_size(spectrum, 0.3), noise = 0.7;
      std::vector<double> fitted, prior;
      for (const double lambda : spectrum.eigenvalues()) {
        fitted.push_back(descent_fitted(lambda, rho, steps));
        prior.push_back(noise * fitted.back() / (1 - fitted.back()));
      }
      const Dense covariance = to_dense(spectrum.function(prior));
      const Dense total = covariance + noise * Dense::Identity(covariance.rows(), covariance.cols());
      const Column mean = covariance * total.llt().solve(p.residuals);
      EXPECT_LT((to_dense(spectrum.function(fitted)) * p.residuals - mean).norm(), 1e-10);
    }
}

TEST(Filters, KnowTheirLimits) {
  EXPECT_DOUBLE_EQ(descent_filter(0, 0.3, 7), 0.3 * 7);
  EXPECT_NEAR(descent_filter(1e-300, 0.3, 7), 0.3 * 7, 1e-12);
  EXPECT_NEAR(descent_filter(1e-12, 0.3, 7), 0.3 * 7, 1e-10);
  EXPECT_EQ(descent_filter(2, 0.3, 0), 0);
  EXPECT_NEAR(descent_fitted(2, 0.3, 3), 1 - 0.4 * 0.4 * 0.4, 1e-15);
  EXPECT_NEAR(descent_filter(2, 0.3, 1e4), 0.5, 1e-15);
  EXPECT_NEAR(descent_filter(2, 1e-6, 1e6), flow_filter(2, 1), 1e-5);  // many small steps are gradient flow
  EXPECT_DOUBLE_EQ(flow_filter(0, 3), 3);
  EXPECT_DOUBLE_EQ(bayes_filter(2, 0.5), 0.4);
  EXPECT_EQ(bayes_filter(2, infinity), 0);
  EXPECT_EQ(bayes_filter(0, 0), 0);
  for (const double lambda : {0.0, 1e-9, 0.4, 20.0})  // at its ideal time a mode is fitted as Bayes fits it
    EXPECT_NEAR(flow_filter(lambda, ideal_time(lambda, 0.8)), bayes_filter(lambda, 0.8), 1e-14);
}

TEST(Filters, RidgeIsTheRegularisedSolution) {
  RandomStream random(0, "ridge");
  const Problem p = random_problem(random, 7, 12);
  const Spectrum spectrum = p.spectrum();
  const Dense normal = p.features.transpose() * p.features + 0.6 * Dense::Identity(12, 12);
  const double expected = p.query_feature.dot(normal.llt().solve(p.features.transpose() * p.residuals));
  EXPECT_NEAR(
      correction(bayes_filter(spectrum, 0.6), spectrum.coordinates(p.k(), "k"), spectrum.coordinates(p.r(), "r")),
      expected, 1e-11);
}

TEST(Spectrum, OneExampleEqualExamplesAndAKernelOfZeros) {
  Matrix64 one(1, 1);
  one(0, 0) = 4;
  EXPECT_DOUBLE_EQ(Spectrum(one).largest(), 4);
  Matrix64 equal(5, 5);
  for (double& x : equal.values) x = 3;
  const Spectrum rank_one(equal);
  EXPECT_NEAR(rank_one.largest(), 15, 1e-13);
  EXPECT_EQ(rank_one.rank(), 1U);
  const Spectrum zero(Matrix64(4, 4));
  EXPECT_EQ(zero.largest(), 0);
  EXPECT_EQ(zero.rank(), 0U);
  EXPECT_EQ(step_size(zero, 0.2), 0);
  for (const double q : descent_filter(zero, step_size(zero, 0.2), 30)) EXPECT_EQ(q, 0);
}

TEST(Spectrum, RoundingIsForgivenAndMistakesAreNot) {
  RandomStream random(0, "rounding");
  const Problem p = random_problem(random, 12, 3);
  Matrix64 kernel = to_matrix64(p.kernel);
  for (double& x : kernel.values) x = static_cast<double>(static_cast<float>(x * (1 + 1e-7 * random.normal())));
  const Spectrum spectrum(kernel);
  EXPECT_LT(spectrum.most_negative(), 0);
  EXPECT_GE(spectrum.eigenvalues().back(), 0);

  HONE_EXPECT_ERROR(Spectrum(Matrix64(0, 0)), ErrorCode::bad_input, "no examples");
  HONE_EXPECT_ERROR(Spectrum(Matrix64(3, 2)), ErrorCode::bad_input, "3 x 2");
  for (const double bad : {nan, infinity, -infinity}) {
    kernel = to_matrix64(p.kernel);
    kernel(3, 5) = bad;
    HONE_EXPECT_ERROR(Spectrum{kernel}, ErrorCode::bad_input, "not a finite number");
  }
  kernel = to_matrix64(p.kernel);
  kernel(0, 1) += 0.01 * p.kernel.maxCoeff();
  HONE_EXPECT_ERROR(Spectrum{kernel}, ErrorCode::bad_input, "not symmetric");
  kernel = to_matrix64(p.kernel - 0.01 * p.kernel.norm() * Dense::Identity(12, 12));
  HONE_EXPECT_ERROR(Spectrum{kernel}, ErrorCode::bad_input, "not positive semidefinite");
  kernel = to_matrix64(-Dense::Identity(2, 2));
  HONE_EXPECT_ERROR(Spectrum{kernel}, ErrorCode::bad_input, "not positive semidefinite");
  kernel = to_matrix64(1e308 * Dense::Ones(9, 9));
  HONE_EXPECT_ERROR(Spectrum{kernel}, ErrorCode::bad_input, "scale it");
}

TEST(Spectrum, StepsThatMayDivergeAndWrongSizesAreErrors) {
  RandomStream random(0, "errors");
  const Spectrum spectrum = random_problem(random, 4, 6).spectrum();
  HONE_EXPECT_ERROR(descent_filter(spectrum, 1 / spectrum.largest(), 3), ErrorCode::bad_input, "may diverge");
  HONE_EXPECT_ERROR(descent_filter(spectrum, nan, 3), ErrorCode::bad_input, "may diverge");
  HONE_EXPECT_ERROR(descent_filter(spectrum, -1e-9, 3), ErrorCode::bad_input, "may diverge");
  HONE_EXPECT_ERROR(descent_filter(spectrum, 0, -1), ErrorCode::bad_input, "not a number of steps");
  HONE_EXPECT_ERROR(step_size(spectrum, 1), ErrorCode::bad_input, "between 0 and 1");
  HONE_EXPECT_ERROR(step_size(spectrum, nan), ErrorCode::bad_input, "between 0 and 1");
  HONE_EXPECT_ERROR(bayes_filter(spectrum, -1), ErrorCode::bad_input, "λ*");
  HONE_EXPECT_ERROR(spectrum.coordinates(std::vector<double>(3), "residuals"), ErrorCode::bad_input, "residuals: 3");
  HONE_EXPECT_ERROR(spectrum.coordinates(std::vector<double>(4, nan), "query"), ErrorCode::bad_input, "query: value 0");
  HONE_EXPECT_ERROR(spectrum.function(std::vector<double>(5)), ErrorCode::bad_input, "function: 5");
  HONE_EXPECT_ERROR(spectrum.combination(std::vector<double>(5)), ErrorCode::bad_input, "combination: 5");
  HONE_EXPECT_ERROR(correction(std::vector<double>(4), std::vector<double>(3), std::vector<double>(4)),
                    ErrorCode::bad_input, "correction");
}

}  // namespace
}  // namespace hone::decide::spectrum_test
