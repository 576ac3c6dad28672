// How far a local head goes: the bound holds whatever the heads say, and the prior is as good as it can be.
#include <gtest/gtest.h>

#include <limits>

#include "hone/heads.h"
#include "tests/expect_error.h"
#include "tests/head_problem.h"

namespace hone::test::how_far_test {
namespace {

TEST(HowFar, BoundHoldsWithAdversarialHeads) {
  RandomStream random(3, "adversary");
  constexpr size_t checkpoints = 4, queries = 50, classes = 7;
  for (const double floor : {0.01, 0.05, 0.5, 1.0}) {
    LocalAnswers answers;
    for (size_t j = 0; j < checkpoints; ++j) {
      answers.logits.emplace_back(queries, classes);
      random.normals({answers.logits[j].data(), queries * classes}, j == 0 ? 3 : 300);
    }
    answers.left_out = Matrix(queries, checkpoints);
    random.normals({answers.left_out.data(), queries * checkpoints}, 500);
    for (size_t c = 0; c < classes; ++c) answers.logits[2].row(3)[c] = NAN;
    answers.logits[3].row(4)[1] = std::numeric_limits<float>::infinity();
    answers.left_out.row(5)[1] = NAN;
    answers.left_out.row(6)[2] = -std::numeric_limits<float>::infinity();
    const CheckpointPrior prior{.weights = {0, 0.5, 0.25, 0.25}, .trust = 1, .floor = floor};
    const LocalMixture mixture = mix_checkpoints(answers, prior);
    EXPECT_NEAR(mixture.bound_bits, std::log2(1 / floor), 1e-12);
    Matrix base = answers.logits[0].copy();
    log_softmax(base);
    for (size_t q = 0; q < queries; ++q) {
      double sum = 0, weights = 0;
      for (size_t c = 0; c < classes; ++c) {
        const double worse = (base.row(q)[c] - mixture.log_probabilities.row(q)[c]) / std::log(2.0);
        EXPECT_LE(worse, mixture.bound_bits + 1e-4) << "query " << q;
        sum += std::exp(mixture.log_probabilities.row(q)[c]);
      }
      for (const float w : mixture.weights.row(q)) weights += w;
      EXPECT_NEAR(sum, 1, 1e-5) << "query " << q;
      EXPECT_NEAR(weights, 1, 1e-6);
      EXPECT_GE(mixture.weights.row(q)[0], static_cast<float>(floor));
    }
    EXPECT_EQ(mixture.weights.row(3)[2], 0);
  }
}

// A probability of e^-1000 is 0 in double precision, its logarithm is not.
TEST(HowFar, BoundHoldsForWhatNoHeadHoldsPossible) {
  LocalAnswers answers;
  for (const float apart : {1000.0F, 5000.0F}) {
    Matrix logits(1, 2);
    logits.row(0)[0] = apart;
    answers.logits.push_back(std::move(logits));
  }
  const LocalMixture mixture = mix_checkpoints(answers, {.weights = {0.2, 0.8}, .floor = 0.1});
  EXPECT_NEAR(mixture.log_probabilities.row(0)[1], std::log(0.1 + 0.9 * 0.2) - 1000, 1e-3);
  EXPECT_NEAR(mixture.log_probabilities.row(0)[0], 0, 1e-6);
}

TEST(HowFar, WeightsAreThePosterior) {
  LocalAnswers answers;
  for (size_t j = 0; j < 3; ++j) answers.logits.emplace_back(1, 2);
  answers.left_out = Matrix(1, 3);
  answers.left_out.row(0)[0] = 5;
  answers.left_out.row(0)[1] = 3;
  answers.left_out.row(0)[2] = 4;
  const LocalMixture mixture = mix_checkpoints(answers, {.weights = {0.5, 0.3, 0.2}, .trust = 0.5, .floor = 0.1});
  const double w0 = 0.5 * std::exp(-2.5), w1 = 0.3 * std::exp(-1.5), w2 = 0.2 * std::exp(-2.0), sum = w0 + w1 + w2;
  EXPECT_NEAR(mixture.weights.row(0)[0], 0.1 + 0.9 * w0 / sum, 1e-6);
  EXPECT_NEAR(mixture.weights.row(0)[1], 0.9 * w1 / sum, 1e-6);
  EXPECT_NEAR(mixture.weights.row(0)[2], 0.9 * w2 / sum, 1e-6);
}

// Points on a ring whose class changes with the angle `period` times: no head is right everywhere, a local one nearly
// is.
struct Ring {
  Ring(size_t points, int period, double noise) : x(points, 2), y(points) {
    RandomStream random(8, "ring");
    for (size_t i = 0; i < points; ++i) {
      const double angle = 2 * 3.14159265358979 * static_cast<double>(i) / static_cast<double>(points);
      x.row(i)[0] = static_cast<float>(std::cos(angle));
      x.row(i)[1] = static_cast<float>(std::sin(angle));
      y[i] = std::sin(period * angle) > 0 ? 1 : 0;
      if (random.uniform() < noise) y[i] = static_cast<int>(random.below(2));
    }
  }
  // The points next to each on the ring, nearest first, itself left out.
  std::vector<int64_t> neighbours(size_t count) const {
    std::vector<int64_t> ids;
    const auto n = static_cast<int64_t>(y.size());
    for (int64_t i = 0; i < n; ++i)
      for (int64_t r = 0; r < static_cast<int64_t>(count); ++r) {
        const int64_t offset = r % 2 == 0 ? r / 2 + 1 : -(r / 2 + 1);
        ids.push_back((i + offset + n) % n);
      }
    return ids;
  }

  Matrix x;
  std::vector<int> y;
};

CheckpointPrior prior_of(const Ring& ring, const LocalTraining& training) {
  const CrossFit cross = cross_fit(ring.x, ring.y, 2, 4);
  const std::vector<int64_t> all = first_ids(ring.y.size());
  return checkpoint_prior(cross, ring.x, ring.y, all, {ring.neighbours(40), 40}, 20, training);
}

TEST(HowFar, GoesFarWhereLocalHeadsAreRightAndStaysWhereTheyAreNot) {
  const LocalTraining training{.steps = 200, .learning_rate = 0.05F, .checkpoints = {0, 20, 200}};
  const CheckpointPrior local = prior_of(Ring(600, 6, 0), training);
  EXPECT_GT(local.weights[2], 0.5);
  EXPECT_LT(local.mixture_log_loss, 0.6 * local.log_loss[0]);
  const CheckpointPrior noise = prior_of(Ring(600, 1, 1), training);
  EXPECT_GT(noise.weights[0], 0.9);
  EXPECT_LT(noise.mixture_log_loss, noise.log_loss[0] + 1e-3);
  EXPECT_GT(noise.log_loss[2], noise.log_loss[0] + 0.01);
}

// The base is among the mixtures, and no checkpoint alone, floored, predicts the pseudo-queries better.
TEST(HowFar, NoSingleCheckpointIsBetterThanTheMixture) {
  const LocalTraining training{.steps = 60, .learning_rate = 0.05F, .checkpoints = {0, 5, 20, 60}};
  const CheckpointPrior prior = prior_of(Ring(500, 3, 0.3), training);
  EXPECT_NEAR(std::accumulate(prior.weights.begin(), prior.weights.end(), 0.0), 1, 1e-9);
  EXPECT_EQ(prior.pseudo_queries, 500U);
  for (const double loss : prior.log_loss) EXPECT_LE(prior.mixture_log_loss, loss - std::log(1 - prior.floor) + 1e-3);
  EXPECT_LE(prior.mixture_log_loss, prior.log_loss[0] + 1e-3);
}

// A pseudo-query's own label takes part in none of the heads that answer it: the label changes what is read off the
// answer, not the answer. With one pseudo-query of two classes, p of the one label and p of the other sum to 1.
TEST(HowFar, APseudoQueryDoesNotSeeItsOwnLabel) {
  Ring ring(200, 3, 0.2);
  const LocalTraining training{.steps = 30, .learning_rate = 0.05F, .checkpoints = {0, 10, 30}};
  const CrossFit cross = cross_fit(ring.x, ring.y, 2, 4);
  const std::vector<int64_t> neighbours = ring.neighbours(40), pseudo = {17};
  const NeighbourIds own{std::span(neighbours).subspan(17 * 40, 40), 40};
  const auto losses = [&] { return checkpoint_prior(cross, ring.x, ring.y, pseudo, own, 20, training).log_loss; };
  const std::vector<double> before = losses();
  ring.y[17] = 1 - ring.y[17];
  const std::vector<double> after = losses();
  for (size_t j = 0; j < 3; ++j) EXPECT_NEAR(std::exp(-before[j]) + std::exp(-after[j]), 1, 1e-5);
}

// Heads so sure that a wrong label's probability is 0 in double precision: how sure still counts.
TEST(HowFar, APriorIsFoundForHeadsThatAreFarTooSure) {
  const Ring ring(300, 3, 0.2);
  CrossFit cross = cross_fit(ring.x, ring.y, 2, 4);
  for (LinearHead& head : cross.heads)
    for (size_t i = 0; i < head.weights.size(); ++i) head.weights.data()[i] *= 1e6F;
  const std::vector<int64_t> all = first_ids(ring.y.size());
  for (const double floor : {0.05, 1.0}) {
    const CheckpointPrior prior =
        checkpoint_prior(cross, ring.x, ring.y, all, {ring.neighbours(40), 40}, 20,
                         {.steps = 10, .learning_rate = 0.05F, .checkpoints = {0, 5, 10}}, floor);
    ASSERT_EQ(prior.weights.size(), 3U);
    EXPECT_NEAR(std::accumulate(prior.weights.begin(), prior.weights.end(), 0.0), 1, 1e-9);
    EXPECT_GT(prior.log_loss[0], 1000);
    EXPECT_LE(prior.mixture_log_loss, prior.log_loss[0] - std::log(floor) + 1e-6);
  }
}

TEST(HowFar, BadInputIsNamed) {
  const Ring ring(60, 2, 0);
  const CrossFit cross = cross_fit(ring.x, ring.y, 2, 3);
  const std::vector<int64_t> neighbours = ring.neighbours(10), all = first_ids(60), outside = {60};
  const LocalTraining training{.steps = 5, .checkpoints = {0, 5}};
  HONE_EXPECT_ERROR(checkpoint_prior(cross, ring.x, ring.y, all, {neighbours, 10}, 5, {.steps = 5}),
                    ErrorCode::bad_input, "begin with 0");
  HONE_EXPECT_ERROR(checkpoint_prior(cross, ring.x, ring.y, all, {neighbours, 10}, 5, training, 0),
                    ErrorCode::bad_input, "floor");
  HONE_EXPECT_ERROR(
      checkpoint_prior(cross, ring.x, ring.y, outside, {std::span(neighbours).first(10), 10}, 5, training),
      ErrorCode::bad_input, "pseudo-query 60");
  HONE_EXPECT_ERROR(checkpoint_prior(cross, ring.x, ring.y, all, {neighbours, 20}, 5, training), ErrorCode::bad_input,
                    "60 pseudo-queries with 30 rows");
  CrossFit no_fold = cross_fit(ring.x, ring.y, 2, 3);
  no_fold.fold[7] = 3;
  HONE_EXPECT_ERROR(checkpoint_prior(no_fold, ring.x, ring.y, all, {neighbours, 10}, 5, training), ErrorCode::bad_input,
                    "fold is none of its 3");
  std::vector<int> unknown = ring.y;
  unknown[7] = 5;
  HONE_EXPECT_ERROR(checkpoint_prior(cross, ring.x, unknown, all, {neighbours, 10}, 5, training), ErrorCode::bad_input,
                    "label");
  LocalAnswers answers;
  answers.logits.emplace_back(1, 2);
  answers.logits.emplace_back(1, 3);
  HONE_EXPECT_ERROR(mix_checkpoints(answers, {.weights = {0.5, 0.5}, .floor = 0.1}), ErrorCode::bad_input, "[1, 3]");
  answers.logits.pop_back();
  HONE_EXPECT_ERROR(mix_checkpoints(answers, {.weights = {0.5, 0.5}, .floor = 0.1}), ErrorCode::bad_input,
                    "checkpoints");
  HONE_EXPECT_ERROR(mix_checkpoints(answers, {.weights = {1}, .trust = 1, .floor = 0.1}), ErrorCode::bad_input,
                    "left_out");
  answers.logits[0].row(0)[0] = NAN;
  HONE_EXPECT_ERROR(mix_checkpoints(answers, {.weights = {1}, .floor = 0.1}), ErrorCode::bad_input, "not finite");
}

}  // namespace
}  // namespace hone::test::how_far_test
