// SIFT against the published worked example and against brute force that inverts K_X + λI for every candidate.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "hone/neighbours.h"
#include "tests/expect_error.h"

namespace hone::test::sift_test {
namespace {

Matrix gaussian(size_t rows, size_t cols, uint64_t seed) {
  Matrix matrix = Matrix::uninitialized(rows, cols);
  RandomStream(seed, "pool").normals({matrix.data(), matrix.size()}, 1);
  return matrix;
}

Matrix from_values(size_t rows, size_t cols, const std::vector<float>& values) {
  Matrix matrix = Matrix::uninitialized(rows, cols);
  std::ranges::copy(values, matrix.data());
  return matrix;
}

Eigen::VectorXd as_vector(std::span<const float> row, bool normalize) {
  Eigen::VectorXd v(static_cast<Eigen::Index>(row.size()));
  for (size_t d = 0; d < row.size(); ++d) v[static_cast<Eigen::Index>(d)] = row[d];
  if (normalize && v.norm() > 0) v.normalize();
  return v;
}

// σ²_X(x*) by its definition.
double posterior_variance(const Eigen::VectorXd& query, const std::vector<Eigen::VectorXd>& chosen, double noise) {
  const auto n = static_cast<Eigen::Index>(chosen.size());
  Eigen::MatrixXd kernel(n, n);
  Eigen::VectorXd with_query(n);
  for (Eigen::Index i = 0; i < n; ++i) {
    with_query[i] = query.dot(chosen[static_cast<size_t>(i)]);
    for (Eigen::Index j = 0; j < n; ++j)
      kernel(i, j) = chosen[static_cast<size_t>(i)].dot(chosen[static_cast<size_t>(j)]) + (i == j ? noise : 0);
  }
  return query.squaredNorm() - with_query.dot(kernel.ldlt().solve(with_query));
}

// The worked example: the variance of the first point, observing the second.
TEST(Sift, TheWorkedExample) {
  const Matrix covariance = from_values(1, 1, {3});
  const std::vector<float> with_query = {0.5f};
  const SiftChoice choice = sift(1, with_query, covariance, {.count = 2, .noise = 1, .repeats = true});
  EXPECT_EQ(choice.chosen, (std::vector<size_t>{0, 0}));
  ASSERT_EQ(choice.variances.size(), 3u);
  EXPECT_DOUBLE_EQ(choice.variances[0], 1);
  EXPECT_DOUBLE_EQ(choice.variances[1], 0.9375);
  EXPECT_NEAR(choice.variances[2], 1 - 0.5 / 7, 1e-15);  // .9286
  // With the first point itself to choose from, it is observed: 1 − 1/2.
  const SiftChoice both =
      sift(1, std::vector<float>{1, 0.5f}, from_values(2, 2, {1, 0.5f, 0.5f, 3}), {.count = 1, .noise = 1});
  EXPECT_EQ(both.chosen, std::vector<size_t>{0});
  EXPECT_DOUBLE_EQ(both.variances[1], 0.5);
}

TEST(Sift, EveryChoiceIsTheBestOne) {
  for (const bool normalize : {true, false})
    for (const bool repeats : {true, false})
      for (const double noise : {0.01, 0.1, 3.0})
        for (const size_t d : {size_t{3}, size_t{12}}) {
          SCOPED_TRACE(testing::Message()
                       << "normalize " << normalize << ", repeats " << repeats << ", noise " << noise);
          const Matrix query = gaussian(1, d, 1), pool = gaussian(30, d, 2);
          const SiftOptions options{.count = 15, .noise = noise, .repeats = repeats, .normalize = normalize};
          const SiftChoice choice = sift(query.row(0), pool, options);
          ASSERT_EQ(choice.chosen.size(), 15u);
          ASSERT_EQ(choice.variances.size(), 16u);
          const Eigen::VectorXd q = as_vector(query.row(0), normalize);
          std::vector<Eigen::VectorXd> points, chosen;
          for (size_t j = 0; j < pool.rows(); ++j) points.push_back(as_vector(pool.row(j), normalize));
          EXPECT_NEAR(choice.variances[0], q.squaredNorm(), 1e-6);
          for (size_t t = 0; t < 15; ++t) {
            const size_t taken = choice.chosen[t];
            const auto before = choice.chosen.begin() + static_cast<std::ptrdiff_t>(t);
            EXPECT_TRUE(repeats || std::find(choice.chosen.begin(), before, taken) == before);
            double least = INFINITY;
            chosen.emplace_back();
            for (size_t j = 0; j < points.size(); ++j) {
              if (!repeats && std::find(choice.chosen.begin(), before, j) != before) continue;
              chosen.back() = points[j];
              least = std::min(least, posterior_variance(q, chosen, noise));
            }
            chosen.back() = points[taken];
            const double variance = posterior_variance(q, chosen, noise);
            EXPECT_NEAR(variance, least, 1e-6) << "choice " << t;
            EXPECT_NEAR(choice.variances[t + 1], variance, 1e-6) << "choice " << t;
            EXPECT_LE(choice.variances[t + 1], choice.variances[t]);
          }
        }
}

TEST(Sift, FeaturesAndTheirKernelAgree) {
  const Matrix query = gaussian(1, 9, 1), pool = gaussian(40, 9, 2);
  Matrix covariance = Matrix::uninitialized(40, 40);
  std::vector<float> with_query(40);
  const auto kernel = [](std::span<const float> a, std::span<const float> b) {
    double sum = 0;
    for (size_t d = 0; d < a.size(); ++d) sum += static_cast<double>(a[d]) * b[d];
    return sum;
  };
  for (size_t i = 0; i < 40; ++i) {
    with_query[i] = static_cast<float>(kernel(query.row(0), pool.row(i)));
    for (size_t j = 0; j < 40; ++j) covariance.row(i)[j] = static_cast<float>(kernel(pool.row(i), pool.row(j)));
  }
  const SiftOptions options{.count = 20, .noise = 0.5, .normalize = false};
  const SiftChoice a = sift(query.row(0), pool, options);
  const SiftChoice b = sift(kernel(query.row(0), query.row(0)), with_query, covariance, options);
  EXPECT_EQ(a.chosen, b.chosen);
  for (size_t t = 0; t <= 20; ++t) EXPECT_NEAR(a.variances[t], b.variances[t], 1e-5);
}

TEST(Sift, MuchNoiseChoosesBySimilarity) {
  const Matrix query = gaussian(1, 20, 1), pool = gaussian(50, 20, 2);
  const SiftChoice choice = sift(query.row(0), pool, {.count = 50, .noise = 1e9});
  std::vector<double> squares;
  for (const size_t j : choice.chosen)
    squares.push_back(std::pow(as_vector(query.row(0), true).dot(as_vector(pool.row(j), true)), 2));
  EXPECT_TRUE(std::ranges::is_sorted(squares, std::ranges::greater()));
}

TEST(Sift, CopiesOfAChosenPointArePassedOver) {
  const Matrix query = from_values(1, 3, {1, 1, 0});
  // Three copies along the first axis, somewhat nearer than the one point along the second.
  const Matrix pool = from_values(4, 3, {1, 0.1f, 0, 1, 0.1f, 0, 1, 0.1f, 0, 0, 1, 0});
  const SiftChoice choice = sift(query.row(0), pool, {.count = 2});
  EXPECT_EQ(choice.chosen, (std::vector<size_t>{0, 3}));
  // Points at right angles to the query tell nothing: the first comes first.
  const SiftChoice nothing = sift(from_values(1, 3, {0, 0, 1}).row(0), pool, {.count = 4});
  EXPECT_EQ(nothing.chosen, (std::vector<size_t>{0, 1, 2, 3}));
  EXPECT_EQ(nothing.variances.back(), 1);
}

TEST(Sift, ReChoosesAmongNeighbours) {
  const Matrix points = gaussian(2000, 16, 1), queries = gaussian(25, 16, 2);
  const Neighbours pool = NeighbourIndex::build(points).search(queries, 120);
  const SiftOptions options{.count = 30};
  const Neighbours chosen = sift(points, queries, pool, options);
  EXPECT_EQ(chosen.k, 30u);
  EXPECT_EQ(chosen.queries(), 25u);
  for (size_t q = 0; q < 25; ++q) {
    Matrix rows = Matrix::uninitialized(120, 16);
    for (size_t j = 0; j < 120; ++j)
      std::ranges::copy(points.row(static_cast<size_t>(pool.ids_of(q)[j])), rows.row(j).begin());
    const SiftChoice one = sift(queries.row(q), rows, options);
    for (size_t t = 0; t < 30; ++t) {
      EXPECT_EQ(chosen.ids_of(q)[t], pool.ids_of(q)[one.chosen[t]]);
      EXPECT_EQ(chosen.distances_of(q)[t], pool.distances_of(q)[one.chosen[t]]);
    }
  }
  Neighbours holes = pool;
  std::fill(holes.ids.begin() + 20, holes.ids.begin() + 120, -1);  // the first query has 20 neighbours
  const Neighbours fewer = sift(points, queries, holes, options);
  EXPECT_EQ(fewer.ids_of(0)[20], -1);
  EXPECT_TRUE(std::isinf(fewer.distances_of(0)[20]));
  EXPECT_GE(fewer.ids_of(0)[19], 0);
  EXPECT_TRUE(std::ranges::equal(fewer.ids_of(1), chosen.ids_of(1)));
  EXPECT_EQ(sift(points, queries, pool, {.count = 500}).k, 120u);
  EXPECT_EQ(sift(points, queries, pool, {.count = 500, .repeats = true}).k, 500u);
}

TEST(Sift, InputIsChecked) {
  const Matrix points = gaussian(10, 4, 1);
  Neighbours pool = NeighbourIndex::build(points).search(points, 5);
  HONE_EXPECT_ERROR(sift(points, points, pool, {.count = 0}), ErrorCode::bad_input, "0 points");
  HONE_EXPECT_ERROR(sift(points, points, pool, {.noise = 0}), ErrorCode::bad_input, "noise 0");
  HONE_EXPECT_ERROR(sift(points, points, pool, {.noise = NAN}), ErrorCode::bad_input, "noise nan");
  HONE_EXPECT_ERROR(sift(points, points.view().row_range(0, 3), pool, {}), ErrorCode::bad_input, "10 queries");
  HONE_EXPECT_ERROR(sift(points.row(0).first(3), points, {}), ErrorCode::bad_input, "3 values");
  HONE_EXPECT_ERROR(sift(1, std::vector<float>(3), points, {}), ErrorCode::bad_input, "pool of 3");
  HONE_EXPECT_ERROR(sift(NAN, std::vector<float>(1), Matrix(1, 1), {}), ErrorCode::bad_input, "nan");
  HONE_EXPECT_ERROR(sift(1, std::vector<float>(1), from_values(1, 1, {-1}), {}), ErrorCode::bad_input, "negative");
  pool.ids[7] = 10;
  HONE_EXPECT_ERROR(sift(points, points, pool, {}), ErrorCode::bad_input, "point 10 of 10");
  const Watch watch;
  watch.cancel.cancel();
  pool.ids[7] = 1;
  HONE_EXPECT_ERROR(sift(points, points, pool, {}, watch), ErrorCode::cancelled, "");
}

}  // namespace
}  // namespace hone::test::sift_test
