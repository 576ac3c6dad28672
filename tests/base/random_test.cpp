// Named random streams: what is drawn in bulk and by several threads must be what the stream says.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <vector>

#include "base/random.h"
#include "hone/base.h"

namespace hone::random_test {
namespace {

std::vector<float> normals(size_t count, float deviation, uint64_t seed = 3) {
  std::vector<float> values(count);
  RandomStream(seed, "normals").normals(values, deviation);
  return values;
}

TEST(RandomStream, NormalsHaveTheMomentsOfANormalDistribution) {
  constexpr size_t count = 200000;
  double sum = 0, squares = 0, fourth = 0, neighbours = 0;
  const std::vector<float> values = normals(count, 2);
  for (size_t i = 0; i < count; ++i) {
    const double z = values[i] / 2;
    sum += z;
    squares += z * z;
    fourth += z * z * z * z;
    if (i % 2 == 1) neighbours += z * values[i - 1] / 2;
  }
  const double n = count, error = 1 / std::sqrt(n);
  EXPECT_NEAR(sum / n, 0, 4 * error);
  EXPECT_NEAR(squares / n, 1, 4 * std::sqrt(2.0) * error);
  EXPECT_NEAR(fourth / n, 3, 4 * std::sqrt(96.0) * error);
  EXPECT_NEAR(neighbours / (n / 2), 0, 4 * std::sqrt(2.0) * error) << "the two values of a pair";
}

TEST(RandomStream, NormalsDoNotDependOnThreadsOrOnHowManyFollow) {
  const int before = threads();
  set_threads(1);
  const std::vector<float> one = normals(9999, 1);
  set_threads(3);
  const std::vector<float> three = normals(9999, 1);
  set_threads(before);
  EXPECT_EQ(one, three);
  const std::vector<float> longer = normals(20000, 1);
  EXPECT_TRUE(std::equal(one.begin(), one.end(), longer.begin()));
  EXPECT_NE(one, normals(9999, 1, 4));
}

TEST(RandomStream, NormalsMoveTheStreamOn) {
  RandomStream stream(3, "normals"), other(3, "normals");
  std::vector<float> first(10), second(10), odd(9);
  stream.normals(first, 1);
  stream.normals(second, 1);
  EXPECT_NE(first, second);
  other.normals(odd, 1);
  EXPECT_TRUE(std::equal(odd.begin(), odd.end(), first.begin()));
  EXPECT_NE(stream.next(), other.next());
}

TEST(RandomStream, ShufflesAsItAlwaysHas) {
  RandomStream stream(5, "order"), same(5, "order");
  std::vector<int> values(50), expected(50);
  std::iota(values.begin(), values.end(), 0);
  std::iota(expected.begin(), expected.end(), 0);
  stream.shuffle(std::span(values));
  for (size_t i = 50; i > 1; --i) std::swap(expected[i - 1], expected[same.below(i)]);
  EXPECT_EQ(values, expected);
  EXPECT_EQ(stream.next(), same.next());
  std::ranges::sort(values);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(values[static_cast<size_t>(i)], i);
}

TEST(RandomStream, DrawsAsItAlwaysHas) {
  RandomStream stream(5, "order"), same(5, "order");
  std::vector<size_t> expected(50);
  std::iota(expected.begin(), expected.end(), size_t{0});
  for (size_t i = 0; i < 20; ++i) std::swap(expected[i], expected[i + same.below(50 - i)]);
  expected.resize(20);
  EXPECT_EQ(stream.draw(50, 20), expected);
  EXPECT_EQ(stream.next(), same.next());
  std::vector<size_t> all = RandomStream(5, "order").draw(50, 50);
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), all.begin()));
  std::ranges::sort(all);
  for (size_t i = 0; i < 50; ++i) EXPECT_EQ(all[i], i);
  EXPECT_TRUE(stream.draw(50, 0).empty());
  EXPECT_TRUE(stream.draw(0, 0).empty());
}

TEST(RandomStream, EveryOrderIsAsLikely) {
  constexpr int repeats = 24000;
  RandomStream stream(5, "orders");
  std::map<std::vector<size_t>, int> drawn, shuffled;
  for (int i = 0; i < repeats; ++i) {
    ++drawn[stream.draw(4, 4)];
    std::vector<size_t> values = {0, 1, 2, 3};
    stream.shuffle(std::span(values));
    ++shuffled[values];
  }
  for (const auto* counts : {&drawn, &shuffled}) {
    EXPECT_EQ(counts->size(), 24U);
    for (const auto& [order, count] : *counts) EXPECT_NEAR(count, repeats / 24, 5 * std::sqrt(repeats / 24.0));
  }
}

}  // namespace
}  // namespace hone::random_test
