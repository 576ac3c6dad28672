// Sums over a vocabulary against double precision.
#include "model/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "base/random.h"
#include "hone/base.h"

namespace hone::elementwise_test {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float no_number = std::numeric_limits<float>::quiet_NaN();

TEST(LogSumExp, TheLargestMayStandAnywhere) {
  for (size_t count = 1; count <= 70; ++count)
    for (size_t at = 0; at < count; ++at) {
      std::vector<float> x(count, 0.0F);
      x[at] = 1000;  // e^1000 has no room: it must be known beforehand
      ASSERT_EQ(log_sum_exp(x), 1000) << at << " of " << count;
      x[at] = 2;
      ASSERT_NEAR(log_sum_exp(x), std::log(static_cast<double>(count - 1) + std::exp(2.0)), 1e-5)
          << at << " of " << count;
    }
}

TEST(LogSumExp, NothingIsZeroAndWhatIsNoNumberHidesNoOther) {
  std::vector<float> x(64, -infinity);
  x[3] = 1000;
  EXPECT_EQ(log_sum_exp(x), 1000);
  for (size_t i = 16; i < 48; ++i) x[i] = no_number;
  EXPECT_EQ(log_sum_exp(x), 1000);
}

class LogMixture : public testing::Test {
 protected:
  static constexpr size_t experts = 5, vocabulary = 10'007;
  LogMixture() : x(experts, vocabulary) {
    RandomStream random(3, "mixture");
    for (float& value : std::span(x.data(), x.size())) value = -200 * static_cast<float>(random.uniform());
    for (size_t v = 0; v < vocabulary; v += 3) x.row(1)[v] = no_number;
    for (size_t v = 0; v < vocabulary; v += 5) x.row(2)[v] = -infinity;
    for (size_t v = 0; v < vocabulary; ++v) x.row(4)[v] = 0;
  }
  std::vector<float> mixed() const {
    std::vector<float> result(vocabulary);
    log_mixture(x, weights, result);
    return result;
  }
  const std::vector<double> weights = {0.02, 0.5, 0.3, 0.18, 0};
  Matrix x;
};

TEST_F(LogMixture, IsTheLogarithmOfTheWeightedSum) {
  const std::vector<float> result = mixed();
  for (size_t v = 0; v < vocabulary; ++v) {
    double p = 0;
    for (size_t e = 0; e < experts; ++e)
      if (const double value = x.row(e)[v]; !std::isnan(value)) p += weights[e] * std::exp(value);
    ASSERT_NEAR(result[v], std::log(p), 2e-5) << v;
    ASSERT_GE(result[v], std::log(weights[0]) + x.row(0)[v] - 2e-5) << v;  // what the floor promises
  }
}

TEST_F(LogMixture, ThreadsDoNotMatter) {
  const int before = threads();
  set_threads(1);
  const std::vector<float> one = mixed();
  set_threads(3);
  const std::vector<float> three = mixed();
  set_threads(before);
  EXPECT_EQ(one, three);
}

}  // namespace
}  // namespace hone::elementwise_test
