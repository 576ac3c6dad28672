// Leave-one-out against refits, the learned prior against its optimality, the mixture of selectors against its bound.
#include "hone/selectors.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/expect_error.h"
#include "tests/random_kernel.h"

namespace hone::decide::selectors_test {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

struct Shape {
  size_t n, d;
};

// Features and residuals without example i.
Problem without(const Problem& p, Eigen::Index i) {
  Problem rest = p;
  const Eigen::Index n = p.features.rows();
  rest.features.resize(n - 1, Eigen::NoChange);
  rest.residuals.resize(n - 1);
  for (Eigen::Index j = 0, to = 0; j < n; ++j) {
    if (j == i) continue;
    rest.features.row(to) = p.features.row(j);
    rest.residuals(to++) = p.residuals(j);
  }
  return rest;
}

TEST(LeaveOneOut, DescentIsRunAgainWithoutEachExample) {
  RandomStream random(0, "refit");
  for (const auto [n, d] : {Shape{2, 3}, Shape{7, 4}, Shape{6, 20}}) {
    const Problem p = random_problem(random, n, d);
    const double rho = step_size(p.spectrum(), 0.4);
    const std::vector<double> steps = whole_steps(12);
    const LeaveOneOut result = leave_one_out_descent(to_matrix64(p.kernel), p.spectrum(), p.r(), rho, steps);
    std::vector<double> with_a_half = steps;  // which products cannot reach: by eigenvectors
    with_a_half.push_back(12.5);
    const LeaveOneOut by_spectra = leave_one_out_descent(to_matrix64(p.kernel), p.spectrum(), p.r(), rho, with_a_half);
    std::vector<double> scores(steps.size());
    for (size_t i = 0; i < n; ++i) {
      const Problem rest = without(p, static_cast<Eigen::Index>(i));
      Column theta = Column::Zero(static_cast<Eigen::Index>(d));
      for (size_t t = 0; t < steps.size(); ++t) {
        const auto row = static_cast<Eigen::Index>(i);
        const double error = p.residuals(row) - p.features.row(row).dot(theta);
        EXPECT_NEAR(result.errors(t, i), error, 1e-10);
        EXPECT_NEAR(by_spectra.errors(t, i), error, 1e-10);
        scores[t] += error * error / static_cast<double>(n);
        theta += rho * rest.features.transpose() * (rest.residuals - rest.features * theta);
      }
    }
    for (size_t t = 0; t < steps.size(); ++t) EXPECT_NEAR(result.scores[t], scores[t], 1e-10);
    EXPECT_EQ(result.best, static_cast<size_t>(std::ranges::min_element(scores) - scores.begin()));
  }
}

// Rounding that is nothing beside the largest eigenvalue is nothing where the example that has it is left out.
TEST(LeaveOneOut, WhatIsLeftOfAnAcceptedKernelIsAccepted) {
  Matrix64 kernel(3, 3);
  kernel(0, 0) = 1;
  kernel(1, 1) = 1e-6;
  kernel(2, 2) = -5e-5;
  const std::vector<double> residuals = {1, 1, 1};
  for (const double last : {4.0, 4.5}) {
    const std::vector<double> steps = {0, last};
    const LeaveOneOut result =
        leave_one_out_descent(kernel, Spectrum(kernel), residuals, step_size(Spectrum(kernel), 0.5), steps);
    for (const double error : result.errors.values) EXPECT_NEAR(error, 1, 1e-5);
  }
}

TEST(LeaveOneOut, AllOutputsOfAnExampleAreLeftOut) {
  RandomStream random(0, "outputs");
  const Problem p = random_problem(random, 8, 5);
  const Matrix64 kernel = to_matrix64(p.kernel);
  const double rho = step_size(p.spectrum(), 0.5);
  for (const std::vector<double>& steps : {std::vector<double>{0, 1, 5}, std::vector<double>{0, 1.5, 5}}) {
    std::vector<double> r = p.r();
    const auto errors = [&](size_t outputs) {
      return leave_one_out_descent(kernel, p.spectrum(), r, rho, steps, outputs).errors;
    };
    const Matrix64 before = errors(2);
    r[2] += 50;
    r[3] -= 7;
    const Matrix64 after = errors(2);
    for (size_t t = 0; t < steps.size(); ++t) {
      EXPECT_DOUBLE_EQ(before(t, 2) + 50, after(t, 2));
      EXPECT_DOUBLE_EQ(before(t, 3) - 7, after(t, 3));
      if (t > 0) {
        EXPECT_GT(std::fabs(before(t, 0) - after(t, 0)), 1e-3);
      }
    }
  }
}

// More examples than are taken at once, on any number of threads: the same numbers.
TEST(LeaveOneOut, ManyExamplesAndCancelling) {
  RandomStream random(0, "many");
  const Problem p = random_problem(random, 35, 6);
  const double rho = step_size(p.spectrum(), 0.5);
  const std::vector<double> whole = {7, 0, 30}, real = {7, 0, 30, 0.5};
  const LeaveOneOut products = leave_one_out_descent(to_matrix64(p.kernel), p.spectrum(), p.r(), rho, whole);
  const LeaveOneOut spectra = leave_one_out_descent(to_matrix64(p.kernel), p.spectrum(), p.r(), rho, real);
  for (size_t t = 0; t < whole.size(); ++t)
    for (size_t i = 0; i < 35; ++i) EXPECT_NEAR(products.errors(t, i), spectra.errors(t, i), 1e-10);
  const int threads_before = threads();
  set_threads(1);
  const LeaveOneOut alone = leave_one_out_descent(to_matrix64(p.kernel), p.spectrum(), p.r(), rho, whole);
  set_threads(threads_before);
  EXPECT_EQ(alone.errors.values, products.errors.values);
  CancelToken cancel;
  cancel.cancel();
  for (const auto& steps : {whole, real})
    HONE_EXPECT_ERROR(leave_one_out_descent(to_matrix64(p.kernel), p.spectrum(), p.r(), rho, steps, 1, cancel),
                      ErrorCode::cancelled, "");
}

TEST(LeaveOneOut, ClosedFormOfRidgeIsARefit) {
  RandomStream random(0, "ridge");
  for (const auto [n, d] : {Shape{1, 2}, Shape{2, 1}, Shape{7, 4}, Shape{6, 20}}) {
    const Problem p = random_problem(random, n, d);
    const std::vector<double> penalties = {0.1, 2, 50, infinity};
    const LeaveOneOut result = leave_one_out_ridge(p.spectrum(), p.r(), penalties);
    for (size_t c = 0; c < penalties.size(); ++c)
      for (size_t i = 0; i < n; ++i) {
        const auto row = static_cast<Eigen::Index>(i);
        double predicted = 0;
        if (n > 1 && std::isfinite(penalties[c])) {
          const Problem rest = without(p, row);
          const Dense normal = rest.features.transpose() * rest.features +
                               penalties[c] * Dense::Identity(p.features.cols(), p.features.cols());
          predicted = p.features.row(row).dot(normal.llt().solve(rest.features.transpose() * rest.residuals));
        }
        EXPECT_NEAR(result.errors(c, i), p.residuals(row) - predicted, 1e-9);
      }
  }
}

TEST(LeaveOneOut, OneExampleAZeroKernelAndMistakes) {
  Matrix64 one(1, 1);
  one(0, 0) = 3;
  const std::vector<double> r = {0.4};
  const LeaveOneOut alone = leave_one_out_descent(one, Spectrum(one), r, 0.1, whole_steps(3));
  EXPECT_EQ(alone.best, 0U);
  for (const double score : alone.scores) EXPECT_DOUBLE_EQ(score, 0.16);
  EXPECT_EQ(
      leave_one_out_descent(Matrix64(3, 3), Spectrum(Matrix64(3, 3)), std::vector<double>(3, 1), 0, whole_steps(3))
          .best,
      0U);
  HONE_EXPECT_ERROR(leave_one_out_descent(one, Spectrum(one), r, 1, whole_steps(3)), ErrorCode::bad_input, "ρ");
  HONE_EXPECT_ERROR(leave_one_out_descent(one, Spectrum(one), r, 0.1, {}), ErrorCode::bad_input, "no numbers of steps");
  HONE_EXPECT_ERROR(leave_one_out_descent(one, Spectrum(one), {}, 0.1, whole_steps(3)), ErrorCode::bad_input,
                    "residuals: 0");
  HONE_EXPECT_ERROR(leave_one_out_descent(one, Spectrum(one), r, 0.1, whole_steps(3), 2), ErrorCode::bad_input,
                    "1 rows are no examples of 2 outputs");
  Matrix64 wide(1, 4);
  const Spectrum of_two(Matrix64(2, 2));
  HONE_EXPECT_ERROR(leave_one_out_descent(wide, of_two, r, 0.1, whole_steps(3)), ErrorCode::bad_input, "kernel");
  HONE_EXPECT_ERROR(leave_one_out_descent(wide, of_two, r, 0.1, std::vector<double>{0.5}), ErrorCode::bad_input,
                    "kernel");
  Matrix64 no_number(1, 1);
  no_number(0, 0) = std::nan("");
  HONE_EXPECT_ERROR(leave_one_out_descent(no_number, Spectrum(one), r, 0.1, whole_steps(3)), ErrorCode::bad_input,
                    "not a finite number");
  HONE_EXPECT_ERROR(leave_one_out_ridge(Spectrum(one), r, std::vector<double>{0}), ErrorCode::bad_input, "λ*");
  HONE_EXPECT_ERROR(leave_one_out_ridge(Spectrum(one), r, {}), ErrorCode::bad_input, "no penalties");
}

TEST(StepPrior, LearnsTheProportionsOfAStream) {
  // Prompts are of two kinds: 70 % favour T = 1, 30 % favour T = 3, with evidence of varying strength.
  RandomStream random(0, "stream");
  StepPrior prior(std::vector<double>(5, 1), 10);
  for (int prompt = 0; prompt < 600; ++prompt) {
    std::vector<double> scores(5, 0.0);
    scores[random.uniform() < 0.7 ? 1 : 3] = -0.3 - random.uniform();
    prior.observe(scores, 10);
  }
  EXPECT_EQ(prior.prompts(), 600U);
  EXPECT_NEAR(prior.prior()[1], 0.7, 0.05);
  EXPECT_NEAR(prior.prior()[3], 0.3, 0.05);
  EXPECT_NEAR(std::accumulate(prior.prior().begin(), prior.prior().end(), 0.0), 1, 1e-12);
  for (const double p : prior.prior()) EXPECT_GT(p, 0);
}

TEST(StepPrior, IsTheMaximumOfItsObjective) {
  RandomStream random(0, "objective");
  const std::vector<double> initial = {0.5, 0.3, 0.2};
  StepPrior prior(initial, 4);
  std::vector<std::vector<double>> seen;
  for (int prompt = 0; prompt < 25; ++prompt) {
    seen.push_back(to_vector(0.2 * random_column(random, 3)));
    prior.observe(seen.back(), 8);
  }
  const auto objective = [&](const std::vector<double>& p) {
    double sum = 0;
    for (const auto& scores : seen) {
      double likelihood = 0;
      for (size_t t = 0; t < 3; ++t) likelihood += p[t] * std::exp(-8 * scores[t]);
      sum += std::log(likelihood);
    }
    for (size_t t = 0; t < 3; ++t) sum += 4 * initial[t] * std::log(p[t]);
    return sum;
  };
  const double best = objective(prior.prior());
  for (double a = 0.01; a < 1; a += 0.01)
    for (double b = 0.01; a + b < 1; b += 0.01) ASSERT_LE(objective({a, b, 1 - a - b}), best + 1e-7);
}

// Evidence that hardly tells neighbouring numbers of steps apart, where plain expectation maximisation creeps.
TEST(StepPrior, ReachesTheMaximumOfAFlatObjective) {
  constexpr size_t count = 55, prompts = 400;
  RandomStream random(1, "flat");
  StepPrior prior(std::vector<double>(count, 1));
  std::vector<std::vector<double>> seen;
  for (size_t prompt = 0; prompt < prompts; ++prompt) {
    const double best = count * random.uniform(), width = 0.004 * random.uniform();
    std::vector<double> likelihoods, scores;
    for (size_t t = 0; t < count; ++t) {
      scores.push_back(width * std::abs(static_cast<double>(t) - best));
      likelihoods.push_back(std::exp(-10 * scores[t]));
    }
    prior.observe(scores, 10);
    seen.push_back(likelihoods);
  }
  // At the maximum over the simplex every derivative is the same: the number of prompts and pseudo-prompts.
  for (size_t t = 0; t < count; ++t) {
    double derivative = 10.0 / count / prior.prior()[t];
    for (const auto& likelihoods : seen)
      derivative +=
          likelihoods[t] / std::inner_product(likelihoods.begin(), likelihoods.end(), prior.prior().begin(), 0.0);
    EXPECT_NEAR(derivative / (prompts + 10.0), 1, 1e-5) << t;
  }
}

// Of a hundred thousand numbers of steps and three prompts, in time and memory that three prompts need.
TEST(StepPrior, OfMoreStepsThanPrompts) {
  constexpr size_t count = 100001;
  StepPrior prior(std::vector<double>(count, 1));
  std::vector<std::vector<double>> seen;
  for (const double best : {10.0, 300.0, 301.0}) {
    std::vector<double> scores;
    for (size_t t = 0; t < count; ++t) scores.push_back(std::abs(std::log((static_cast<double>(t) + 1) / best)));
    prior.observe(scores, 10);
    seen.push_back(scores);
    for (double& score : seen.back()) score = std::exp(-10 * score);
  }
  EXPECT_NEAR(std::accumulate(prior.prior().begin(), prior.prior().end(), 0.0), 1, 1e-9);
  std::vector<double> likelihoods;
  for (const auto& likelihood : seen)
    likelihoods.push_back(std::inner_product(likelihood.begin(), likelihood.end(), prior.prior().begin(), 0.0));
  for (const size_t t : {0, 9, 299, 300, 50000}) {
    double derivative = 10.0 / count / prior.prior()[t];
    for (size_t p = 0; p < 3; ++p) derivative += seen[p][t] / likelihoods[p];
    EXPECT_NEAR(derivative / 13, 1, 1e-4) << t;
  }
}

TEST(StepPrior, UnseenAndWrong) {
  StepPrior prior({1, 3}, 1);
  EXPECT_EQ(prior.prior(), (std::vector<double>{0.25, 0.75}));
  prior.observe(std::vector<double>{-1e6, 1e6}, 10);  // certainty
  EXPECT_NEAR(prior.prior()[0], (0.25 + 1) / 2, 1e-6);
  HONE_EXPECT_ERROR(prior.observe(std::vector<double>{1}, 10), ErrorCode::bad_input, "scores: 1");
  HONE_EXPECT_ERROR(prior.observe(std::vector<double>{1, nan}, 10), ErrorCode::bad_input, "scores: value 1");
  HONE_EXPECT_ERROR(StepPrior({}), ErrorCode::bad_input, "empty");
  HONE_EXPECT_ERROR(StepPrior({1, 0}), ErrorCode::bad_input, "positive");
  HONE_EXPECT_ERROR(StepPrior({1, 1}, 0), ErrorCode::bad_input, "strength");
}

TEST(SelectorMixture, NeverLosesMoreThanItsBound) {
  RandomStream random(0, "selectors");
  for (const Sharing sharing : {Sharing::bayes, Sharing::fixed_share})
    for (int repetition = 0; repetition < 60; ++repetition) {
      const double low = random.normal(), high = low + std::exp(random.normal());
      const size_t experts = 2 + random.below(5);
      std::vector<double> prior(experts, 0.5 / static_cast<double>(experts - 1));
      prior[0] = 0.5;
      SelectorMixture mixture(prior, low, high, sharing);
      double excess = 0;
      for (size_t t = 1; t <= 300; ++t) {
        std::vector<double> predictions(experts);
        for (double& p : predictions) p = low + (high - low) * (1.6 * random.uniform() - 0.3);
        predictions[0] = std::clamp(predictions[0], low, high);
        const double mixed = mixture.predict(predictions);
        EXPECT_GE(mixed, low);
        EXPECT_LE(mixed, high);
        // An adversary: the end of the range that is worse for the mixture, a random answer, or the base's own word.
        const double end = mixed < (low + high) / 2 ? high : low;
        const double random_answer = low + (high - low) * random.uniform();
        const double truth = repetition % 3 == 0 ? end : repetition % 3 == 1 ? random_answer : predictions[0];
        mixture.observe(predictions, truth);
        excess += std::pow(mixed - truth, 2) - std::pow(predictions[0] - truth, 2);
        ASSERT_LE(excess, mixture.bound(t) + 1e-9);
      }
    }
}

TEST(SelectorMixture, FollowsTheBetterSelector) {
  RandomStream random(0, "better");
  SelectorMixture mixture({0.5, 0.5}, 0, 1);
  EXPECT_NEAR(mixture.bound(1000), 0.5 * std::log(2), 1e-12);
  double last = 0;
  for (int t = 0; t < 200; ++t) {
    const double truth = random.uniform();
    const std::vector<double> predictions = {1 - truth, 0.9 * truth};
    last = std::abs(mixture.predict(predictions) - predictions[1]);
    mixture.observe(predictions, truth);
  }
  EXPECT_LT(last, 1e-6);
  EXPECT_GT(mixture.weights()[1], 0.999);
}

TEST(SelectorMixture, MistakesAreErrors) {
  HONE_EXPECT_ERROR(SelectorMixture({0.5, 0.5}, 1, 1), ErrorCode::bad_input, "range of answers");
  HONE_EXPECT_ERROR(SelectorMixture({0.5, 0.5}, 0, infinity), ErrorCode::bad_input, "range of answers");
  HONE_EXPECT_ERROR(SelectorMixture({0.5, 0.4}, 0, 1), ErrorCode::bad_input, "prior");
  SelectorMixture mixture({0.5, 0.5}, 0, 1);
  HONE_EXPECT_ERROR(mixture.predict(std::vector<double>{0.5}), ErrorCode::bad_input, "selectors: 1");
  HONE_EXPECT_ERROR(mixture.predict(std::vector<double>{0.5, nan}), ErrorCode::bad_input, "value 1");
  HONE_EXPECT_ERROR(mixture.observe(std::vector<double>{0.5, 0.5}, 1.5), ErrorCode::bad_input, "1.5");
}

}  // namespace
}  // namespace hone::decide::selectors_test
