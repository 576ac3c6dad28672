// Choices of blocks against dense algebra, eigendecompositions and enumeration.
#include "hone/directions.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "tests/expect_error.h"
#include "tests/random_kernel.h"

namespace hone::decide::chosen_blocks_test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// B blocks of `width` parameters each, kept in fp32 as a backward pass leaves them.
struct Blocks {
  Blocks(RandomStream& random, size_t count, size_t n, size_t width)
      : kernels(count, n * n), queries(count, n), residuals(to_vector(random_column(random, n))) {
    for (size_t b = 0; b < count; ++b) {
      const Problem p = random_problem(random, n, width);
      const Dense scaled = std::exp(random.normal()) * p.kernel;
      for (size_t i = 0; i < n; ++i) {
        queries.row(b)[i] = static_cast<float>(p.query(static_cast<Eigen::Index>(i)));
        for (size_t j = 0; j < n; ++j)
          kernels.row(b)[i * n + j] =
              static_cast<float>(scaled(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)));
      }
    }
  }

  BlockKernels view() const { return {kernels, queries}; }
  size_t n() const { return queries.cols(); }
  Dense kernel(size_t b) const { return to_dense(Matrix64({kernels.row(b).data(), n(), n()})); }
  Column query(size_t b) const { return to_column(std::vector<double>(queries.row(b).begin(), queries.row(b).end())); }
  Spectrum spectrum() const { return Spectrum(sum_blocks(view()).kernel); }

  Matrix kernels;
  Matrix queries;
  std::vector<double> residuals;
};

TEST(Blocks, KernelsAdd) {
  RandomStream random(0, "add");
  for (const size_t n : {1, 3, 10, 33}) {
    const Blocks blocks(random, 12, n, 4);
    Dense kernel = Dense::Zero(n, n);
    Column query = Column::Zero(n);
    for (size_t b = 0; b < 12; ++b) kernel += blocks.kernel(b), query += blocks.query(b);
    const BlockSum sum = sum_blocks(blocks.view());
    EXPECT_LT((to_dense(sum.kernel) - kernel).norm(), 1e-12 * kernel.norm());
    EXPECT_LT((to_column(sum.query) - query).norm(), 1e-12 * query.norm());
    const std::vector<size_t> two = {7, 2};
    const BlockSum part = sum_blocks(blocks.view(), two);
    EXPECT_LT((to_dense(part.kernel) - blocks.kernel(2) - blocks.kernel(7)).norm(), 1e-12 * kernel.norm());
    // Features side by side: the correction of all blocks is that of the summed kernel, here after one step.
    const Spectrum spectrum = blocks.spectrum();
    const double rho = step_size(spectrum, 0.2);
    EXPECT_NEAR(correction(descent_filter(spectrum, rho, 1), spectrum.coordinates(sum.query, "k"),
                           spectrum.coordinates(blocks.residuals, "r")),
                rho * query.dot(to_column(blocks.residuals)), 1e-10);
  }
}

TEST(Blocks, ScoresAreTheirFormulas) {
  RandomStream random(0, "scores");
  for (const size_t n : {1, 4, 13}) {
    const Blocks blocks(random, 9, n, 3);
    const Spectrum full = blocks.spectrum();
    for (const double noise : {0.01, 3.0, infinity}) {
      const Dense k = to_dense(sum_blocks(blocks.view()).kernel);
      const Dense identity = Dense::Identity(k.rows(), k.rows());
      const Dense inverse = std::isinf(noise) ? identity : Dense((k + noise * identity).llt().solve(identity));
      const auto [trace, query] = block_scores(blocks.view(), full, noise);
      for (size_t b = 0; b < 9; ++b) {
        const double t = (blocks.kernel(b) * inverse).trace(), q = blocks.query(b).dot(inverse * blocks.query(b));
        EXPECT_NEAR(trace[b], t, 1e-8 * std::abs(t));
        EXPECT_NEAR(query[b], q, 1e-8 * std::abs(q));
      }
    }
  }
}

TEST(Blocks, ChoicesByScore) {
  const std::vector<double> scores = {2, 5, 1, 5, 3};
  EXPECT_EQ(top_blocks(scores, 3), (std::vector<size_t>{1, 3, 4}));
  EXPECT_EQ(bottom_blocks(scores, 2), (std::vector<size_t>{2, 0}));
  EXPECT_EQ(top_blocks(scores, 99).size(), 5U);
  EXPECT_TRUE(top_blocks(scores, 0).empty());
  const std::vector<int> layers = {26, 27, 25, 27, 26};
  EXPECT_EQ(last_layer_blocks(layers, 3), (std::vector<size_t>{1, 3, 0}));
  const std::vector<size_t> drawn = random_blocks(50, 20, 7);
  EXPECT_EQ(std::set<size_t>(drawn.begin(), drawn.end()).size(), 20U);
  EXPECT_LT(*std::max_element(drawn.begin(), drawn.end()), 50U);
  EXPECT_EQ(drawn, random_blocks(50, 20, 7));
  EXPECT_NE(drawn, random_blocks(50, 20, 8));
}

// The rule by its definition, with an eigendecomposition for every candidate.
BlockPath greedy_by_eigendecomposition(const Blocks& blocks, double rho, double steps, size_t budget) {
  BlockPath path;
  Dense kernel = Dense::Zero(blocks.n(), blocks.n());
  Column query = Column::Zero(blocks.n());
  std::set<size_t> left;
  for (size_t b = 0; b < blocks.kernels.rows(); ++b) left.insert(b);
  while (path.chosen.size() < budget) {
    size_t best = 0;
    double best_value = -1;
    for (const size_t b : left) {
      const Spectrum spectrum(to_matrix64(kernel + blocks.kernel(b)));
      const double change = correction(descent_filter(spectrum, rho, steps),
                                       spectrum.coordinates(to_vector(query + blocks.query(b)), "k"),
                                       spectrum.coordinates(blocks.residuals, "r"));
      if (change * change > best_value) best = b, best_value = change * change;
    }
    path.chosen.push_back(best);
    path.values.push_back(best_value);
    kernel += blocks.kernel(best);
    query += blocks.query(best);
    left.erase(best);
  }
  return path;
}

TEST(Greedy, IsTheRuleWithEigendecompositions) {
  RandomStream random(0, "greedy");
  for (const size_t n : {1, 2, 7, 16})
    for (const size_t steps : {1, 2, 8}) {
      const Blocks blocks(random, 20, n, 5);
      const Spectrum full = blocks.spectrum();
      const double rho = step_size(full, 0.2);
      const BlockPath path = greedy_blocks(blocks.view(), full, blocks.residuals, rho, steps, 6);
      const BlockPath expected = greedy_by_eigendecomposition(blocks, rho, static_cast<double>(steps), 6);
      EXPECT_EQ(path.chosen, expected.chosen);
      for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(path.values[i], expected.values[i], 1e-9 * expected.values[i]);
    }
}

// By the recurrence itself, whatever the number of steps.
TEST(Greedy, LongDescentsAreJudgedAsShortOnes) {
  RandomStream random(1, "greedy");
  const Blocks blocks(random, 6, 7, 15);
  const Spectrum full = blocks.spectrum();
  const double rho = step_size(full, 0.5);
  for (const size_t steps : {83, 84, 100000}) {
    const BlockPath path = greedy_blocks(blocks.view(), full, blocks.residuals, rho, steps, 6);
    Dense kernel = Dense::Zero(blocks.n(), blocks.n());
    Column query = Column::Zero(blocks.n());
    for (size_t i = 0; i < 6; ++i) {
      kernel += blocks.kernel(path.chosen[i]);
      query += blocks.query(path.chosen[i]);
      Column w = Column::Zero(blocks.n());
      for (size_t t = 0; t < steps; ++t) w += rho * (query - kernel * w);
      double change = 0;
      for (size_t e = 0; e < blocks.residuals.size(); ++e)
        change += w[static_cast<Eigen::Index>(e)] * blocks.residuals[e];
      EXPECT_NEAR(path.values[i], change * change, 1e-7 * change * change) << steps;
    }
  }
}

TEST(Greedy, TiesGoToTheSmallestIndexWhateverTheThreads) {
  RandomStream random(0, "ties");
  Blocks blocks(random, 6, 5, 4);
  for (size_t b = 1; b < 6; ++b) {
    std::copy_n(blocks.kernels.row(0).data(), 25, blocks.kernels.row(b).data());
    std::copy_n(blocks.queries.row(0).data(), 5, blocks.queries.row(b).data());
  }
  const Spectrum full = blocks.spectrum();
  const int before = threads();
  for (const int count : {1, 2, 4}) {
    set_threads(count);
    EXPECT_EQ(greedy_blocks(blocks.view(), full, blocks.residuals, step_size(full, 0.2), 8, 99).chosen,
              (std::vector<size_t>{0, 1, 2, 3, 4, 5}));
  }
  set_threads(before);
  const std::vector<double> silent(5);  // r = 0: every candidate ties
  EXPECT_EQ(greedy_blocks(blocks.view(), full, silent, step_size(full, 0.2), 8, 3).chosen,
            (std::vector<size_t>{0, 1, 2}));
}

TEST(Exact, RiskMatchesMonteCarlo) {
  RandomStream random(0, "risk");
  const Problem p = random_problem(random, 6, 15);
  const double noise = 0.8;
  const Spectrum spectrum = p.spectrum();
  const BlockSum full{to_matrix64(p.kernel), p.k()};
  const std::vector<double> filter = descent_filter(spectrum, step_size(spectrum, 0.3), 4);
  const Column weights = to_dense(spectrum.function(filter)) * p.query;
  constexpr int draws = 100000;
  double sum = 0, square = 0;
  for (int i = 0; i < draws; ++i) {
    const Column theta = random_column(random, 15);
    const Column r = p.features * theta + std::sqrt(noise) * random_column(random, 6);
    const double loss = std::pow(p.query_feature.dot(theta) - weights.dot(r), 2);
    sum += loss;
    square += loss * loss;
  }
  const double mean = sum / draws, error = std::sqrt((square / draws - mean * mean) / draws);
  EXPECT_NEAR(rule_risk(full, p.query_feature.squaredNorm(), noise, to_vector(weights)), mean, 3 * error);
  // The Bayes rule has the least risk of all.
  const Column bayes = (p.kernel + noise * Dense::Identity(6, 6)).llt().solve(p.query);
  const double least = rule_risk(full, p.query_feature.squaredNorm(), noise, to_vector(bayes));
  EXPECT_NEAR(least, p.query_feature.squaredNorm() - p.query.dot(bayes), 1e-10);
  for (int i = 0; i < 20; ++i)
    EXPECT_GT(rule_risk(full, p.query_feature.squaredNorm(), noise, to_vector(bayes + 0.1 * random_column(random, 6))),
              least);
}

TEST(Exact, SelectionIsTheBestBlockAndStepsEachTime) {
  RandomStream random(0, "exact");
  const Blocks blocks(random, 8, 5, 3);
  const Spectrum full = blocks.spectrum();
  const BlockSum sum = sum_blocks(blocks.view());
  const double rho = step_size(full, 0.5), noise = 2, norm = 40;
  const BlockPath path = exact_blocks(blocks.view(), full, norm, noise, rho, 20, 8);
  ASSERT_EQ(path.chosen.size(), 8U);
  std::vector<size_t> chosen;
  for (size_t round = 0; round < 8; ++round) {
    double best = infinity;
    size_t best_block = 0, best_steps = 0;
    for (size_t b = 0; b < 8; ++b) {
      if (std::ranges::find(chosen, b) != chosen.end()) continue;
      std::vector<size_t> set = chosen;
      set.push_back(b);
      const BlockSum part = sum_blocks(blocks.view(), set);
      const Spectrum spectrum(part.kernel);
      for (size_t t = 1; t <= 20; ++t) {
        const Dense filter = to_dense(spectrum.function(descent_filter(spectrum, rho, static_cast<double>(t))));
        const double risk = rule_risk(sum, norm, noise, to_vector(filter * to_column(part.query)));
        if (risk < best - 1e-9) best = risk, best_block = b, best_steps = t;
      }
    }
    chosen.push_back(best_block);
    EXPECT_EQ(path.chosen[round], best_block);
    EXPECT_EQ(path.steps[round], best_steps);
    EXPECT_NEAR(path.values[round], best, 1e-8);
  }
}

TEST(Blocks, MistakesAreErrors) {
  RandomStream random(0, "mistakes");
  Blocks blocks(random, 4, 3, 2);
  const Spectrum full = blocks.spectrum(), other = Spectrum(Matrix64(2, 2));
  const std::vector<size_t> absent = {4};
  HONE_EXPECT_ERROR(sum_blocks({Matrix(), Matrix()}), ErrorCode::bad_input, "there are none");
  HONE_EXPECT_ERROR(sum_blocks({blocks.kernels, Matrix(4, 2)}), ErrorCode::bad_input, "4 x 9");
  HONE_EXPECT_ERROR(sum_blocks({blocks.kernels, Matrix(3, 3)}), ErrorCode::bad_input, "queries 3 x 3");
  HONE_EXPECT_ERROR(sum_blocks(blocks.view(), absent), ErrorCode::bad_input, "block 4 of 4");
  HONE_EXPECT_ERROR(block_scores(blocks.view(), other, 1), ErrorCode::bad_input, "kernel of all blocks");
  HONE_EXPECT_ERROR(block_scores(blocks.view(), full, -1), ErrorCode::bad_input, "s²");
  const double rho = step_size(full, 0.2);
  HONE_EXPECT_ERROR(greedy_blocks(blocks.view(), full, blocks.residuals, 10 * rho, 8, 2), ErrorCode::bad_input, "ρ");
  HONE_EXPECT_ERROR(greedy_blocks(blocks.view(), full, blocks.residuals, rho, 0, 2), ErrorCode::bad_input, "steps");
  HONE_EXPECT_ERROR(greedy_blocks(blocks.view(), full, {}, rho, 8, 2), ErrorCode::bad_input, "residuals: 0");
  HONE_EXPECT_ERROR(exact_blocks(blocks.view(), full, -1, 1, rho, 8, 2), ErrorCode::bad_input, "κ_x");
  HONE_EXPECT_ERROR(exact_blocks(blocks.view(), full, 1, infinity, rho, 8, 2), ErrorCode::bad_input, "s²");
  const CancelToken cancelled;
  cancelled.cancel();
  HONE_EXPECT_ERROR(greedy_blocks(blocks.view(), full, blocks.residuals, rho, 8, 2, cancelled), ErrorCode::cancelled,
                    "");
  HONE_EXPECT_ERROR(exact_blocks(blocks.view(), full, 1, 1, rho, 8, 2, cancelled), ErrorCode::cancelled, "");
  blocks.queries.row(2)[1] = std::numeric_limits<float>::quiet_NaN();
  HONE_EXPECT_ERROR(greedy_blocks(blocks.view(), full, blocks.residuals, rho, 8, 2), ErrorCode::bad_input, "query");
  HONE_EXPECT_ERROR(top_blocks(block_scores(blocks.view(), full, 1).query, 2), ErrorCode::bad_input, "scores: value 2");
  blocks.kernels.row(1)[4] = std::numeric_limits<float>::quiet_NaN();
  HONE_EXPECT_ERROR(blocks.spectrum(), ErrorCode::bad_input, "not a finite number");
}

}  // namespace
}  // namespace hone::decide::chosen_blocks_test
