// Local heads against plain double precision, torch's Adam and the optimality conditions.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include "heads/kernel.h"
#include "heads/local_trainer.h"
#include "hone/heads.h"
#include "tests/expect_error.h"
#include "tests/golden.h"
#include "tests/head_problem.h"

namespace hone::test::local_heads_test {
namespace {

double worst(std::span<const float> have, std::span<const double> want) {
  double largest = 0;
  for (size_t c = 0; c < want.size(); ++c)
    largest = std::max(largest, std::abs(have[c] - want[c]) / (1 + std::abs(want[c])));
  return largest;
}

TEST(LocalHeads, EqualTorchAdam) {
  const Golden golden("heads");
  const LinearHead start{generated_matrix(1, 7, 19, 1), [] {
                           const Matrix bias = generated_matrix(2, 1, 7, 1);
                           return std::vector<float>(bias.data(), bias.data() + bias.size());
                         }()};
  const Matrix x = generated_matrix(3, 37, 19, 4), queries = generated_matrix(4, 2, 19, 4);
  std::vector<int64_t> ids = first_ids(37);
  ids.resize(74);
  std::copy_n(ids.begin(), 37, ids.begin() + 37);
  const LocalTraining training{.steps = 60, .learning_rate = 0.05F, .checkpoints = golden.list<int>("checkpoints")};
  const auto answers = local_answers(start, x, golden.list<int>("labels"), {ids, 37}, queries, training);
  const Matrix want = golden.matrix("logits");
  for (size_t j = 0; j < answers.logits.size(); ++j)
    EXPECT_LT(largest_difference(answers.logits[j].view(), want.view().row_range(2 * j, 2)), 2e-4)
        << "checkpoint " << j;
}

struct Shape {
  size_t k, d, classes;
};
class LocalHeadShapes : public testing::TestWithParam<Shape> {};

TEST_P(LocalHeadShapes, EqualPlainDoublePrecision) {
  const auto [k, d, classes] = GetParam();
  const HeadProblem problem(k + 2, d, classes, 2);
  const std::vector<int64_t> ids = problem.neighbours(k);
  const LocalTraining training{.steps = 12, .learning_rate = 0.02F, .checkpoints = {0, 1, 12}};
  const auto answers = local_answers(problem.start, problem.x, problem.y, {ids, k}, problem.queries, training, true);
  const NeighbourIds neighbours{ids, k};
  for (size_t q = 0; q < 2; ++q) {
    std::vector<int64_t> half[2];
    for (size_t i = 0; i < k; ++i) half[i % 2].push_back(neighbours.of(q)[i]);
    for (size_t j = 0; j < 3; ++j) {
      PlainHead head(problem.start);
      head.train(problem, neighbours.of(q), 0.02, training.checkpoints[j]);
      EXPECT_LT(worst(answers.logits[j].row(q), head.logits(problem.queries.row(q))), 2e-4) << "checkpoint " << j;
      double left_out = 0;
      for (const size_t seen : {0, 1}) {
        const auto& unseen = half[1 - seen];
        if (unseen.empty()) continue;
        PlainHead part(problem.start);
        if (!half[seen].empty()) part.train(problem, half[seen], 0.02, training.checkpoints[j]);
        left_out += part.mean_loss(problem, unseen) * static_cast<double>(unseen.size());
      }
      EXPECT_NEAR(answers.left_out.row(q)[j], left_out, 3e-4 * (1 + left_out)) << "checkpoint " << j;
    }
  }
}

// At the optimum the gradient, ridge included, vanishes; the objective's value is no more than that of a long run of
// Adam.
TEST_P(LocalHeadShapes, SecondOrderReachesTheOptimum) {
  const auto [k, d, classes] = GetParam();
  constexpr float ridge = 0.01F;
  const HeadProblem problem(k, d, classes, 1);
  const std::vector<int64_t> ids = first_ids(k);
  const LocalTraining training{.solver = LocalSolver::lbfgs, .steps = 200, .ridge = ridge};
  const auto heads = local_heads(problem.start, problem.x, problem.y, {ids, k}, training);
  const PlainHead head(heads.at(0)), start(problem.start);
  std::vector<double> gradient = head.gradient(problem, ids);
  double largest = 0, distance = 0;
  for (size_t i = 0; i < gradient.size(); ++i) {
    const double moved = head.weights[i] - start.weights[i];
    largest = std::max(largest, std::abs(gradient[i] + static_cast<double>(ridge) * moved));
    distance += moved * moved;
  }
  EXPECT_LT(largest, 2e-5);
  PlainHead adam(problem.start);
  adam.train(problem, ids, 0.01, 200);
  double adam_distance = 0;
  for (size_t i = 0; i < gradient.size(); ++i) adam_distance += std::pow(adam.weights[i] - start.weights[i], 2);
  const auto objective = [&](const PlainHead& at, double square) {
    return at.mean_loss(problem, ids) + 0.5 * static_cast<double>(ridge) * square;
  };
  EXPECT_LE(objective(head, distance), objective(adam, adam_distance) + 1e-6);
  // The answer, which may come from the points' own basis, is that head's.
  const auto answers = local_answers(problem.start, problem.x, problem.y, {ids, k}, problem.queries, training);
  EXPECT_LT(worst(answers.logits[0].row(0), head.logits(problem.queries.row(0))), 2e-3);
}

INSTANTIATE_TEST_SUITE_P(Sizes, LocalHeadShapes,
                         testing::Values(Shape{1, 1, 2}, Shape{1, 40, 3}, Shape{2, 5, 2}, Shape{16, 31, 2},
                                         Shape{17, 1, 2}, Shape{33, 32, 13}, Shape{48, 33, 12}, Shape{200, 25, 10},
                                         Shape{50, 64, 150}, Shape{100, 3, 26}),
                         [](const auto& shape) {
                           return fmt::format("k{}_d{}_C{}", shape.param.k, shape.param.d, shape.param.classes);
                         });

// The kernel's gradient and derivatives along a line are those of its own loss.
TEST(LocalHeads, DerivativesEqualFiniteDifferences) {
  constexpr size_t k = 41, d = 18, classes = 5;
  const HeadProblem problem(k, d, classes, 1);
  const std::vector<int64_t> ids = first_ids(k);
  PointRoom room(k, d);
  room.gather(problem.x, problem.y, ids);
  const LocalPoints& points = room.points;
  const size_t width = tile_width(), weights = tile_list_size(classes, d + 1), lanes = tile_list_size(classes, k);
  Matrix w(1, weights), direction(1, weights), logits(1, lanes), change(1, lanes), residuals(1, lanes),
      gradient(1, weights);
  RandomStream random(5, "weights");
  for (size_t c = 0; c < classes; ++c)
    for (size_t f = 0; f <= d; ++f) {
      const size_t at = (f / width * classes + c) * width + f % width;
      w.data()[at] = static_cast<float>(0.3 * random.normal());
      direction.data()[at] = static_cast<float>(0.3 * random.normal());
    }
  local_logits(points, w.data(), classes, logits.data());
  local_logits(points, direction.data(), classes, change.data());
  const auto value = [&](float t) {
    return local_line(points, classes, logits.data(), change.data(), t, residuals.data());
  };
  constexpr float h = 1e-2F;
  const LinePoint before = value(-h), after = value(h), here = value(0);
  EXPECT_NEAR(here.slope, (after.value - before.value) / (2 * h), 1e-3 * std::abs(here.slope) + 1e-4);
  EXPECT_NEAR(here.curvature, (after.slope - before.slope) / (2 * h), 1e-3 * here.curvature + 1e-4);
  EXPECT_NEAR(here.value, local_loss(points, classes, logits.data()) / k, 1e-5);
  local_gradient(points, residuals.data(), classes, gradient.data());
  EXPECT_NEAR(dot(gradient.data(), direction.data(), weights), here.slope, 1e-4 * std::abs(here.slope));
  local_residuals(points, classes, logits.data());
  for (size_t c = 0; c < classes; ++c)
    for (size_t i = 0; i < k; ++i) {
      const size_t at = (i / width * classes + c) * width + i % width;
      EXPECT_NEAR(logits.data()[at], residuals.data()[at], 1e-7);
    }
}

// Products with numbers of 1e-38 and less take a processor many times as long.
TEST(LocalHeads, NextToImpossibleClassesHaveNoGradient) {
  constexpr size_t k = 2, classes = 3;
  const HeadProblem problem(k, 4, classes, 1);
  PointRoom room(k, 4);
  room.gather(problem.x, std::vector<int>(k, 0), first_ids(k));
  const size_t width = tile_width();
  Matrix logits(1, tile_list_size(classes, k)), still(1, logits.cols()), residuals(1, logits.cols());
  const float margins[k] = {90, 20};  // e^−90 is less than the smallest normal float
  for (size_t i = 0; i < k; ++i) logits.data()[i] = margins[i];
  const auto expect_flushed = [&](const Matrix& r) {
    for (size_t c = 1; c < classes; ++c) {
      EXPECT_EQ(r.data()[c * width], 0);
      EXPECT_NEAR(r.data()[c * width + 1] / (std::exp(-20.0) / k), 1, 1e-5);
    }
  };
  local_line(room.points, classes, logits.data(), still.data(), 0, residuals.data());
  expect_flushed(residuals);
  local_residuals(room.points, classes, logits.data());
  expect_flushed(logits);
}

TEST(LocalHeads, AnAnswerDependsNeitherOnTheBatchNorOnThreads) {
  const HeadProblem problem(80, 37, 6, 19);
  constexpr size_t k = 21;
  const std::vector<int64_t> ids = problem.neighbours(k);
  for (const LocalSolver solver : {LocalSolver::adam, LocalSolver::lbfgs}) {
    const LocalTraining training{.solver = solver, .steps = 15, .checkpoints = {0, 5, 15}};
    const auto ask = [&](size_t first, size_t count) {
      return local_answers(problem.start, problem.x, problem.y, {std::span(ids).subspan(first * k, count * k), k},
                           problem.queries.view().row_range(first, count), training, true);
    };
    const int before = threads();
    set_threads(1);
    const LocalAnswers all = ask(0, 19);
    set_threads(3);
    const LocalAnswers again = ask(0, 19);
    set_threads(before);
    EXPECT_TRUE(same_bits(all.left_out, again.left_out));
    for (size_t j = 0; j < 3; ++j) EXPECT_TRUE(same_bits(all.logits[j], again.logits[j]));
    for (const size_t q : {0, 7, 18}) {
      const LocalAnswers alone = ask(q, 1);
      EXPECT_TRUE(same_bits(alone.left_out, all.left_out.view().row_range(q, 1)));
      for (size_t j = 0; j < 3; ++j) EXPECT_TRUE(same_bits(alone.logits[j], all.logits[j].view().row_range(q, 1)));
    }
  }
}

// Tiles are as wide as the instruction set's vectors.
TEST(LocalHeads, EveryInstructionSetAgrees) {
  const HeadProblem problem(80, 37, 13, 3);
  const std::vector<int64_t> ids = problem.neighbours(21);
  for (const LocalSolver solver : {LocalSolver::adam, LocalSolver::lbfgs}) {
    const LocalTraining training{.solver = solver, .steps = 8};
    const auto ask = [&] {
      return local_answers(problem.start, problem.x, problem.y, {ids, 21}, problem.queries, training, true);
    };
    const LocalAnswers want = ask();
    for (int64_t left = hwy::SupportedTargets(); left != 0; left &= left - 1) {
      hwy::SetSupportedTargetsForTest(left & -left);
      const LocalAnswers have = ask();
      hwy::SetSupportedTargetsForTest(0);
      EXPECT_LT(largest_difference(have.logits[0].view(), want.logits[0].view()), 1e-3)
          << hwy::TargetName(left & -left);
      EXPECT_LT(largest_difference(have.left_out.view(), want.left_out.view()), 1e-2) << hwy::TargetName(left & -left);
    }
  }
}

TEST(LocalHeads, OneClassAmongTheNeighboursWins) {
  HeadProblem problem(30, 8, 4, 1);
  std::ranges::fill(problem.y, 2);
  for (const LocalSolver solver : {LocalSolver::adam, LocalSolver::lbfgs}) {
    const LocalTraining training{.solver = solver, .steps = 200, .learning_rate = 0.05F};
    const auto heads = local_heads(problem.start, problem.x, problem.y, {first_ids(30), 30}, training);
    const PlainHead head(heads[0]);
    EXPECT_LT(head.mean_loss(problem, first_ids(30)), 0.1);
    for (const double w : head.weights) EXPECT_TRUE(std::isfinite(w));
  }
}

TEST(LocalHeads, AbsentNeighboursAreLeftOut) {
  const HeadProblem problem(30, 8, 4, 1);
  for (const LocalSolver solver : {LocalSolver::adam, LocalSolver::lbfgs}) {
    const LocalTraining training{.solver = solver, .steps = 5};
    const std::vector<int64_t> three = {4, 9, 11}, padded = {4, 9, 11, -1, -1}, none = {-1, -1, -1};
    const auto logits = [&](const std::vector<int64_t>& ids) {
      return std::move(
          local_answers(problem.start, problem.x, problem.y, {ids, ids.size()}, problem.queries, training).logits[0]);
    };
    EXPECT_TRUE(same_bits(logits(three), logits(padded)));
    EXPECT_LT(largest_difference(logits(none).view(), problem.start.logits(problem.queries).view()), 1e-5);
  }
}

// The same point several times spans one direction: its Gram is singular.
TEST(LocalHeads, EqualNeighboursDoNotBreakTheSecondOrder) {
  HeadProblem problem(40, 60, 30, 1);
  for (size_t i = 0; i < 40; ++i) std::ranges::copy(problem.x.row(i % 5), problem.x.row(i).begin());
  const LocalTraining training{.solver = LocalSolver::lbfgs, .steps = 400, .ridge = 0.01F};
  const std::vector<int64_t> ids = first_ids(40);
  const auto answers = local_answers(problem.start, problem.x, problem.y, {ids, 40}, problem.queries, training);
  const PlainHead head(local_heads(problem.start, problem.x, problem.y, {ids, 40}, training)[0]);
  EXPECT_LT(worst(answers.logits[0].row(0), head.logits(problem.queries.row(0))), 2e-3);
}

// The solver does not depend on the basis: with fewer points than features it works in that of the points. Later steps
// amplify rounding along directions that only the ridge curves.
TEST(LocalHeads, TheSecondOrderIsInvariantUnderRotation) {
  const HeadProblem problem(20, 90, 40, 1);
  const std::vector<int64_t> ids = first_ids(20);
  for (const int steps : {1, 3, 5}) {
    const LocalTraining training{.solver = LocalSolver::lbfgs, .steps = steps};
    const auto answers = local_answers(problem.start, problem.x, problem.y, {ids, 20}, problem.queries, training);
    const PlainHead head(local_heads(problem.start, problem.x, problem.y, {ids, 20}, training)[0]);
    EXPECT_LT(worst(answers.logits[0].row(0), head.logits(problem.queries.row(0))), 1e-3) << steps << " steps";
  }
}

TEST(LocalHeads, DivergedHeadsStayWithTheirQuery) {
  const HeadProblem problem(30, 8, 4, 2);
  const std::vector<int64_t> ids = problem.neighbours(10);
  const LocalTraining wild{.steps = 40, .learning_rate = 1e38F, .checkpoints = {0, 40}};
  const auto answers = local_answers(problem.start, problem.x, problem.y, {ids, 10}, problem.queries, wild, true);
  EXPECT_LT(largest_difference(answers.logits[0].view(), problem.start.logits(problem.queries).view()), 1e-5);
}

TEST(LocalHeads, Cancel) {
  const HeadProblem problem(30, 8, 4, 5);
  const std::vector<int64_t> ids = problem.neighbours(10);
  Watch watch;
  watch.cancel.cancel();
  HONE_EXPECT_ERROR(local_answers(problem.start, problem.x, problem.y, {ids, 10}, problem.queries, {}, false, watch),
                    ErrorCode::cancelled, "");
  Watch later;
  later.progress = [&](const Progress& progress) {
    if (progress.done == 0) later.cancel.cancel();
  };
  HONE_EXPECT_ERROR(local_answers(problem.start, problem.x, problem.y, {ids, 10}, problem.queries, {}, false, later),
                    ErrorCode::cancelled, "");
}

TEST(LocalHeads, BadInputIsNamed) {
  HeadProblem problem(30, 8, 4, 2);
  const std::vector<int64_t> ids = problem.neighbours(10);
  const auto ask = [&](const NeighbourIds& neighbours, const LocalTraining& training = {}) {
    return local_answers(problem.start, problem.x, problem.y, neighbours, problem.queries, training);
  };
  HONE_EXPECT_ERROR(ask({ids, 7}), ErrorCode::bad_input, "20 ids are not 7 for each of 2 queries");
  HONE_EXPECT_ERROR(ask({ids, 0}), ErrorCode::bad_input, "neighbours");
  std::vector<int64_t> outside = ids;
  outside[3] = 30;
  HONE_EXPECT_ERROR(ask({outside, 10}), ErrorCode::bad_input, "30 is no row of the 30 points");
  HONE_EXPECT_ERROR(ask({ids, 10}, {.steps = -1}), ErrorCode::bad_input, "steps");
  HONE_EXPECT_ERROR(ask({ids, 10}, {.learning_rate = NAN}), ErrorCode::bad_input, "learning_rate");
  HONE_EXPECT_ERROR(ask({ids, 10}, {.solver = LocalSolver::lbfgs, .ridge = -1}), ErrorCode::bad_input, "ridge");
  HONE_EXPECT_ERROR(ask({ids, 10}, {.steps = 5, .checkpoints = {0, 6}}), ErrorCode::bad_input, "checkpoints");
  HONE_EXPECT_ERROR(ask({ids, 10}, {.steps = 5, .checkpoints = {3, 3}}), ErrorCode::bad_input, "checkpoints");
  HONE_EXPECT_ERROR(local_answers(problem.start, problem.x, problem.y, {ids, 10}, Matrix(2, 9), {}),
                    ErrorCode::bad_input, "queries: 9 features");
  problem.y[5] = 4;
  HONE_EXPECT_ERROR(ask({ids, 10}), ErrorCode::bad_input, "row 5 says 4");
  problem.y[5] = 0;
  problem.x.row(6)[2] = NAN;
  HONE_EXPECT_ERROR(ask({ids, 10}), ErrorCode::bad_input, "row 6, column 2");
}

}  // namespace
}  // namespace hone::test::local_heads_test
