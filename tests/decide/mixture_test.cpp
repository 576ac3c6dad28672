// The promise under test: whatever the experts say, no text is longer than the base's by more than bound_bits.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <vector>

#include "base/random.h"
#include "hone/decide.h"

namespace hone::decide::mixture_test {
namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();
constexpr double log_zero = -infinite;  // log 0
constexpr Sharing sharings[] = {Sharing::bayes, Sharing::fixed_share};

double bits(double nats) { return nats / std::numbers::ln2; }

template <class Call>
void expect_bad_input(Call call) {
  try {
    call();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code, ErrorCode::bad_input) << error.message;
  }
}

// Positive and sums to 1; the larger `skew`, the more unequal.
std::vector<double> random_distribution(RandomStream& random, size_t size, double skew) {
  std::vector<double> p(size);
  for (double& x : p) x = std::exp(skew * random.normal());
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

enum class Behaviour { random, inverted, exploding, nan, never, positive, certain, near_base, changing };
constexpr size_t behaviours = 9;

// What an expert says about `token` when the base's distribution is `base`.
double adversary(Behaviour behaviour, RandomStream& random, std::span<const double> base, size_t token) {
  const double inverse = static_cast<double>(base.size()) - 1;
  switch (behaviour) {
    case Behaviour::random: return std::log(random_distribution(random, base.size(), 2)[token]);
    case Behaviour::inverted: return std::log((1 - base[token]) / inverse);
    case Behaviour::exploding: return random.below(2) == 0 ? -1e6 * random.uniform() : -1e-3;
    case Behaviour::nan: return not_a_number;
    case Behaviour::never: return log_zero;
    case Behaviour::positive: return random.below(2) == 0 ? infinite : 1e300;
    case Behaviour::certain: return 0;
    case Behaviour::near_base: return std::min(0.0, std::log(base[token]) + 0.1 * random.normal());
    case Behaviour::changing:
      return adversary(static_cast<Behaviour>(random.below(behaviours - 1)), random, base, token);
  }
  return not_a_number;
}

// The bits two code lengths differ by, and how far rounding may have moved them.
struct Excess {
  double bits = 0;
  double rounding = 1e-9;

  void add(double log_prob, double mixed) {
    bits += (log_prob - mixed) / std::numbers::ln2;
    rounding += 1e-15 * (std::abs(log_prob) + std::abs(mixed));
  }
};

void expect_no_harm(Mixture mixture, std::span<const Behaviour> others, double floor, size_t tokens, uint64_t seed) {
  constexpr size_t vocabulary_size = 6;
  RandomStream random(seed, "adversary");
  std::vector<Excess> excess(mixture.experts());
  std::vector<double> log_probs(mixture.experts());
  for (size_t t = 1; t <= tokens; ++t) {
    const std::vector<double> base = random_distribution(random, vocabulary_size, 1.5);
    const size_t token = random.below(vocabulary_size);
    log_probs[0] = random.below(50) == 0 ? -1e6 : std::log(base[token]);
    for (size_t j = 1; j < log_probs.size(); ++j) log_probs[j] = adversary(others[j - 1], random, base, token);
    const double asked = mixture.log_prob(log_probs);
    const double mixed = mixture.update(log_probs);
    ASSERT_EQ(asked, mixed);
    ASSERT_FALSE(std::isnan(mixed));
    ASSERT_LE(mixed, 0);
    const double most = floor > 0 ? std::log2(1 / floor) : infinite;
    ASSERT_LE(bits(log_probs[0] - mixed), most + 1e-9 + 1e-15 * std::abs(mixed));
    const bool check = (t & (t - 1)) == 0 || t == tokens;
    for (size_t j = 0; j < log_probs.size(); ++j) {
      excess[j].add(log_probs[j] <= 0 ? log_probs[j] : log_zero, mixed);
      if (!check || excess[j].bits == log_zero) continue;
      ASSERT_LE(excess[j].bits, mixture.bound_bits(t, j) + excess[j].rounding) << "token " << t << ", expert " << j;
    }
  }
  const std::vector<double> weights = mixture.weights();
  EXPECT_NEAR(std::accumulate(weights.begin(), weights.end(), 0.0), 1, 1e-12);
  EXPECT_EQ(mixture.updates(), tokens);
}

void expect_no_harm_for_many_priors(Sharing sharing) {
  RandomStream random(0, "priors");
  uint64_t seed = 0;
  for (size_t experts = 2; experts <= 12; ++experts)
    for (const double floor : {0.0, 0.05, 0.5})
      for (const double skew : {0.0, 1.0, 8.0})
        for (const size_t tokens : {1, 10, 1000}) {
          std::vector<Behaviour> others(experts - 1);
          for (Behaviour& b : others) b = static_cast<Behaviour>(random.below(behaviours));
          const std::vector<double> prior = random_distribution(random, experts, skew);
          SCOPED_TRACE(fmt::format("{} experts, floor {}, skew {}, {} tokens", experts, floor, skew, tokens));
          expect_no_harm(Mixture(prior, sharing, floor), others, floor, tokens, ++seed);
        }
}

TEST(NoHarm, AdversarialExpertsUnderBayes) { expect_no_harm_for_many_priors(Sharing::bayes); }

TEST(NoHarm, AdversarialExpertsUnderFixedShare) { expect_no_harm_for_many_priors(Sharing::fixed_share); }

TEST(NoHarm, EveryAdversaryAloneAgainstTheBase) {
  for (const Sharing sharing : sharings)
    for (size_t b = 0; b < behaviours; ++b) {
      SCOPED_TRACE(b);
      const Behaviour other[] = {static_cast<Behaviour>(b)};
      expect_no_harm(Mixture({0.5, 0.5}, sharing), other, 0, 5000, b);
    }
}

TEST(NoHarm, LongTexts) {
  const Behaviour others[] = {Behaviour::changing, Behaviour::exploding, Behaviour::near_base};
  for (const Sharing sharing : sharings)
    for (const double floor : {0.0, 0.1})
      expect_no_harm(Mixture({0.4, 0.3, 0.2, 0.1}, sharing, floor), others, floor, 100000, 42);
}

TEST(Bound, BayesIsReachedWhenTheBaseAloneIsRight) {
  Mixture mixture({0.25, 0.5, 0.25}, Sharing::bayes);
  double total = 0;
  for (int t = 0; t < 1000; ++t) total -= mixture.update(std::vector<double>{0, log_zero, -1e6});
  EXPECT_NEAR(bits(total), 2, 1e-12);
  EXPECT_NEAR(mixture.bound_bits(1000), 2, 1e-12);
}

TEST(Bound, BayesIsReachedAgainstAnotherExpert) {
  Mixture mixture({0.5, 0.125, 0.375}, Sharing::bayes);
  double total = 0;
  for (int t = 0; t < 1000; ++t) total -= mixture.update(std::vector<double>{-1e6, 0, not_a_number});
  EXPECT_NEAR(bits(total), 3, 1e-6);
  EXPECT_NEAR(mixture.bound_bits(1000, 1), 3, 1e-12);
}

// log2(n Β(n, w)), Β Euler's beta function, is the sum that bound_bits adds up.
double fixed_share_bits(double w, double n) {
  return bits(std::log(n) + std::lgamma(w) + std::lgamma(n) - std::lgamma(n + w));
}

TEST(Bound, FixedShareIsReachedWhenOneExpertAloneIsRight) {
  for (const size_t right : {0, 1})
    for (const double w : {0.5, 0.01, 0.999})
      for (const size_t n : {1, 2, 1000, 100000}) {
        std::vector<double> prior{1 - w, 1 - w};
        prior[right] = w;
        std::vector<double> log_probs{-1e6, log_zero};
        log_probs[right] = 0;
        Mixture mixture(prior, Sharing::fixed_share);
        double total = 0;
        for (size_t t = 0; t < n; ++t) total -= mixture.update(log_probs);
        EXPECT_NEAR(bits(total), mixture.bound_bits(n, right), 1e-9);
        EXPECT_NEAR(bits(total), fixed_share_bits(w, static_cast<double>(n)), 1e-8);
      }
}

TEST(Bound, FixedShareIsAboutSixBitsForAThousandTokens) {
  const Mixture mixture({0.5, 0.5}, Sharing::fixed_share);
  EXPECT_NEAR(mixture.bound_bits(1000), 1 + 0.5 * std::log2(std::numbers::pi * 1000 / 4), 1e-3);
  EXPECT_NEAR(mixture.bound_bits(1000), 5.8, 0.05);
}

// Every token loses the same: the other expert gives just enough to keep p_0/p at w_0^(−1/n).
TEST(Bound, BayesWithAFloorIsReached) {
  constexpr double base_prior = 0.1;
  for (const double floor : {1e-6, 0.1, 0.9})
    for (const int n : {1, 3, 50}) {
      Mixture mixture({base_prior, 1 - base_prior}, Sharing::bayes, floor);
      const double ratio = std::pow(base_prior, 1.0 / n);
      double total = 0;
      for (int t = 0; t < n; ++t) {
        const double w = std::pow(base_prior, 1 - static_cast<double>(t) / n);
        total -= mixture.update(std::vector<double>{0, std::log(std::max(0.0, (ratio - w) / (1 - w)))});
      }
      EXPECT_NEAR(bits(total), mixture.bound_bits(n), 1e-6);
    }
}

TEST(Bound, FixedShareWithAFloorIsNearlyReached) {
  Mixture mixture({0.5, 0.5}, Sharing::fixed_share, 0.05);
  double total = 0;
  for (int t = 0; t < 1000; ++t) total -= mixture.update(std::vector<double>{0, log_zero});
  EXPECT_LE(bits(total), mixture.bound_bits(1000));
  EXPECT_GE(bits(total), mixture.bound_bits(1000) - 0.03);
}

TEST(Bound, AFloorTaxesTheOtherExperts) {
  Mixture mixture({0.5, 0.5}, Sharing::bayes, 0.25);
  double total = 0;
  for (int t = 0; t < 100; ++t) total -= mixture.update(std::vector<double>{-1e6, 0});
  EXPECT_NEAR(bits(total), 1 + 100 * std::log2(1 / 0.75), 1e-9);
  EXPECT_NEAR(bits(total), mixture.bound_bits(100, 1), 1e-9);
}

TEST(Bound, GrowsWithTheTextAndNeverExceedsItsSimplerForms) {
  for (const Sharing sharing : sharings)
    for (const double floor : {1e-300, 1e-9, 0.01, 0.5, 0.999}) {
      const Mixture free({0.2, 0.8}, sharing);
      const Mixture floored({0.2, 0.8}, sharing, floor);
      double last = 0;
      for (size_t n = 1; n <= 200; ++n) {
        const double bound = floored.bound_bits(n);
        EXPECT_GE(bound, last - 1e-12);
        EXPECT_LE(bound, (1 - floor) * free.bound_bits(n) + 1e-9);
        EXPECT_LE(bound, static_cast<double>(n) * std::log2(1 / floor) + 1e-9);
        last = bound;
      }
    }
}

TEST(Bound, IsZeroWithoutTokensOrWithoutOtherExperts) {
  for (const Sharing sharing : sharings)
    for (const double floor : {0.0, 0.3}) {
      EXPECT_EQ(Mixture({0.5, 0.5}, sharing, floor).bound_bits(0), 0);
      EXPECT_EQ(Mixture({0.5, 0.5}, sharing, floor).bound_bits(0, 1), 0);
      EXPECT_NEAR(Mixture({1.0}, sharing, floor).bound_bits(1000), 0, 1e-12);
    }
}

TEST(Floor, HoldsForEveryToken) {
  for (const Sharing sharing : sharings) {
    Mixture mixture({0.001, 0.999}, sharing, 0.125);
    RandomStream random(0, "floor");
    for (int t = 0; t < 1000; ++t) {
      const double base = -20 * random.uniform();
      EXPECT_GE(mixture.update(std::vector<double>{base, t % 2 == 0 ? 0 : log_zero}), base + std::log(0.125) - 1e-12);
      EXPECT_GE(mixture.weights()[0], 0.125);
    }
  }
}

TEST(Prediction, SumsToOneOverTheVocabulary) {
  constexpr size_t vocabulary_size = 7;
  for (const Sharing sharing : sharings)
    for (const double floor : {0.0, 0.2}) {
      RandomStream random(0, "vocabulary");
      Mixture mixture({0.3, 0.3, 0.2, 0.2}, sharing, floor);
      for (int t = 0; t < 2000; ++t) {
        std::vector<std::vector<double>> experts;
        for (int j = 0; j < 4; ++j) experts.push_back(random_distribution(random, vocabulary_size, 1 + 5 * j));
        std::vector<double> log_probs(4);
        double sum = 0;
        for (size_t token = 0; token < vocabulary_size; ++token) {
          for (size_t j = 0; j < 4; ++j) log_probs[j] = std::log(experts[j][token]);
          sum += std::exp(mixture.log_prob(log_probs));
        }
        ASSERT_NEAR(sum, 1, 1e-12);
        mixture.update(log_probs);
      }
    }
}

TEST(Prediction, UsesTheWeightsItShows) {
  Mixture mixture({0.6, 0.4}, Sharing::fixed_share, 0.1);
  EXPECT_NEAR(mixture.weights()[0], 0.1 + 0.9 * 0.6, 1e-15);
  mixture.update(std::vector<double>{-3, -1});
  const std::vector<double> w = mixture.weights();
  EXPECT_NEAR(mixture.log_prob(std::vector<double>{-1, -2}), std::log(w[0] * std::exp(-1) + w[1] * std::exp(-2)),
              1e-14);
}

TEST(Prediction, FirstTokenUsesThePrior) {
  for (const Sharing sharing : sharings)
    EXPECT_NEAR(Mixture({0.25, 0.75}, sharing).update(std::vector<double>{-1, log_zero}), -1 + std::log(0.25), 1e-15);
}

// −log Σ_j w_j Π_t p_j; −1e6 a token makes every product underflow.
TEST(Bayes, EqualsTheMarginalLikelihood) {
  const std::vector<double> prior{0.1, 0.2, 0.3, 0.4};
  for (const double scale : {1.0, 1e3, 1e6}) {
    RandomStream random(0, "marginal");
    Mixture mixture(prior, Sharing::bayes);
    std::vector<long double> sums;
    for (const double w : prior) sums.push_back(std::log(static_cast<long double>(w)));
    double total = 0;
    for (int t = 0; t < 500; ++t) {
      std::vector<double> log_probs(4);
      for (double& x : log_probs) x = -scale * random.uniform();
      for (size_t j = 0; j < 4; ++j) sums[j] += log_probs[j];
      total += mixture.update(log_probs);
      const long double best = *std::max_element(sums.begin(), sums.end());
      long double rest = 0;
      for (const long double s : sums) rest += std::exp(s - best);
      const double expected = static_cast<double>(best + std::log(rest));
      ASSERT_NEAR(total, expected, 1e-12 * std::abs(expected) + 1e-12);
    }
  }
}

TEST(Bayes, ForgetsNothingThroughUnderflow) {
  Mixture mixture({0.5, 0.5}, Sharing::bayes);
  mixture.update(std::vector<double>{0, -1e6});
  EXPECT_EQ(mixture.weights()[1], 0);
  mixture.update(std::vector<double>{-1e6, 0});
  EXPECT_NEAR(mixture.weights()[1], 0.5, 1e-9);
}

TEST(Bayes, OnlyTheBaseRemainsAfterEveryOtherExpertFailed) {
  for (const double failure : {log_zero, not_a_number, infinite, 1e-3, 1e300}) {
    Mixture mixture({0.2, 0.5, 0.3}, Sharing::bayes);
    EXPECT_NEAR(mixture.update(std::vector<double>{-4, failure, failure}), -4 + std::log(0.2), 1e-12);
    EXPECT_EQ(mixture.weights(), (std::vector<double>{1, 0, 0}));
    EXPECT_EQ(mixture.update(std::vector<double>{-9, 0, 0}), -9);
  }
}

TEST(FixedShare, RecoversAfterEveryOtherExpertFailed) {
  for (const double failure : {log_zero, not_a_number, infinite, 1e-3, 1e300}) {
    Mixture mixture({0.5, 0.5}, Sharing::fixed_share);
    for (int t = 0; t < 10; ++t) mixture.update(std::vector<double>{-4, failure});
    EXPECT_NEAR(mixture.weights()[1], 0.5 / 11, 1e-12);
    for (int t = 0; t < 3; ++t) mixture.update(std::vector<double>{-4, 0});
    EXPECT_GT(mixture.weights()[1], 0.9);
  }
}

TEST(FixedShare, ASwitchCostsTheLogarithmOfThePosition) {
  constexpr size_t block_size = 50;
  const std::vector<double> prior{0.5, 0.3, 0.2};
  Mixture mixture(prior, Sharing::fixed_share);
  double total = 0;
  double expected = -std::log2(prior[0]);
  for (size_t t = 0; t < 20 * block_size; ++t) {
    const size_t right = t / block_size % 3;
    std::vector<double> log_probs{-1e6, log_zero, log_zero};
    log_probs[right] = 0;
    const double loss = -bits(mixture.update(log_probs));
    total += loss;
    if (t == 0) continue;
    const double n = static_cast<double>(t);
    const bool switched = t % block_size == 0;
    const double cost = switched ? std::log2((n + 1) / prior[right]) : -std::log2(1 - (1 - prior[right]) / (n + 1));
    expected += cost;
    ASSERT_NEAR(loss, cost, 1e-9);
  }
  EXPECT_NEAR(total, expected, 1e-9);
}

TEST(Extremes, TheLargestNumbersLeaveNoNaN) {
  constexpr double lowest_double = std::numeric_limits<double>::lowest();
  for (const Sharing sharing : sharings) {
    Mixture mixture({0.5, 0.5}, sharing, 0.1);
    for (const double other : {0.0, 0.0, log_zero, lowest_double, 0.0, not_a_number}) {
      EXPECT_FALSE(std::isnan(mixture.update(std::vector<double>{lowest_double, other})));
      const std::vector<double> w = mixture.weights();
      EXPECT_NEAR(w[0] + w[1], 1, 1e-12);
    }
  }
}

TEST(Prediction, APriorWithinToleranceIsNormalised) {
  const std::vector<double> weights = Mixture({0.5, 0.5 + 9e-10}, Sharing::bayes).weights();
  EXPECT_NEAR(weights[0] + weights[1], 1, 1e-15);
}

TEST(BadInput, Priors) {
  const std::vector<double> priors[] = {{},
                                        {0.5, 0.6},
                                        {0.5, 0.4},
                                        {1.5, -0.5},
                                        {1, 0},
                                        {0.5, not_a_number},
                                        {0.5, infinite},
                                        {infinite, log_zero},
                                        {0.5, 0.50001}};
  for (const auto& prior : priors) expect_bad_input([&] { Mixture(prior, Sharing::bayes); });
}

TEST(BadInput, Floors) {
  for (const double floor : {-1e-9, 1.0, 2.0, not_a_number, infinite})
    expect_bad_input([&] { Mixture({0.5, 0.5}, Sharing::fixed_share, floor); });
}

TEST(BadInput, LogProbsLeaveTheMixtureAsItWas) {
  Mixture mixture({0.5, 0.5}, Sharing::fixed_share);
  mixture.update(std::vector<double>{-1, -2});
  const std::vector<double> before = mixture.weights();
  const std::vector<double> inputs[] = {
      {}, {-1}, {-1, -1, -1}, {not_a_number, -1}, {log_zero, -1}, {infinite, -1}, {0.5, -1}};
  for (const auto& log_probs : inputs) {
    expect_bad_input([&] { mixture.update(log_probs); });
    expect_bad_input([&] { mixture.log_prob(log_probs); });
  }
  EXPECT_EQ(mixture.weights(), before);
  EXPECT_EQ(mixture.updates(), 1U);
}

TEST(BadInput, BoundOfAnExpertThatDoesNotExist) {
  expect_bad_input([] { Mixture({0.5, 0.5}, Sharing::bayes).bound_bits(10, 2); });
}

}  // namespace
}  // namespace hone::decide::mixture_test
