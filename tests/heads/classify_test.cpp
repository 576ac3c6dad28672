// Every way to answer is what its parts say, hone's answer keeps its bound, and scores are what they are by hand.
#include "hone/classify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "heads/votes.h"
#include "tests/expect_error.h"
#include "tests/head_problem.h"

namespace hone::classify_test {
namespace {

using test::HeadProblem;
using test::PlainHead;

constexpr double ln2 = 0.6931471805599453;

// Points in the plane, labelled as a chess board is coloured: no linear head is better than chance, one that looks at
// the neighbourhood only is.
struct ChessBoard {
  ChessBoard(size_t points, size_t queries) : x(points, 2), asked(queries, 2) {
    RandomStream random(3, "chess board");
    draw(x, y, random);
    draw(asked, truth, random);
  }
  static void draw(Matrix& to, std::vector<int>& labels, RandomStream& random) {
    for (size_t i = 0; i < to.rows(); ++i) {
      for (float& value : to.row(i)) value = static_cast<float>(4 * random.uniform());
      labels.push_back((static_cast<int>(to.row(i)[0]) + static_cast<int>(to.row(i)[1])) % 2);
    }
  }

  Matrix x, asked;
  std::vector<int> y, truth;
};

ClassifyOptions small_options() {
  ClassifyOptions options;
  options.neighbours = 12;
  options.training.steps = 20;
  options.training.learning_rate = 0.1F;
  options.pseudo_queries = 100;
  options.ridges = {1e-3};
  return options;
}

const Answers& way(const Classification& result, const std::string& name) {
  return *std::ranges::find(result.answers, name, &Answers::name);
}
const ClassifyScore& score(const std::vector<ClassifyScore>& scores, const std::string& name) {
  return *std::ranges::find(scores, name, &ClassifyScore::name);
}

// By the distance that is computed point by point; ties by id.
std::vector<int64_t> nearest(const HeadProblem& problem, std::span<const float> query, size_t k) {
  std::vector<std::pair<double, int64_t>> order;
  for (size_t i = 0; i < problem.x.rows(); ++i) {
    double distance = 0;
    for (size_t f = 0; f < query.size(); ++f)
      distance += std::pow(static_cast<double>(query[f]) - static_cast<double>(problem.x.row(i)[f]), 2);
    order.emplace_back(distance, i);
  }
  std::ranges::sort(order);
  std::vector<int64_t> ids;
  for (size_t i = 0; i < k; ++i) ids.push_back(order[i].second);
  return ids;
}

double largest_difference(ConstMatrixView a, ConstMatrixView b) {
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.cols, b.cols);
  double largest = 0;
  for (size_t i = 0; i < a.rows * a.cols; ++i)
    largest = std::max(largest, std::fabs(static_cast<double>(a.data[i]) - static_cast<double>(b.data[i])));
  return largest;
}

class Classify : public testing::Test {
 protected:
  Classify() {
    RandomStream random(8, "truth");
    for (size_t q = 0; q < problem.queries.rows(); ++q) truth.push_back(static_cast<int>(random.below(4)));
  }
  Classification run(const ClassifyOptions& options) const {
    return classify(problem.x, problem.y, 4, problem.queries, truth, options);
  }

  HeadProblem problem{160, 5, 4, 40};
  std::vector<int> truth;
};

TEST_F(Classify, EveryWayIsWhatItsPartsSay) {
  const ClassifyOptions options = small_options();
  const Classification result = run(options);
  std::vector<std::string> names;
  for (const Answers& answers : result.answers) names.push_back(answers.name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"global", "majority vote", "distance-weighted vote", "majority vote, local k",
                                      "distance-weighted vote, local k", "local", "hone"}));
  EXPECT_EQ(result.checkpoints, (std::vector<int>{0, 1, 2, 5, 10, 20}));
  EXPECT_EQ(result.ridge, 1e-3);

  const LinearHead head = fit_head(problem.x, problem.y, 4, {.ridge = 1e-3});
  Matrix global = head.logits(problem.queries);
  log_softmax(global);
  EXPECT_LE(largest_difference(way(result, "global").log_probabilities, global), 1e-6);

  std::vector<int64_t> ids;
  for (size_t q = 0; q < problem.queries.rows(); ++q)
    for (const int64_t id : nearest(problem, problem.queries.row(q), options.neighbours)) ids.push_back(id);
  LocalTraining training = options.training;
  LocalAnswers local = local_answers(head, problem.x, problem.y, {ids, options.neighbours}, problem.queries, training);
  log_softmax(local.logits.back());
  EXPECT_LE(largest_difference(way(result, "local").log_probabilities, local.logits.back()), 1e-5);

  training.checkpoints = result.checkpoints;
  const LocalMixture mixture = mix_checkpoints(
      local_answers(head, problem.x, problem.y, {ids, options.neighbours}, problem.queries, training, true),
      result.prior);
  EXPECT_LE(largest_difference(way(result, "hone").log_probabilities, mixture.log_probabilities), 1e-5);
  EXPECT_LE(largest_difference(result.weights, mixture.weights), 1e-5);
}

TEST_F(Classify, AnswersAreProbabilities) {
  ClassifyOptions options = small_options();
  options.experts = 7;
  for (const Answers& answers : run(options).answers)
    for (size_t q = 0; q < truth.size(); ++q) {
      double sum = 0;
      for (const float log_p : answers.log_probabilities.row(q)) sum += std::exp(static_cast<double>(log_p));
      EXPECT_NEAR(sum, 1, 1e-5) << answers.name;
    }
}

TEST_F(Classify, VotesCountNeighbours) {
  ClassifyOptions options = small_options();
  options.votes = 5;
  const Classification result = run(options);
  EXPECT_EQ(result.majority_votes, 5U);
  EXPECT_EQ(result.distance_votes, 5U);
  size_t ties = 0;
  for (size_t q = 0; q < truth.size(); ++q) {
    const std::vector<int64_t> ids = nearest(problem, problem.queries.row(q), options.votes);
    std::vector<double> votes(4);
    for (const int64_t id : ids) ++votes[static_cast<size_t>(problem.y[static_cast<size_t>(id)])];
    const auto log_p = way(result, "majority vote").log_probabilities.row(q);
    for (size_t c = 0; c < 4; ++c) EXPECT_NEAR(std::exp(log_p[c]), (votes[c] + 0.25) / 6, 1e-4);
    const double most = *std::ranges::max_element(votes);
    ties += std::ranges::count(votes, most) > 1;
    const int64_t leader = *std::ranges::find_if(
        ids, [&](int64_t id) { return votes[static_cast<size_t>(problem.y[static_cast<size_t>(id)])] == most; });
    EXPECT_EQ(std::ranges::max_element(log_p) - log_p.begin(), problem.y[static_cast<size_t>(leader)]);
  }
  EXPECT_GT(ties, 3u);
}

// However many votes there are on either side.
TEST(Votes, TiesGoToTheNearest) {
  constexpr size_t k = 50;
  std::vector<int> y(k, 1);
  std::fill(y.begin() + 1, y.begin() + 1 + k / 2, 0);
  Neighbours neighbours{k, std::vector<int64_t>(k), std::vector<float>(k, 0.5F)};
  std::iota(neighbours.ids.begin(), neighbours.ids.end(), 0);
  for (const Vote vote : {Vote::majority, Vote::by_distance}) {
    const Matrix log_p = vote_log_probabilities(y, 3, neighbours, Metric::l2, vote);
    EXPECT_GT(log_p.row(0)[1], log_p.row(0)[0]);
    EXPECT_NEAR(log_p.row(0)[1], log_p.row(0)[0], 1e-4);
    double sum = 0;
    for (const float l : log_p.row(0)) sum += std::exp(static_cast<double>(l));
    EXPECT_NEAR(sum, 1, 1e-6);
  }
}

TEST_F(Classify, VotesAreAlsoShownAtTheLocalHeadsK) {
  ClassifyOptions options = small_options();
  options.votes = 3;
  const Classification few = run(options);
  options.votes = options.neighbours;
  const Classification same = run(options);
  for (const std::string vote : {"majority vote", "distance-weighted vote"}) {
    const Matrix& at_local_k = way(few, vote + ", local k").log_probabilities;
    EXPECT_EQ(largest_difference(at_local_k, way(same, vote).log_probabilities), 0) << vote;
    EXPECT_GT(largest_difference(at_local_k, way(few, vote).log_probabilities), 1e-2) << vote;
  }
}

// SIFT passes over some of the nearest: what local heads do not learn from has no vote beside them.
TEST_F(Classify, VotesAtTheLocalHeadsKAreOfThePointsThatSiftChose) {
  ClassifyOptions options = small_options();
  options.votes = 3;
  const Classification plain = run(options);
  options.sift_pool = 60;
  const Classification sifted = run(options);
  const NeighbourIndex index = NeighbourIndex::build(problem.x);
  const Neighbours chosen = sift(problem.x, problem.queries, index.search(problem.queries, 60),
                                 {.count = 12, .noise = options.sift_noise, .normalize = false});
  double largest = 0;
  for (size_t q = 0; q < truth.size(); ++q) {
    std::vector<double> votes(4), weighed(4);
    double sum = 0, nearest_leader = INFINITY;
    for (size_t i = 0; i < 12; ++i) {
      const auto label = static_cast<size_t>(problem.y[static_cast<size_t>(chosen.ids_of(q)[i])]);
      const double weight = 1 / std::sqrt(static_cast<double>(chosen.distances_of(q)[i]));
      ++votes[label];
      weighed[label] += weight;
      sum += weight;
    }
    const double most = *std::ranges::max_element(votes);
    size_t leader = 0;
    for (size_t i = 0; i < 12; ++i) {
      const auto label = static_cast<size_t>(problem.y[static_cast<size_t>(chosen.ids_of(q)[i])]);
      if (votes[label] < most || chosen.distances_of(q)[i] >= nearest_leader) continue;
      nearest_leader = chosen.distances_of(q)[i];
      leader = label;
    }
    const auto counted = way(sifted, "majority vote, local k").log_probabilities.row(q);
    const auto by_distance = way(sifted, "distance-weighted vote, local k").log_probabilities.row(q);
    for (size_t c = 0; c < 4; ++c) {
      EXPECT_NEAR(std::exp(counted[c]), (votes[c] + 0.25) / 13, 1e-4);
      EXPECT_NEAR(std::exp(by_distance[c]), (12 * weighed[c] / sum + 0.25) / 13, 1e-4);
      largest = std::max(largest, std::fabs(static_cast<double>(
                                      counted[c] - way(plain, "majority vote, local k").log_probabilities.row(q)[c])));
    }
    EXPECT_EQ(static_cast<size_t>(std::ranges::max_element(counted) - counted.begin()), leader);
  }
  EXPECT_GT(largest, 1e-2);  // SIFT chose others than the nearest
}

// l2 distances come squared: 1 and 4 are 1 and 2 apart, and weigh 1 and 1/2.
TEST(Votes, WeighByDistance) {
  const std::vector<int> y = {0, 1, 1, 2};
  const Neighbours near{3, {0, 1, 2, 3, -1, -1}, {1, 4, 16, 0, INFINITY, INFINITY}};
  const Matrix l2 = vote_log_probabilities(y, 3, near, Metric::l2, Vote::by_distance);
  EXPECT_NEAR(std::exp(l2.row(0)[0]), (3 * 1 / 1.75 + 1.0 / 3) / 4, 1e-4);
  EXPECT_NEAR(std::exp(l2.row(0)[1]), (3 * 0.75 / 1.75 + 1.0 / 3) / 4, 1e-4);
  EXPECT_NEAR(std::exp(l2.row(0)[2]), 1.0 / 12, 1e-6);
  EXPECT_NEAR(std::exp(l2.row(1)[2]), (3 + 1.0 / 3) / 4, 1e-6);
  const Matrix cosine = vote_log_probabilities(y, 3, near, Metric::cosine, Vote::by_distance);
  EXPECT_NEAR(std::exp(cosine.row(0)[0]), (3 * 1 / 1.3125 + 1.0 / 3) / 4, 1e-4);
  EXPECT_NEAR(std::exp(cosine.row(0)[1]), (3 * 0.3125 / 1.3125 + 1.0 / 3) / 4, 1e-4);
}

TEST(Votes, AsManyAsAreRightMostOften) {
  // The nearest neighbour misleads, of five the majority is right, of ten it is wrong again.
  const std::vector<int> y = {0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1};
  const std::vector<int64_t> asked = {0};
  Neighbours near{10, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {}};
  for (int i = 1; i <= 10; ++i) near.distances.push_back(static_cast<float>(i));
  EXPECT_EQ(choose_votes(y, 2, asked, near, Metric::l2, Vote::majority), 5U);
  EXPECT_EQ(choose_votes(y, 2, asked, near.nearest(4), Metric::l2, Vote::majority), 1U);
}

// Of points on a chess board three in ten are labelled wrongly: the nearest alone is a bad adviser.
TEST(Votes, NoiseWantsMoreOfThem) {
  ChessBoard board(1500, 10);
  ClassifyOptions options = small_options();
  options.training.steps = 2;
  options.pseudo_queries = 500;
  RandomStream random(5, "noise");
  for (int& label : board.y)
    if (random.uniform() < 0.3) label = 1 - label;
  const Classification noisy = classify(board.x, board.y, 2, board.asked, board.truth, options);
  EXPECT_GT(noisy.majority_votes, 1U);
  EXPECT_GT(noisy.distance_votes, 1U);
}

TEST_F(Classify, LabelsOfTheQueriesChangeNoAnswer) {
  const Classification one = run(small_options());
  std::ranges::fill(truth, 2);
  const Classification other = run(small_options());
  for (size_t i = 0; i < one.answers.size(); ++i)
    EXPECT_EQ(largest_difference(one.answers[i].log_probabilities, other.answers[i].log_probabilities), 0);
  EXPECT_EQ(one.prior.weights, other.prior.weights);
  EXPECT_EQ(one.own_accuracy.mean, other.own_accuracy.mean);
}

TEST_F(Classify, HoneLosesNoMoreThanTheBoundWhateverTheLabel) {
  for (const float rate : {0.1F, 3.0F, 1e6F}) {
    ClassifyOptions options = small_options();
    options.training.learning_rate = rate;
    options.floor = 0.2;
    const Classification result = run(options);
    EXPECT_NEAR(result.prior.bound_bits(), std::log2(5), 1e-9);
    const ClassifyScore hone = score(score_answers(result.answers, truth), "hone");
    EXPECT_LE(hone.worst_bits, result.prior.bound_bits() + 1e-4) << rate;
    EXPECT_TRUE(std::isfinite(hone.log_loss.mean));
  }
}

TEST(ClassifyChessBoard, LocalHeadsSeeWhatALinearHeadCannot) {
  const ChessBoard board(2000, 300);
  ClassifyOptions options = small_options();
  options.neighbours = 20;
  options.training.steps = 50;
  const Classification result = classify(board.x, board.y, 2, board.asked, board.truth, options);
  const std::vector<ClassifyScore> scores = score_answers(result.answers, board.truth);
  EXPECT_LT(score(scores, "global").accuracy.mean, 0.65);
  EXPECT_GT(score(scores, "local").accuracy.mean, 0.85);
  EXPECT_GT(score(scores, "hone").accuracy_gain.low, 0.2);
  EXPECT_LT(score(scores, "hone").log_loss_gain.high, -0.2);
  EXPECT_GT(result.own_accuracy.mean, 0.85);
  EXPECT_LT(result.elsewhere_accuracy.mean, 0.65);
}

double mean_loss(const Answers& answers, std::span<const int> truth) {
  double sum = 0;
  for (size_t q = 0; q < truth.size(); ++q) sum -= answers.log_probabilities.row(q)[static_cast<size_t>(truth[q])];
  return sum / static_cast<double>(truth.size());
}

// Labels that a linear head explains as well as anything can. How far to go is learned from 500 rows, which mislead by
// chance: on average over draws little may be lost.
TEST(ClassifyLinear, HoneStaysWhereNothingIsToGain) {
  constexpr int draws = 6;
  double local = 0, hone = 0;
  for (int draw = 0; draw < draws; ++draw) {
    RandomStream random(static_cast<uint64_t>(draw), "linear");
    Matrix x(2000, 4);
    random.normals({x.data(), x.size()}, 1);
    std::vector<int> y;
    for (size_t i = 0; i < x.rows(); ++i)
      y.push_back(random.uniform() < 1 / (1 + std::exp(-2.0 * static_cast<double>(x.row(i)[0] - x.row(i)[1]))));
    ClassifyOptions options = small_options();
    options.pseudo_queries = 500;
    const std::span truth = std::span(y).subspan(1000);
    const Classification result = classify(x.view().row_range(0, 1000), std::span(y).first(1000), 2,
                                           x.view().row_range(1000, 1000), truth, options);
    const double global = mean_loss(way(result, "global"), truth);
    local += (mean_loss(way(result, "local"), truth) - global) / draws;
    hone += (mean_loss(way(result, "hone"), truth) - global) / draws;
  }
  EXPECT_GT(local, 0.05);
  EXPECT_LT(hone, 0.01);
}

TEST_F(Classify, TheSameSeedAnswersTheSameOnAnyNumberOfThreads) {
  ClassifyOptions options = small_options();
  options.experts = 5;
  options.seed = 4;
  const int before = threads();
  set_threads(1);
  const Classification one = run(options);
  set_threads(3);
  const Classification three = run(options);
  set_threads(before);
  ASSERT_EQ(one.answers.size(), 8u);
  for (size_t i = 0; i < one.answers.size(); ++i)
    EXPECT_LE(largest_difference(one.answers[i].log_probabilities, three.answers[i].log_probabilities), 1e-5)
        << one.answers[i].name;
}

TEST_F(Classify, SiftOfAPoolOfItsOwnSizeChoosesTheSamePoints) {
  ClassifyOptions options = small_options();
  const Classification plain = run(options);
  options.sift_pool = options.neighbours;
  const Classification sifted = run(options);
  EXPECT_LE(largest_difference(way(plain, "local").log_probabilities, way(sifted, "local").log_probabilities), 1e-3);
  options.sift_pool = 60;
  EXPECT_GT(largest_difference(way(plain, "local").log_probabilities, way(run(options), "local").log_probabilities),
            1e-2);
}

TEST_F(Classify, ExpertsThatAreKnownAnswerAsWhenTheyWereFitted) {
  ClassifyOptions options = small_options();
  options.experts = 6;
  const Classification fitted = run(options);
  ASSERT_TRUE(fitted.experts.has_value());
  EXPECT_EQ(fitted.experts->size(), 6u);
  options.experts = 0;
  options.known_experts = &*fitted.experts;
  const Classification known = run(options);
  EXPECT_FALSE(known.experts.has_value());
  EXPECT_EQ(largest_difference(way(fitted, "experts").log_probabilities, way(known, "experts").log_probabilities), 0);
}

TEST_F(Classify, LocalityIsThatOfTheHeads) {
  ClassifyOptions options = small_options();
  options.locality_queries = 40;
  const Classification result = run(options);
  const LinearHead head = fit_head(problem.x, problem.y, 4, {.ridge = 1e-3});
  size_t own_right = 0, right_elsewhere = 0;
  for (size_t q = 0; q < truth.size(); ++q) {
    const std::vector<int64_t> ids = nearest(problem, problem.queries.row(q), options.neighbours);
    PlainHead local(head);
    local.train(problem, ids, 0.1F, 20);
    const auto answer = [&](std::span<const float> x) {
      const std::vector<double> logits = local.logits(x);
      return static_cast<int>(std::ranges::max_element(logits) - logits.begin());
    };
    for (const int64_t id : ids)
      own_right += answer(problem.x.row(static_cast<size_t>(id))) == problem.y[static_cast<size_t>(id)];
    for (size_t i = 0; i < truth.size(); ++i) right_elsewhere += answer(problem.queries.row(i)) == truth[i];
  }
  EXPECT_NEAR(result.own_accuracy.mean, static_cast<double>(own_right) / (40 * 12), 1e-9);
  EXPECT_NEAR(result.elsewhere_accuracy.mean, static_cast<double>(right_elsewhere) / (40 * 40), 1e-9);
}

TEST_F(Classify, LocalityOfASample) {
  ClassifyOptions options = small_options();
  options.locality_queries = 1000;
  const Classification all = run(options);
  options.locality_queries = 10;
  const Classification some = run(options);
  for (const auto& interval :
       {some.own_accuracy, some.own_log_loss, some.elsewhere_accuracy, some.elsewhere_log_loss}) {
    EXPECT_LT(interval.low, interval.high);
    EXPECT_LE(interval.low, interval.mean);
    EXPECT_GE(interval.high, interval.mean);
  }
  EXPECT_NEAR(some.own_accuracy.mean, all.own_accuracy.mean, 0.2);
  EXPECT_NEAR(some.elsewhere_accuracy.mean, all.elsewhere_accuracy.mean, 0.2);
  options.locality_queries = 0;
  EXPECT_EQ(run(options).own_accuracy.high, 0);
}

TEST(ClassifyChessBoard, BatchesOfQueriesAnswerAsOne) {
  const ChessBoard board(300, 5000);
  ClassifyOptions options = small_options();
  options.training.steps = 5;
  options.locality_queries = 2;
  const auto of = [&](size_t first, size_t count) {
    return classify(board.x, board.y, 2, board.asked.view().row_range(first, count),
                    std::span(board.truth).subspan(first, count), options);
  };
  const Classification all = of(0, 5000), last = of(4000, 1000);
  const ConstMatrixView whole = way(all, "hone").log_probabilities;
  EXPECT_LE(largest_difference(whole.row_range(4000, 1000), way(last, "hone").log_probabilities), 1e-5);
  EXPECT_LE(largest_difference(all.weights.view().row_range(4000, 1000), last.weights), 1e-5);
}

TEST_F(Classify, RefusesWhatDoesNotFit) {
  const auto refused = [&](const std::string& why, const auto& change) {
    ClassifyOptions options = small_options();
    change(options);
    HONE_EXPECT_ERROR(run(options), ErrorCode::bad_input, why);
  };
  refused("neighbours is 161", [](ClassifyOptions& options) { options.neighbours = 161; });
  refused("neighbours is 0", [](ClassifyOptions& options) { options.neighbours = 0; });
  refused("votes is 200", [](ClassifyOptions& options) { options.votes = 200; });
  refused("SIFT pool is 11", [](ClassifyOptions& options) { options.sift_pool = 11; });
  refused("161 experts", [](ClassifyOptions& options) { options.experts = 161; });
  refused("floor is 0", [](ClassifyOptions& options) { options.floor = 0; });
  refused("folds is -1", [](ClassifyOptions& options) { options.folds = -1; });
  const ClassifyOptions options = small_options();
  HONE_EXPECT_ERROR(classify(problem.x, problem.y, 1, problem.queries, truth, options), ErrorCode::bad_input,
                    "one class");
  HONE_EXPECT_ERROR(classify(problem.x, problem.y, 4, Matrix(40, 6), truth, options), ErrorCode::bad_input,
                    "queries have 6 features, the training points 5");
  HONE_EXPECT_ERROR(classify(problem.x, problem.y, 4, Matrix(0, 5), {}, options), ErrorCode::bad_input, "no queries");
  HONE_EXPECT_ERROR(classify(problem.x, problem.y, 4, problem.queries, std::span(truth).first(3), options),
                    ErrorCode::bad_input, "3 labels for 40 queries");
  std::vector<int> outside = truth;
  outside[5] = 4;
  HONE_EXPECT_ERROR(classify(problem.x, problem.y, 4, problem.queries, outside, options), ErrorCode::bad_input,
                    "the label of query 5 is 4, not in 0 … 3");
  problem.queries.row(7)[2] = NAN;
  HONE_EXPECT_ERROR(run(options), ErrorCode::bad_input, "queries: row 7, column 2");
  const HeadProblem wider(30, 6, 4, 1);
  const NeighbourIndex index = NeighbourIndex::build(wider.x);
  const Experts experts =
      Experts::fit(wider.start, wider.x, wider.y, index, {.experts = 2, .neighbours = 3, .training = {}});
  problem.queries.row(7)[2] = 0;
  refused("experts are of 6 features", [&](ClassifyOptions& with) { with.known_experts = &experts; });
}

TEST_F(Classify, WithoutStepsALocalHeadIsTheGlobalOne) {
  for (const LocalSolver solver : {LocalSolver::adam, LocalSolver::lbfgs}) {
    ClassifyOptions options = small_options();
    options.training.solver = solver;
    options.training.steps = 0;
    const Classification result = run(options);
    EXPECT_EQ(result.checkpoints, std::vector<int>{0});
    for (const char* name : {"local", "hone"})
      EXPECT_LE(largest_difference(way(result, name).log_probabilities, way(result, "global").log_probabilities), 1e-5)
          << name;
  }
  ClassifyOptions options = small_options();
  options.training.steps = -1;
  HONE_EXPECT_ERROR(run(options), ErrorCode::bad_input, "steps is -1; give 0 or more");
}

TEST_F(Classify, AFewPointsAreEnough) {
  ClassifyOptions options = small_options();
  options.neighbours = options.votes = 2;
  options.folds = 5;
  const Classification result = classify(problem.x.view().row_range(0, 3), std::vector<int>{0, 1, 0}, 2,
                                         problem.queries, std::vector<int>(problem.queries.rows(), 1), options);
  EXPECT_EQ(result.answers.size(), 7u);
  HONE_EXPECT_ERROR(classify(problem.x.view().row_range(0, 1), std::vector<int>{0}, 2, problem.queries,
                             std::vector<int>(problem.queries.rows(), 1), options),
                    ErrorCode::bad_input, "neighbours is 2");
}

// Two points far from all others, alone in a list: they find each other only.
TEST_F(Classify, APointWithFewNeighboursTakesNoneFromTheOthers) {
  for (const size_t far : {0, 1}) problem.x.row(far)[0] += 1000;
  ClassifyOptions options = small_options();
  options.pseudo_queries = problem.x.rows();
  options.index = {.kind = IndexKind::ivf, .lists = 2, .effort = 1};
  const Classification result = run(options);
  const Neighbours near =
      NeighbourIndex::build(problem.x, options.index).search(problem.x, 2 * options.neighbours + 20);
  ASSERT_EQ(near.ids_of(0)[2], -1);
  std::vector<int64_t> pseudo(problem.x.rows());
  std::iota(pseudo.begin(), pseudo.end(), 0);
  LocalTraining training = options.training;
  training.checkpoints = result.checkpoints;
  const CheckpointPrior prior =
      checkpoint_prior(cross_fit(problem.x, problem.y, 4, options.folds, {.ridge = 1e-3}), problem.x, problem.y, pseudo,
                       near.view(), options.neighbours, training, options.floor);
  for (size_t j = 0; j < prior.log_loss.size(); ++j) EXPECT_NEAR(result.prior.log_loss[j], prior.log_loss[j], 1e-6);
  EXPECT_EQ(result.prior.trust, prior.trust);
}

TEST_F(Classify, CanBeCancelled) {
  Watch watch;
  watch.progress = [&](const Progress&) { watch.cancel.cancel(); };
  HONE_EXPECT_ERROR(classify(problem.x, problem.y, 4, problem.queries, truth, small_options(), watch),
                    ErrorCode::cancelled, "");
}

Answers answers_of(const std::string& name, const std::vector<std::vector<double>>& probabilities) {
  Answers answers{name, Matrix(probabilities.size(), probabilities.front().size()), 2};
  for (size_t q = 0; q < probabilities.size(); ++q)
    for (size_t c = 0; c < probabilities[q].size(); ++c)
      answers.log_probabilities.row(q)[c] = static_cast<float>(std::log(probabilities[q][c]));
  return answers;
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

TEST(ClassifyScores, ByHand) {
  std::vector<Answers> answers;
  answers.push_back(answers_of("base", {{0.5, 0.25, 0.25}, {0.9, 0.05, 0.05}, {0.25, 0.5, 0.25}, {0.1, 0.1, 0.8}}));
  answers.push_back(answers_of("other", {{0.8, 0.1, 0.1}, {0.1, 0.8, 0.1}, {0.25, 0.5, 0.25}, {0.02, 0.18, 0.8}}));
  const std::vector<int> truth = {0, 1, 1, 0};
  const std::vector<ClassifyScore> scores = score_answers(answers, truth);
  const Watch cancelled;
  cancelled.cancel.cancel();
  HONE_EXPECT_ERROR(score_answers(answers, truth, 0, cancelled), ErrorCode::cancelled, "");
  EXPECT_EQ(scores[0].name, "base");
  EXPECT_NEAR(scores[0].accuracy.mean, 0.5, 1e-12);
  EXPECT_NEAR(scores[1].accuracy.mean, 0.75, 1e-12);
  EXPECT_NEAR(scores[0].log_loss.mean, -(std::log(0.5) + std::log(0.05) + std::log(0.5) + std::log(0.1)) / 4, 1e-6);
  // Bins of 1/15: 0.5 twice, both right; 0.9 wrong; 0.8 wrong.
  EXPECT_NEAR(scores[0].calibration_error, (1.0 + 0.9 + 0.8) / 4, 1e-6);
  // 0.5 right; 0.8 three times, twice right.
  EXPECT_NEAR(scores[1].calibration_error, (0.5 + 0.4) / 4, 1e-6);
  EXPECT_NEAR(scores[1].accuracy_gain.mean, 0.25, 1e-12);
  EXPECT_NEAR(scores[1].log_loss_gain.mean, scores[1].log_loss.mean - scores[0].log_loss.mean, 1e-9);
  EXPECT_NEAR(scores[1].worst_bits, std::log(9.0) / ln2, 1e-5);
  EXPECT_NEAR(scores[0].worst_bits, 0, 1e-9);
  EXPECT_NEAR(scores[1].queries_per_second, 2, 1e-9);
  const decide::Interval wilson = decide::share_interval(3, 4);
  EXPECT_EQ(scores[1].accuracy.low, wilson.low);
  EXPECT_EQ(scores[1].accuracy.high, wilson.high);
}

TEST(ClassifyScores, CertainlyRightIsNotCertainlyPerfect) {
  std::vector<Answers> answers;
  answers.push_back(answers_of("base", std::vector<std::vector<double>>(20, {0.9, 0.1})));
  const decide::Interval accuracy = score_answers(answers, std::vector<int>(20, 0))[0].accuracy;
  EXPECT_EQ(accuracy.mean, 1);
  EXPECT_LT(accuracy.low, 0.9);
}

TEST(ClassifyScores, IntervalsHoldTheTruthAsOftenAsTheySay) {
  constexpr int repeats = 60;
  constexpr double p = 0.7;
  int held = 0;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    RandomStream random(static_cast<uint64_t>(repeat), "coverage");
    std::vector<Answers> answers;
    answers.push_back(answers_of("base", std::vector<std::vector<double>>(200, {p, 1 - p})));
    std::vector<int> truth;
    for (int q = 0; q < 200; ++q) truth.push_back(random.uniform() < p ? 0 : 1);
    const decide::Interval accuracy = score_answers(answers, truth, static_cast<uint64_t>(repeat))[0].accuracy;
    held += accuracy.low <= p && p <= accuracy.high;
  }
  EXPECT_GE(held, 0.95 * repeats - 3.5 * std::sqrt(repeats * 0.95 * 0.05));
}

TEST(ClassifyScores, ADivergedHeadIsWrongAndInfinitelySo) {
  std::vector<Answers> answers;
  answers.push_back(answers_of("base", {{0.5, 0.5}, {0.9, 0.1}}));
  answers.push_back(answers_of("diverged", {{0.5, 0.5}, {NAN, NAN}}));
  const std::vector<ClassifyScore> scores = score_answers(answers, std::vector<int>{0, 0});
  EXPECT_NEAR(scores[1].accuracy.mean, 0.5, 1e-12);
  EXPECT_EQ(scores[1].log_loss.mean, INFINITY);
  EXPECT_EQ(scores[1].worst_bits, INFINITY);
}

TEST(ClassifyScores, RefusesWhatDoesNotFit) {
  std::vector<Answers> answers;
  HONE_EXPECT_ERROR(score_answers(answers, std::vector<int>{0}), ErrorCode::bad_input, "no answers");
  answers.push_back(answers_of("base", {{0.5, 0.5}, {0.9, 0.1}}));
  HONE_EXPECT_ERROR(score_answers(answers, {}), ErrorCode::bad_input, "no answers");
  HONE_EXPECT_ERROR(score_answers(answers, std::vector<int>{0}), ErrorCode::bad_input, "base: 2 answers to 1 queries");
  HONE_EXPECT_ERROR(score_answers(answers, std::vector<int>{0, 2}), ErrorCode::bad_input, "label of query 1 is 2");
}

}  // namespace
}  // namespace hone::classify_test
