// Global heads: optimality, the published training, files, folds.
#include <gtest/gtest.h>

#include "hone/heads.h"
#include "tests/expect_error.h"
#include "tests/golden.h"
#include "tests/head_problem.h"
#include "tests/temporary_folder.h"

namespace hone::test::global_head_test {
namespace {

double accuracy(const LinearHead& head, const HeadProblem& problem) {
  const Matrix logits = head.logits(problem.x);
  size_t right = 0;
  for (size_t i = 0; i < problem.y.size(); ++i)
    right += std::ranges::max_element(logits.row(i)) - logits.row(i).begin() == problem.y[i];
  return static_cast<double>(right) / static_cast<double>(problem.y.size());
}

TEST(GlobalHead, GradientVanishesAtTheFit) {
  const HeadProblem problem(700, 9, 5, 1);
  constexpr double ridge = 1e-3;
  const PlainHead head(fit_head(problem.x, problem.y, 5, {.ridge = ridge}));
  const std::vector<double> gradient = head.gradient(problem, first_ids(700));
  for (size_t i = 0; i < gradient.size(); ++i) {
    const bool bias = i % head.columns + 1 == head.columns;
    EXPECT_LT(std::abs(gradient[i] + (bias ? 0 : ridge * head.weights[i])), 2e-5);
  }
}

double log_loss(const LinearHead& head, ConstMatrixView x, std::span<const int> y) {
  double sum = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const Matrix logits = head.logits(x.row_range(i, 1));
    double total = 0;
    for (const float logit : logits.row(0))
      total += std::exp(static_cast<double>(logit) - logits.row(0)[static_cast<size_t>(y[i])]);
    sum += std::log(total);
  }
  return sum / static_cast<double>(y.size());
}

// The bias is free, so a shift of all features changes nothing but rounding.
TEST(GlobalHead, FeaturesFarFromTheOriginAreFittedAsWell) {
  HeadProblem problem(300, 4, 3, 1);
  const double near = log_loss(fit_head(problem.x, problem.y, 3), problem.x, problem.y);
  for (const float shift : {1e2F, 1e4F}) {
    Matrix x = problem.x.copy();
    for (size_t i = 0; i < x.size(); ++i) x.data()[i] += shift;
    EXPECT_NEAR(log_loss(fit_head(x, problem.y, 3), x, problem.y), near, 2e-3) << shift;
  }
}

// A column of huge values beside informative ones.
TEST(GlobalHead, ColumnsOfAnySizeStandBesideEachOther) {
  HeadProblem problem(300, 4, 3, 1);
  const auto with = [&](float size) {
    Matrix x(300, 5);
    RandomStream random(3, "noise");
    for (size_t i = 0; i < 300; ++i) {
      std::ranges::copy(problem.x.row(i), x.row(i).begin());
      x.row(i)[4] = size * static_cast<float>(random.normal());
    }
    return log_loss(fit_head(x, problem.y, 3), x, problem.y);
  };
  const double near = with(1);
  for (const float size : {1e3F, 1e6F}) EXPECT_NEAR(with(size), near, 2e-3) << size;
}

TEST(GlobalHead, ThreadsDoNotChangeIt) {
  const HeadProblem problem(600, 9, 5, 1);
  const int before = threads();
  set_threads(1);
  const LinearHead one = fit_head(problem.x, problem.y, 5),
                   adam_one = fit_head_adam(problem.x, problem.y, 5, {.epochs = 3});
  set_threads(3);
  const LinearHead three = fit_head(problem.x, problem.y, 5),
                   adam_three = fit_head_adam(problem.x, problem.y, 5, {.epochs = 3});
  set_threads(before);
  EXPECT_TRUE(same_bits(one.weights, three.weights));
  EXPECT_EQ(one.bias, three.bias);
  EXPECT_TRUE(same_bits(adam_one.weights, adam_three.weights));
}

// One batch an epoch is full-batch Adam, whatever the order of the rows.
TEST(GlobalHead, PublishedAdamEqualsPlainDoublePrecision) {
  const HeadProblem problem(60, 7, 3, 1);
  PlainHead want(fit_head_adam(problem.x, problem.y, 3, {.epochs = 0, .seed = 4}));
  for (const double w : want.weights) EXPECT_LE(std::abs(w), 1 / std::sqrt(7.0));
  want.train(problem, first_ids(60), 0.01, 25);
  const PlainHead have(
      fit_head_adam(problem.x, problem.y, 3, {.learning_rate = 0.01, .epochs = 25, .batch = 60, .seed = 4}));
  for (size_t i = 0; i < want.weights.size(); ++i) EXPECT_NEAR(have.weights[i], want.weights[i], 1e-4);
}

TEST(GlobalHead, BothWaysAgreeOnWhatIsEasy) {
  const HeadProblem problem(500, 30, 4, 1);
  const double best = accuracy(fit_head(problem.x, problem.y, 4), problem);
  EXPECT_GT(best, 0.97);
  EXPECT_GT(accuracy(fit_head_adam(problem.x, problem.y, 4, {.batch = 50}), problem), best - 0.03);
}

TEST(GlobalHead, FilesKeepEverything) {
  const TemporaryFolder folder;
  const HeadProblem problem(10, 9, 3, 1);
  const std::vector<std::string> labels = {"a", "b, \"c\"", "ü"};
  save_head(folder.path() / "head.safetensors", problem.start, labels);
  const NamedHead opened = open_head(folder.path() / "head.safetensors");
  EXPECT_TRUE(same_bits(opened.head.weights, problem.start.weights));
  EXPECT_EQ(opened.head.bias, problem.start.bias);
  EXPECT_EQ(opened.labels, labels);
  save_head(folder.path() / "nameless.safetensors", problem.start);
  EXPECT_TRUE(open_head(folder.path() / "nameless.safetensors").labels.empty());
  HONE_EXPECT_ERROR(save_head(folder.path() / "x", problem.start, std::span(labels).first(2)), ErrorCode::bad_input,
                    "2 names for 3 classes");
  HONE_EXPECT_ERROR(open_head(folder.path() / "absent"), ErrorCode::not_found, "absent");
}

TEST(GlobalHead, DamagedFilesAreNamed) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "head.safetensors";
  const Matrix weight(3, 2), bias(1, 4);
  const NamedMatrix mismatched[] = {{"weight", weight}, {"bias", bias}};
  write_safetensors(path, mismatched);
  HONE_EXPECT_ERROR(open_head(path), ErrorCode::corrupt, "head.safetensors");
  const NamedMatrix right[] = {{"weight", weight}, {"bias", bias.view().row_range(0, 1)}};
  write_safetensors(path, std::span(right).first(1));
  HONE_EXPECT_ERROR(open_head(path), ErrorCode::not_found, "bias");
  const Matrix three(1, 3);
  const NamedMatrix named[] = {{"weight", weight}, {"bias", three}};
  for (const char* labels : {"not json", "{}", "[\"a\"]", "[1, 2, 3]"}) {
    write_safetensors(path, named, {{"labels", labels}});
    HONE_EXPECT_ERROR(open_head(path), ErrorCode::corrupt, "head.safetensors");
  }
}

TEST(GlobalHead, BadInputIsNamed) {
  HeadProblem problem(20, 3, 2, 1);
  HONE_EXPECT_ERROR(fit_head(problem.x, problem.y, 1), ErrorCode::bad_input, "one class");
  HONE_EXPECT_ERROR(fit_head(Matrix(0, 3), {}, 2), ErrorCode::bad_input, "no rows");
  HONE_EXPECT_ERROR(fit_head(problem.x, std::span(problem.y).first(3), 2), ErrorCode::bad_input,
                    "20 rows of features but 3");
  HONE_EXPECT_ERROR(fit_head(problem.x, problem.y, 2, {.ridge = -1}), ErrorCode::bad_input, "ridge");
  HONE_EXPECT_ERROR(fit_head_adam(problem.x, problem.y, 2, {.batch = 0}), ErrorCode::bad_input, "batch");
  HONE_EXPECT_ERROR(cross_fit(problem.x, problem.y, 2, 1), ErrorCode::bad_input, "folds");
  HONE_EXPECT_ERROR(problem.start.logits(Matrix(1, 4)), ErrorCode::bad_input, "3 features");
  Watch watch;
  watch.cancel.cancel();
  HONE_EXPECT_ERROR(fit_head(problem.x, problem.y, 2, {}, watch), ErrorCode::cancelled, "");
}

TEST(CrossFit, AHeadDoesNotDependOnItsFold) {
  HeadProblem problem(90, 4, 3, 1);
  const CrossFit before = cross_fit(problem.x, problem.y, 3, 3);
  ASSERT_EQ(before.heads.size(), 3U);
  for (int f = 0; f < 3; ++f) EXPECT_EQ(std::ranges::count(before.fold, f), 30);
  for (int c = 0; c < 3; ++c) {
    std::vector<int> held(3);
    for (size_t i = 0; i < 90; ++i)
      if (problem.y[i] == c) ++held[static_cast<size_t>(before.fold[i])];
    EXPECT_LE(*std::ranges::max_element(held) - *std::ranges::min_element(held), 1);
  }
  for (size_t i = 0; i < 90; ++i)
    if (before.fold[i] == 1)
      for (float& value : problem.x.row(i)) value = 7;
  const CrossFit after = cross_fit(problem.x, problem.y, 3, 3);
  EXPECT_EQ(before.fold, after.fold);
  EXPECT_TRUE(same_bits(before.heads[1].weights, after.heads[1].weights));
  EXPECT_FALSE(same_bits(before.heads[0].weights, after.heads[0].weights));
}

TEST(GlobalHead, NamesAreUtf8) {
  const HeadProblem problem(10, 2, 2, 1);
  const TemporaryFolder folder;
  const std::vector<std::string> labels = {"a", "\xff"};
  HONE_EXPECT_ERROR(save_head(folder.path() / "head", problem.start, labels), ErrorCode::bad_input, "not UTF-8");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "head"));
}

TEST(GlobalHead, AHeadThatDivergedSaysWhatToChange) {
  const HeadProblem problem(60, 4, 3, 1);
  HONE_EXPECT_ERROR(fit_head_adam(problem.x, problem.y, 3, {.learning_rate = 3e38, .epochs = 20}), ErrorCode::bad_input,
                    "smaller learning_rate");
}

TEST(GlobalHead, FeaturesOfAnyScaleAreFitted) {
  const HeadProblem problem(60, 4, 3, 1);
  const HeadFit free{.ridge = 0};
  const double usual = log_loss(fit_head(problem.x, problem.y, 3, free), problem.x, problem.y);
  for (const float factor : {1e-6F, 1e6F, 1e20F, 1e35F}) {
    Matrix x = problem.x.copy();
    for (float& value : std::span(x.data(), x.size())) value *= factor;
    EXPECT_NEAR(log_loss(fit_head(x, problem.y, 3, free), x, problem.y), usual, 1e-3) << factor;
  }
  EXPECT_EQ(fit_head(Matrix(60, 4), problem.y, 3).classes(), 3U);  // features that say nothing
}

// An intercept among the features: whatever the mean of equal numbers is rounded to.
TEST(GlobalHead, AColumnThatDoesNotVarySaysNothing) {
  for (const size_t n : {10, 64, 100, 1000})
    for (const float value : {1.0F, 0.1F, 1e20F}) {
      Matrix x(n, 2);
      std::vector<int> y(n);
      for (size_t i = 0; i < n; ++i) {
        y[i] = static_cast<int>(i % 2);
        x.row(i)[0] = value;
        x.row(i)[1] = y[i] == 1 ? 1.0F : -1.0F;
      }
      const LinearHead head = fit_head(x, y, 2, {.ridge = 0});
      EXPECT_LT(log_loss(head, x, y), 1e-2) << n << ' ' << value;
      for (size_t c = 0; c < 2; ++c) EXPECT_EQ(head.weights.row(c)[0], 0);
    }
}

// With equally many of each class no bias sets out, and every slope is small.
TEST(GlobalHead, SmallFeaturesOfBalancedClassesAreFitted) {
  Matrix x(100, 1);
  std::vector<int> y(100);
  for (size_t i = 0; i < 100; ++i) {
    y[i] = static_cast<int>(i % 2);
    x.row(i)[0] = y[i] == 1 ? 1e-5F : -1e-5F;
  }
  EXPECT_LT(log_loss(fit_head(x, y, 2, {.ridge = 0}), x, y), 1e-2);
}

TEST(GlobalHead, FeaturesTooFarApartForSinglePrecisionAreRefused) {
  Matrix x(60, 1);
  std::vector<int> y(60);
  for (size_t i = 0; i < 60; ++i) {
    y[i] = static_cast<int>(i % 2);
    x.row(i)[0] = i == 7 ? 3e38F : -3e38F;
  }
  HONE_EXPECT_ERROR(fit_head(x, y, 2), ErrorCode::bad_input, "scale the features");
}

TEST(GlobalHead, AFitThatEndsTooEarlySaysSo) {
  const HeadProblem problem(300, 9, 5, 1);
  HONE_EXPECT_ERROR(fit_head(problem.x, problem.y, 5, {.max_iterations = 1}), ErrorCode::bad_input, "1 iterations");
}

}  // namespace
}  // namespace hone::test::global_head_test
