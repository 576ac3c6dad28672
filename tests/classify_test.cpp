// Ways to answer from labelled points, on clusters whose answer is known, and what is said of them.
#include "hone/classify.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "heads/votes.h"
#include "tests/expect_error.h"
#include "tests/golden.h"

namespace hone {
namespace {

// Points on a circle whose labels alternate by arc: no global line tells them apart, every neighbourhood does.
struct Ring {
  explicit Ring(size_t count, uint64_t seed = 0) : x(count, 2), y(count) {
    RandomStream random(seed, "ring");
    for (size_t i = 0; i < count; ++i) {
      const double turn = random.uniform();
      x.row(i)[0] = static_cast<float>(std::cos(2 * M_PI * turn));
      x.row(i)[1] = static_cast<float>(std::sin(2 * M_PI * turn));
      y[i] = static_cast<int>(turn * 6) % 2;
    }
  }
  Matrix x;
  std::vector<int> y;
};

ClassifyOptions small() {
  ClassifyOptions options;
  options.neighbours = 20;
  options.training.steps = 30;
  options.training.learning_rate = 0.1F;
  options.pseudo_queries = 200;
  options.ridges = {1e-3};
  return options;
}

const Answers& named(const Classification& result, const std::string& name) {
  for (const Answers& answers : result.answers)
    if (answers.name == name) return answers;
  throw std::out_of_range(name);
}

TEST(Classify, LocalHeadsAnswerWhatNoGlobalHeadCan) {
  const Ring train(600), test(200, 1);
  ClassifyOptions options = small();
  options.experts = 60;
  const Classification result = classify(train.x, train.y, 2, test.x, test.y, options);
  const auto scores = score_answers(result.answers, test.y);
  ASSERT_EQ(scores.size(), 6U);
  EXPECT_EQ(scores[0].name, "global");
  EXPECT_LT(scores[0].accuracy.mean, 0.7);
  for (const char* name : {"majority vote", "distance-weighted vote", "local", "hone", "experts"}) {
    const auto score = std::ranges::find(scores, name, &ClassifyScore::name);
    ASSERT_NE(score, scores.end()) << name;
    EXPECT_GT(score->accuracy.mean, 0.85) << name;
    EXPECT_GT(score->accuracy_gain.low, 0.1) << name;
    EXPECT_LT(score->log_loss_gain.high, 0) << name;
  }
  EXPECT_GT(result.own_accuracy, 0.85);
  EXPECT_LT(result.elsewhere_accuracy, 0.75) << "a local head is not a global one";
}

TEST(Classify, AnswersAreProbabilitiesAndTheBoundHolds) {
  const Ring train(300), test(100, 1);
  ClassifyOptions options = small();
  options.training.learning_rate = 50;  // heads that diverge
  const Classification result = classify(train.x, train.y, 2, test.x, test.y, options);
  for (const Answers& answers : result.answers)
    for (size_t q = 0; q < 100; ++q) {
      const auto row = answers.log_probabilities.row(q);
      EXPECT_NEAR(std::exp(row[0]) + std::exp(row[1]), 1, 1e-5) << answers.name;
    }
  const Answers both[] = {{"global", named(result, "global").log_probabilities.copy()},
                          {"hone", named(result, "hone").log_probabilities.copy()}};
  const auto scores = score_answers(both, test.y);
  EXPECT_NEAR(result.prior.bound_bits(), std::log2(20), 1e-12);
  EXPECT_LE(scores[1].worst_bits, result.prior.bound_bits() + 1e-4);
  for (size_t q = 0; q < 100; ++q) EXPECT_GE(result.weights.row(q)[0], 0.05F - 1e-6F);
}

TEST(Classify, TheSameWhateverTheNumberOfThreads) {
  const Ring train(200), test(50, 1);
  const auto once = [&](int count) {
    set_threads(count);
    Classification result = classify(train.x, train.y, 2, test.x, test.y, small());
    return std::move(result.answers[4].log_probabilities);
  };
  const int before = threads();
  const Matrix one = once(1), two = once(2);
  set_threads(before);
  EXPECT_TRUE(test::same_bits(one, two));
}

TEST(Classify, SiftChoosesAmongMore) {
  const Ring train(300), test(60, 1);
  ClassifyOptions options = small();
  options.sift_pool = 80;
  const Classification result = classify(train.x, train.y, 2, test.x, test.y, options);
  EXPECT_GT(score_answers(result.answers, test.y)[3].accuracy.mean, 0.8);
}

TEST(Classify, RefusesWhatCannotBeUsed) {
  const Ring train(60), test(10, 1);
  const auto run = [&](ClassifyOptions options) { return classify(train.x, train.y, 2, test.x, test.y, options); };
  ClassifyOptions many = small();
  many.neighbours = 61;
  HONE_EXPECT_ERROR(run(many), ErrorCode::bad_input, "neighbours is 61; give 1 to 60");
  ClassifyOptions pool = small();
  pool.sift_pool = 10;
  HONE_EXPECT_ERROR(run(pool), ErrorCode::bad_input, "SIFT pool is 10");
  ClassifyOptions experts = small();
  experts.experts = 61;
  HONE_EXPECT_ERROR(run(experts), ErrorCode::bad_input, "61 experts");
  const Matrix wide(10, 3);
  HONE_EXPECT_ERROR(classify(train.x, train.y, 2, wide, test.y, small()), ErrorCode::bad_input, "3 features");
  const std::vector<int> same(60, 0);
  HONE_EXPECT_ERROR(classify(train.x, same, 1, test.x, test.y, small()), ErrorCode::bad_input, "class");
  HONE_EXPECT_ERROR(classify(train.x, train.y, 2, Matrix(0, 2), {}, small()), ErrorCode::bad_input, "no queries");
  Watch cancelled;
  cancelled.cancel.cancel();
  HONE_EXPECT_ERROR(classify(train.x, train.y, 2, test.x, test.y, small(), cancelled), ErrorCode::cancelled, "");
}

TEST(Votes, AreSharesOfNeighboursWithAPrior) {
  Neighbours neighbours;
  neighbours.k = 3;
  neighbours.ids = {0, 1, 2};
  neighbours.distances = {1, 2, 4};
  const std::vector<int> y = {1, 0, 0};
  const Matrix count = vote_log_probabilities(y, 2, neighbours, Vote::majority);
  EXPECT_NEAR(std::exp(count.row(0)[0]), 2.5 / 4, 1e-6);
  const Matrix weighed = vote_log_probabilities(y, 2, neighbours, Vote::by_distance);
  EXPECT_NEAR(std::exp(weighed.row(0)[0]), (3 * 0.75 / 1.75 + 0.5) / 4, 1e-6);
}

TEST(Ridge, IsTheOneThatPredictsWhatWasHeldOut) {
  // Labels without any relation to 30 features: the strongest ridge fools itself least.
  RandomStream random(3, "noise");
  Matrix x(80, 30);
  std::vector<int> y(80);
  for (size_t i = 0; i < 80; ++i) {
    for (float& value : x.row(i)) value = static_cast<float>(random.normal());
    y[i] = static_cast<int>(random.below(2));
  }
  const double ridges[] = {1e-6, 1e-3, 10};
  EXPECT_EQ(choose_ridge(x, y, 2, ridges), 10);
  HONE_EXPECT_ERROR(choose_ridge(x, y, 2, {}), ErrorCode::bad_input, "no candidates");
}

TEST(ClassifyScores, AreWhatTheyAreCalled) {
  Answers base{"base", Matrix(2, 2)}, way{"way", Matrix(2, 2)};
  const auto set = [](Matrix& m, size_t q, double p) {
    m.row(q)[0] = static_cast<float>(std::log(p));
    m.row(q)[1] = static_cast<float>(std::log(1 - p));
  };
  set(base.log_probabilities, 0, 0.5);
  set(base.log_probabilities, 1, 0.5);
  set(way.log_probabilities, 0, 0.9);
  set(way.log_probabilities, 1, 0.9);
  std::vector<Answers> both;
  both.push_back(std::move(base));
  both.push_back(std::move(way));
  const std::vector<int> truth = {0, 1};
  const auto scores = score_answers(both, truth);
  EXPECT_NEAR(scores[1].accuracy.mean, 0.5, 1e-12);
  EXPECT_NEAR(scores[1].log_loss.mean, -(std::log(0.9) + std::log(0.1)) / 2, 1e-6);
  EXPECT_NEAR(scores[1].calibration_error, 0.4, 1e-6);
  EXPECT_NEAR(scores[1].worst_bits, std::log2(5), 1e-5);
  EXPECT_NEAR(scores[1].log_loss_gain.mean, scores[1].log_loss.mean - std::log(2), 1e-6);
}

}  // namespace
}  // namespace hone
