#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/random.h"
#include "hone/decide.h"

namespace hone::decide::statistics_test {
namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();

template <class Call>
void expect_bad_input(Call call) {
  try {
    call();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code, ErrorCode::bad_input) << error.message;
  }
}

std::vector<double> normal_values(RandomStream& random, size_t count, double mean, double deviation) {
  std::vector<double> values(count);
  for (double& x : values) x = mean + deviation * random.normal();
  return values;
}

TEST(Bootstrap, CoversTheTrueMeanOfNormalData) {
  constexpr size_t repetitions = 400;
  RandomStream random(0, "coverage");
  size_t covered = 0;
  for (size_t i = 0; i < repetitions; ++i) {
    const Interval interval = bootstrap_mean(normal_values(random, 60, 3, 2), i, 2000);
    covered += interval.low <= 3 && 3 <= interval.high;
  }
  EXPECT_GE(covered, repetitions * 92 / 100);
  EXPECT_LE(covered, repetitions * 97 / 100);
}

TEST(Bootstrap, WidthIsThatOfTheStandardError) {
  RandomStream random(1, "width");
  const std::vector<double> values = normal_values(random, 2000, -1, 5);
  const Interval interval = bootstrap_mean(values);
  double sum = 0;
  for (const double x : values) sum += x;
  EXPECT_NEAR(interval.mean, sum / 2000, 1e-12);
  EXPECT_NEAR(interval.high - interval.low, 2 * 1.96 * 5 / std::sqrt(2000.0), 0.03);
}

TEST(Bootstrap, SameSeedGivesTheSameBits) {
  RandomStream random(2, "values");
  const std::vector<double> values = normal_values(random, 50, 0, 1);
  const Interval first = bootstrap_mean(values, 7);
  const Interval second = bootstrap_mean(values, 7);
  const Interval other = bootstrap_mean(values, 8);
  EXPECT_EQ(first.low, second.low);
  EXPECT_EQ(first.high, second.high);
  EXPECT_EQ(first.mean, other.mean);
  EXPECT_NE(first.low, other.low);
}

TEST(Bootstrap, OneValueHasNoWidth) {
  const Interval interval = bootstrap_mean(std::vector<double>{0.3});
  EXPECT_EQ(interval.mean, 0.3);
  EXPECT_EQ(interval.low, 0.3);
  EXPECT_EQ(interval.high, 0.3);
}

// The mean of two resampled values from {0, 1} is 0, ½ or 1 with probability ¼, ½, ¼.
TEST(Bootstrap, TwoValuesReachBothEnds) {
  const Interval interval = bootstrap_mean(std::vector<double>{0, 1});
  EXPECT_EQ(interval.low, 0);
  EXPECT_EQ(interval.mean, 0.5);
  EXPECT_EQ(interval.high, 1);
}

TEST(Bootstrap, RefusesWhatHasNoMean) {
  expect_bad_input([] { bootstrap_mean({}); });
  expect_bad_input([] { bootstrap_mean(std::vector<double>{1, not_a_number}); });
  expect_bad_input([] { bootstrap_mean(std::vector<double>{1, infinite}); });
  expect_bad_input([] { bootstrap_mean(std::vector<double>{1, 2}, 0, 0); });
}

TEST(Median, OddCountIsTheMiddleValue) {
  EXPECT_EQ(median({5, -1, 3}), 3);
  EXPECT_EQ(median({4}), 4);
}

TEST(Median, EvenCountIsTheMeanOfTheTwoInTheMiddle) {
  EXPECT_EQ(median({9, 1, 4, 2}), 3);
  EXPECT_EQ(median({1e308, 1.5e308}), 1.25e308);
}

TEST(Median, RefusesWhatHasNoMedian) {
  expect_bad_input([] { median({}); });
  expect_bad_input([] { median({1, not_a_number, 2}); });
}

}  // namespace
}  // namespace hone::decide::statistics_test
