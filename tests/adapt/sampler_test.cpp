// Sampling against brute force, and how an answer's text is cut: at stop strings, never inside a UTF-8 character.
#include "adapt/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/expect_error.h"

namespace hone::sampler_test {
namespace {

const std::vector<double> probabilities = {0.3, 0.02, 0.25, 0.08, 0.2, 0.1, 0.05};

std::vector<float> log_probs() {
  std::vector<float> result;
  for (const double p : probabilities) result.push_back(static_cast<float>(std::log(p)));
  return result;
}

// What temperature, then top-k, then top-p leave of `probabilities`.
std::vector<double> brute_force(const SamplingOptions& options) {
  std::vector<double> p;
  double total = 0;
  for (const double q : probabilities) total += p.emplace_back(std::pow(q, 1 / options.temperature));
  for (double& q : p) q /= total;
  const auto keep_if = [&](auto&& keep) {
    double left = 0;
    std::vector<double> kept = p;
    for (size_t v = 0; v < p.size(); ++v) left += kept[v] = keep(v) ? p[v] : 0;
    for (double& q : kept) q /= left;
    p = kept;
  };
  const auto rank = [&](size_t v) { return std::ranges::count_if(p, [&](double q) { return q > p[v]; }); };
  if (options.top_k > 0) keep_if([&](size_t v) { return rank(v) < static_cast<ptrdiff_t>(options.top_k); });
  keep_if([&](size_t v) {
    double likelier = 0;
    for (const double q : p) likelier += q > p[v] ? q : 0;
    return likelier < options.top_p;
  });
  return p;
}

TEST(Sampler, FrequenciesAreThoseOfTheTruncatedDistribution) {
  constexpr int draws = 20000;
  for (const float temperature : {0.5F, 1.0F, 2.0F})
    for (const size_t top_k : {0, 1, 3, 6, 100})
      for (const float top_p : {1.0F, 0.9F, 0.5F, 0.01F}) {
        const SamplingOptions options{
            .temperature = temperature, .top_k = top_k, .top_p = top_p, .seed = 5, .stop = {}};
        Sampler sampler(options);
        std::vector<int> seen(probabilities.size());
        for (int i = 0; i < draws; ++i) ++seen[static_cast<size_t>(sampler.next(log_probs()))];
        const std::vector<double> expected = brute_force(options);
        for (size_t v = 0; v < seen.size(); ++v) {
          const double deviation = std::sqrt(expected[v] * (1 - expected[v]) / draws);
          EXPECT_NEAR(seen[v] / static_cast<double>(draws), expected[v], 5 * deviation + 1e-9)
              << "temperature " << temperature << ", top-k " << top_k << ", top-p " << top_p << ", token " << v;
        }
      }
}

TEST(Sampler, GreedyTakesTheFirstOfTheLikeliestAndSeedsRepeat) {
  Sampler greedy({});
  EXPECT_EQ(greedy.next(log_probs()), 0);
  EXPECT_EQ(greedy.next(std::vector<float>{-3, -1, -1}), 1);
  const auto drawn = [](uint64_t seed) {
    Sampler sampler({.temperature = 1, .seed = seed, .stop = {}});
    std::vector<Token> tokens;
    for (int i = 0; i < 50; ++i) tokens.push_back(sampler.next(log_probs()));
    return tokens;
  };
  EXPECT_EQ(drawn(1), drawn(1));
  EXPECT_NE(drawn(1), drawn(2));
}

TEST(Sampler, OptionsOutOfRange) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const float temperature : {-0.1F, nan, infinity})
    HONE_EXPECT_ERROR(Sampler({.temperature = temperature, .stop = {}}), ErrorCode::bad_input, "temperature");
  for (const float top_p : {0.0F, -0.5F, 1.01F, nan})
    HONE_EXPECT_ERROR(Sampler({.top_p = top_p, .stop = {}}), ErrorCode::bad_input, "top-p");
}

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const size_t length = byte < 0x80 ? 1 : byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC2 ? 2 : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t k = 1; k < length; ++k)
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    i += length;
  }
  return true;
}

const std::string many_scripts = "na\u00efve \u2014 \u65e5\u672c\u8a9e \U0001F30A\U0001F30A end";

// Feeds `text` in pieces of `size` bytes; what was streamed, and whether a stop string ended it.
std::pair<std::string, bool> feed(const std::string& text, size_t size, const std::vector<std::string>& stops) {
  std::string streamed;
  const std::function<void(std::string_view)> stream = [&](std::string_view piece) {
    EXPECT_TRUE(is_utf8(piece)) << "pieces of " << size;
    EXPECT_FALSE(piece.empty());
    streamed += piece;
  };
  AnswerText answer(stops, stream);
  bool stopped = false;
  for (size_t at = 0; at < text.size() && !stopped; at += size) {
    stopped = answer.add(std::string_view(text).substr(at, size));
    EXPECT_TRUE(answer.text().starts_with(streamed));
  }
  answer.finish();
  EXPECT_EQ(answer.text(), streamed);
  return {streamed, stopped};
}

TEST(AnswerText, CharactersAreStreamedWhole) {
  for (size_t size = 1; size <= many_scripts.size(); ++size)
    for (const std::vector<std::string>& stops :
         {std::vector<std::string>{}, {"absent"}, {"e\u6f22", "\U0001F30B"}, {""}})
      EXPECT_EQ(feed(many_scripts, size, stops), std::pair(many_scripts, false)) << size;
}

TEST(AnswerText, EveryStopStringEndsTheAnswerBeforeIt) {
  for (size_t from = 0; from < many_scripts.size(); ++from)
    for (size_t length : {1, 2, 4, 9}) {
      const std::string stop = many_scripts.substr(from, length);
      if (!is_utf8(stop)) continue;
      for (size_t size : {1, 2, 3, 5, 100})
        EXPECT_EQ(feed(many_scripts, size, {"absent", stop}),
                  std::pair(many_scripts.substr(0, many_scripts.find(stop)), true))
            << stop << " in pieces of " << size;
    }
}

TEST(AnswerText, BeginningsOfStopStringsAreTextIfTheyDoNotGoOn) {
  for (size_t size : {1, 2, 3, 7}) {
    EXPECT_EQ(feed("aab aaab aaa", size, {"aaaa"}), std::pair(std::string("aab aaab aaa"), false));
    EXPECT_EQ(feed("xaabaabaaab", size, {"aabaaab"}), std::pair(std::string("xaab"), true));
    EXPECT_EQ(feed("User: hi\nUse", size, {"\nUser:"}), std::pair(std::string("User: hi\nUse"), false));
  }
}

TEST(AnswerText, TheEarliestOfSeveralStopsWins) {
  EXPECT_EQ(feed("one two three", 100, {"three", "two"}), std::pair(std::string("one "), true));
  EXPECT_EQ(feed("one two three", 100, {"two three", "two"}), std::pair(std::string("one "), true));
}

}  // namespace
}  // namespace hone::sampler_test
