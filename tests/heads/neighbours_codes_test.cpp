// What products of bytes leave of the points holds the nearest, whatever the points look like, and not much else.
#include "heads/neighbours_codes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"
#include "tests/expect_error.h"
#include "tests/gaussian.h"

namespace hone::test::neighbours_codes_test {
namespace {

Matrix scaled(Matrix matrix, float factor, float shift) {
  for (size_t i = 0; i < matrix.size(); ++i) matrix.data()[i] = matrix.data()[i] * factor + shift;
  return matrix;
}

// A column a thousand times as wide as the others.
Matrix with_a_wide_column(Matrix matrix) {
  for (size_t i = 0; i < matrix.rows(); ++i) matrix.row(i)[3] *= 1000;
  return matrix;
}

// Lengths between e^-6 and e^6.
Matrix with_wide_lengths(Matrix matrix) {
  RandomStream random(1, "lengths");
  for (size_t i = 0; i < matrix.rows(); ++i) {
    const auto factor = static_cast<float>(std::exp(12 * random.uniform() - 6));
    for (float& value : matrix.row(i)) value *= factor;
  }
  return matrix;
}

Matrix rounded(Matrix matrix) {
  for (size_t i = 0; i < matrix.size(); ++i) matrix.data()[i] = std::round(matrix.data()[i]);
  return matrix;
}

// −1, 0 and 1 times a number that is not a float, as many of each sign: bytes lose next to nothing, rounding to float
// is what makes equal distances differ.
Matrix of_three_values(Matrix matrix) {
  for (size_t i = 0; i < matrix.rows(); ++i)
    for (size_t j = 0; j < matrix.cols(); ++j) {
      float& value = matrix.row(i)[j];
      value = i % 2 == 0 ? 0.1f * std::clamp(std::round(value), -1.0f, 1.0f) : -matrix.row(i - 1)[j];
    }
  return matrix;
}

// In runs of 500 around one place each.
Matrix in_runs(Matrix matrix) {
  const Matrix places = gaussian(matrix.rows() / 500 + 1, matrix.cols(), "places");
  for (size_t i = 0; i < matrix.rows(); ++i)
    for (size_t j = 0; j < matrix.cols(); ++j) matrix.row(i)[j] = 0.05f * matrix.row(i)[j] + places.row(i / 500)[j];
  return matrix;
}

Matrix at_length_one(Matrix matrix) {
  for (size_t i = 0; i < matrix.rows(); ++i) {
    double square = 0;
    for (const float value : matrix.row(i)) square += static_cast<double>(value) * value;
    for (float& value : matrix.row(i)) value = static_cast<float>(value / std::sqrt(square));
  }
  return matrix;
}

// Plain pointers: sanitizer builds compile tests without optimisation, and this is called ten million times.
float distance(std::span<const float> a, std::span<const float> b, Metric metric) {
  const float *x = a.data(), *y = b.data(), *end = x + a.size();
  double sum = 0;
  if (metric == Metric::cosine) {
    for (; x != end; ++x, ++y) sum += static_cast<double>(*x) * *y;
    return static_cast<float>(std::max(0.0, 1 - sum));
  }
  for (; x != end; ++x, ++y) {
    const double difference = static_cast<double>(*x) - *y;
    sum += difference * difference;
  }
  return static_cast<float>(sum);
}

std::vector<uint32_t> nearest(ConstMatrixView points, std::span<const float> query, size_t k, Metric metric) {
  std::vector<std::pair<float, uint32_t>> all(points.rows);
  for (uint32_t i = 0; i < points.rows; ++i) all[i] = {distance(query, points.row(i), metric), i};
  std::ranges::partial_sort(all, all.begin() + static_cast<std::ptrdiff_t>(k));
  std::vector<uint32_t> ids;
  for (size_t i = 0; i < k; ++i) ids.push_back(all[i].second);
  return ids;
}

struct Case {
  const char* name;
  Matrix points, queries;
  Metric metric = Metric::l2;
  size_t decided = 0;  // at least so many of the queries have candidates at all
};

std::vector<Case> cases() {
  constexpr size_t n = 6002, d = 27, asked = 133;
  const auto points = [] { return gaussian(n, d, "points"); };
  const auto queries = [] { return gaussian(asked, d, "queries"); };
  std::vector<Case> all;
  all.push_back({"Gaussian", points(), queries(), Metric::l2, asked});
  all.push_back({"FarFromTheOrigin", scaled(points(), 1, 1000), scaled(queries(), 1, 1000), Metric::l2, asked});
  all.push_back({"Tiny", scaled(points(), 1e-18f, 0), scaled(queries(), 1e-18f, 0), Metric::l2, 0});
  all.push_back({"Huge", scaled(points(), 1e14f, 0), scaled(queries(), 1e14f, 0), Metric::l2, asked});
  all.push_back({"QueriesFarAway", points(), scaled(queries(), 300, 0), Metric::l2, 0});
  all.push_back({"OneWideColumn", with_a_wide_column(points()), with_a_wide_column(queries()), Metric::l2, 0});
  all.push_back({"WideLengths", with_wide_lengths(points()), with_wide_lengths(queries()), Metric::l2, 0});
  all.push_back({"Lattice", rounded(points()), rounded(queries()), Metric::l2, asked / 2});
  all.push_back({"ThreeValues", of_three_values(points()), of_three_values(queries()), Metric::l2, asked / 2});
  all.push_back({"InRuns", in_runs(points()), in_runs(queries()), Metric::l2, asked / 2});
  all.push_back({"AllEqual", Matrix(n, d), queries(), Metric::l2, 0});
  all.push_back({"Cosine", at_length_one(points()), at_length_one(queries()), Metric::cosine, asked});
  all.push_back(
      {"CosineInRuns", at_length_one(in_runs(points())), at_length_one(in_runs(queries())), Metric::cosine, asked / 2});
  return all;
}

class CodedPointsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!CodedPoints::supported()) GTEST_SKIP() << "this processor has no products of bytes";
  }
};

TEST_F(CodedPointsTest, CandidatesHoldTheNearest) {
  for (const Case& some : cases()) {
    const CodedPoints coded(some.points, some.metric);
    std::vector<std::vector<uint32_t>> order;  // each query's nearest, nearest first
    for (size_t q = 0; q < some.queries.rows(); ++q)
      order.push_back(nearest(some.points, some.queries.row(q), 150, some.metric));
    for (const size_t count : {size_t{1}, size_t{3}, some.queries.rows()})
      for (const size_t k : {size_t{1}, size_t{20}, size_t{150}}) {
        SCOPED_TRACE(testing::Message() << some.name << ", " << count << " queries, k " << k);
        constexpr size_t most = 2000;
        const auto candidates = coded.candidates(some.queries.view().row_range(0, count), k, most, {});
        ASSERT_EQ(candidates.size(), count);
        size_t decided = 0;
        for (size_t q = 0; q < count; ++q) {
          std::vector<uint32_t> ids = candidates[q];
          if (ids.empty()) continue;
          ++decided;
          EXPECT_LE(ids.size(), most);
          std::ranges::sort(ids);
          EXPECT_EQ(std::ranges::adjacent_find(ids), ids.end());
          std::vector<uint32_t> near(order[q].begin(), order[q].begin() + static_cast<std::ptrdiff_t>(k));
          std::ranges::sort(near);
          EXPECT_TRUE(std::ranges::includes(ids, near)) << "query " << q;
        }
        EXPECT_GE(decided, count == some.queries.rows() ? some.decided : 0);
      }
  }
}

TEST_F(CodedPointsTest, MostPointsAreRuledOut) {
  const Matrix points = gaussian(20000, 64, "points"), queries = gaussian(64, 64, "queries");
  size_t left = 0;
  for (const auto& candidates : CodedPoints(points, Metric::l2).candidates(queries, 50, 5000, {})) {
    EXPECT_FALSE(candidates.empty());
    left += candidates.size();
  }
  EXPECT_LT(left, 64u * 200);
}

// Points of one place cannot be told apart: more are left than may be.
TEST_F(CodedPointsTest, GivesUpWhereTooManyAreLeft) {
  Matrix points = gaussian(9000, 16, "points");
  for (size_t i = 0; i < 5000; ++i) std::ranges::fill(points.row(i), 0.5f);
  Matrix queries(200, 16);
  for (size_t i = 0; i < queries.size(); ++i) queries.data()[i] = 0.5f;
  const CodedPoints coded(points, Metric::l2);
  for (const size_t count : {size_t{1}, size_t{5}, size_t{200}}) {
    const auto candidates = coded.candidates(queries.view().row_range(0, count), 30, 1000, {});
    EXPECT_TRUE(std::ranges::all_of(candidates, [](const auto& ids) { return ids.empty(); }));
  }
}

TEST_F(CodedPointsTest, Cancelled) {
  const Matrix points = gaussian(5000, 8, "points");
  const Watch watch;
  watch.cancel.cancel();
  HONE_EXPECT_ERROR(CodedPoints(points, Metric::l2).candidates(points, 3, 100, watch), ErrorCode::cancelled, "");
}

}  // namespace
}  // namespace hone::test::neighbours_codes_test
