// Named random streams: what is drawn in bulk and by several threads must be what the stream says.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/random.h"
#include "hone/base.h"

namespace hone {
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

}  // namespace
}  // namespace hone
