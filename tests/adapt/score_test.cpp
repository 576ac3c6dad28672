// Every token of a text is scored once, by the window that ScoreOptions promises, whatever window and stride are.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "base/files.h"
#include "hone/adapt.h"
#include "tests/data.h"
#include "tests/expect_error.h"
#include "tests/golden.h"

namespace hone::test::score_test {
namespace {

const std::string text =
    "The harbour wakes before the town does. Gulls quarrel over the first boat, and the ice man counts his blocks "
    "twice. By seven the quay smells of diesel, rope and coffee; by nine nobody remembers that it was ever quiet.";

// −log2 p(tokens[at] | BOS?, tokens[begin, at)), one forward pass for each token.
double bits_at(const Model& model, std::span<const Token> tokens, size_t begin, size_t at, bool bos) {
  std::vector<Token> before(tokens.begin() + static_cast<ptrdiff_t>(begin),
                            tokens.begin() + static_cast<ptrdiff_t>(at));
  if (bos) before.insert(before.begin(), model.tokenizer().bos());
  const Sequence sequence{before};
  const Matrix hidden = model.forward({&sequence, 1});
  return model.losses(hidden.view().row_range(before.size() - 1, 1), tokens.subspan(at, 1))[0] / std::numbers::ln2;
}

class Score : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Model> model = Model::open(tiny_model(GetParam()));
  bool bos = model->tokenizer().adds_bos();
  std::vector<Token> tokens = model->tokenizer().encode(text);

  size_t bytes_from(size_t first) const {
    size_t bytes = 0;
    for (size_t t = first; t < tokens.size(); ++t) bytes += model->tokenizer().piece(tokens[t]).size();
    return bytes;
  }
};

TEST_P(Score, EachTokenCountsOnceInTheFirstWindowThatHoldsIt) {
  std::vector<double> expected;
  for (const auto& [window, stride] : {std::pair<size_t, size_t>{300, 150}, {60, 30}, {60, 59}, {61, 7}, {40, 1}}) {
    double bits = 0;
    for (size_t t = bos ? 0 : 1; t < tokens.size(); ++t) {
      size_t begin = 0;
      while (begin + window <= t) begin += stride;
      bits += bits_at(*model, tokens, begin, t, bos);
    }
    const TextScore scored = score(*model, text, {.window = window, .stride = stride});
    EXPECT_EQ(scored.tokens, tokens.size() - (bos ? 0 : 1)) << window << '/' << stride;
    EXPECT_EQ(scored.bytes, bytes_from(bos ? 0 : 1));
    EXPECT_NEAR(scored.bits, bits, 1e-3) << window << '/' << stride;
    EXPECT_NEAR(scored.bits_per_byte(), bits / static_cast<double>(scored.bytes), 1e-5);
    EXPECT_NEAR(scored.perplexity(), std::exp2(bits / static_cast<double>(scored.tokens)), 1e-2);
  }
}

TEST_P(Score, WindowsSideBySideNeedBos) {
  const ScoreOptions side_by_side{.window = 50, .stride = 50};
  if (!bos) {
    HONE_EXPECT_ERROR(score(*model, text, side_by_side), ErrorCode::bad_input, "stride");
    return;
  }
  double bits = 0;
  for (size_t t = 0; t < tokens.size(); ++t) bits += bits_at(*model, tokens, t / 50 * 50, t, bos);
  EXPECT_NEAR(score(*model, text, side_by_side).bits, bits, 1e-3);
}

TEST_P(Score, SecondHalvesCountAsLlamaCppDoes) {
  constexpr size_t window = 50;
  double bits = 0;
  size_t count = 0;
  for (size_t begin = 0; begin + window <= tokens.size(); begin += window) {
    std::vector<Token> seen(tokens.begin() + static_cast<ptrdiff_t>(begin),
                            tokens.begin() + static_cast<ptrdiff_t>(begin + window));
    if (bos) seen[0] = model->tokenizer().bos();
    for (size_t t = window / 2 + 1; t < window; ++t, ++count) bits += bits_at(*model, seen, 0, t, false);
  }
  const TextScore scored = score(*model, text, {.window = window, .stride = 7, .second_halves = true});
  EXPECT_EQ(scored.tokens, count);
  EXPECT_NEAR(scored.bits, bits, 1e-3);
  EXPECT_EQ(score(*model, text, {.window = window, .second_halves = true, .max_windows = 1}).tokens,
            window - window / 2 - 1);
}

TEST_P(Score, ShortTextsAndMisfits) {
  for (const ScoreOptions& options :
       {ScoreOptions{.window = 1, .stride = 1}, ScoreOptions{.window = 64, .stride = 0},
        ScoreOptions{.window = 64, .stride = 65}, ScoreOptions{.window = 513, .stride = 64},
        ScoreOptions{.window = 2, .second_halves = true}})
    EXPECT_THROW(score(*model, text, options), Error) << options.window << '/' << options.stride;
  HONE_EXPECT_ERROR(score(*model, "", {}), ErrorCode::bad_input, "needs at least");
  HONE_EXPECT_ERROR(score(*model, "short", {.second_halves = true}), ErrorCode::bad_input, "needs at least 512");
  const std::string shortest = model->tokenizer().decode(std::span(tokens).first(bos ? 1 : 2));
  EXPECT_EQ(score(*model, shortest, {}).tokens, 1U);
  EXPECT_EQ(score(*model, text, {.window = 30, .stride = 15, .max_windows = 2}).tokens, bos ? 45U : 44U);
}

TEST_P(Score, AWindowAsLongAsTheContextHasRoomForBos) {
  std::string longer;
  while (model->tokenizer().encode(longer).size() < 600) longer += text;
  const size_t count = model->tokenizer().encode(longer).size(), context = static_cast<size_t>(model->config().context);
  EXPECT_EQ(score(*model, longer, {.window = context}).tokens, bos ? count : count - 1);
  if (bos)
    HONE_EXPECT_ERROR(score(*model, longer, {.window = context, .stride = context}), ErrorCode::bad_input, "stride");
}

TEST_P(Score, CanBeCancelled) {
  const Watch watch{.progress = {}, .cancel = {}};
  watch.cancel.cancel();
  HONE_EXPECT_ERROR(score(*model, text, {}, watch), ErrorCode::cancelled, "");
}

// llama.cpp, which quantises activations, says 29.39, plain torch in fp32 29.25.
TEST(ScoreOfWikitext, SlowRealPerplexityIsLlamaCpps) {
  HONE_NEED_FILE(smollm2());
  const std::filesystem::path file = data_directory() / "wikitext2" / "wiki.test.raw";
  HONE_NEED_FILE(file);
  const std::string wikitext = read_file(file);
  const ScoreOptions options{.window = 512, .second_halves = true, .max_windows = 16};
  const auto measured = [&](Precision precision) {
    return score(*Model::open(smollm2(), {.precision = precision}), wikitext, options);
  };
  const TextScore exact = measured(Precision::fp32), fast = measured(Precision::int8);
  EXPECT_NEAR(exact.perplexity() / 29.25, 1, 1e-3);
  EXPECT_NEAR(exact.perplexity() / 29.39, 1, 0.01);
  EXPECT_NEAR(fast.bits / exact.bits, 1, 0.01);
}

INSTANTIATE_TEST_SUITE_P(Models, Score, testing::Values("llama", "gemma3"));

}  // namespace
}  // namespace hone::test::score_test
