// Experts that read side by side and share lower layers must see what each would see alone.
#include <gtest/gtest.h>

#include "adapt/gradients.h"
#include "adapt/panel.h"
#include "tests/data.h"
#include "tests/expect_error.h"
#include "tests/golden.h"

namespace hone::test::panel_test {
namespace {

class Panel : public testing::TestWithParam<std::tuple<const char*, Precision>> {
 protected:
  std::string name = std::get<0>(GetParam());
  std::shared_ptr<const Model> model = Model::open(tiny_model(name), {.precision = std::get<1>(GetParam())});
  int first_layer = model->config().layers - 1;
  std::vector<Token> tokens = Golden(name).list<Token>("tokens");
  std::vector<Token> before{tokens.begin(), tokens.begin() + 13};
  std::vector<Token> text{tokens.begin() + 13, tokens.begin() + 40};
  Adapter direction = dense_direction();

  Adapter dense_direction() const {
    Adapter adapter;
    for (const MatrixKind kind : {MatrixKind::v, MatrixKind::down}) {
      const MatrixId id{first_layer, kind};
      const auto [out, in] = model->shape(id);
      adapter.dense[id] = generated_matrix(77, out, in, 0.2);
    }
    if (model->precision() == Precision::int8) adapter.quantize();
    return adapter;
  }

  // Base, two steps along the direction, the context alone, and a step that reads the context.
  ExpertPanel panel(const std::vector<size_t>& chosen = {0, 1, 2, 3, 4}) const {
    ExpertPanel result(*model, first_layer, {});
    const size_t plain = result.add_context({}), context = result.add_context(before);
    const std::vector<Expert> experts = {{"base", plain, nullptr, 0, 0.2},
                                         {"step 0", plain, &direction, 0, 0.2},
                                         {"step 1", plain, &direction, 1, 0.2},
                                         {"context", context, nullptr, 0, 0.2},
                                         {"context and step 1", context, &direction, 1, 0.2}};
    for (const size_t e : chosen) result.add_expert(experts[e]);
    return result;
  }

  // −log p of text[1…] by one plain forward pass over everything that stands before.
  std::vector<float> plain_losses(std::span<const Token> context) const {
    std::vector<Token> all = with_bos(*model, context);
    const size_t first = all.size();
    all.insert(all.end(), text.begin(), text.end());
    const Sequence sequence{all};
    const Matrix hidden = model->forward({&sequence, 1});
    return model->losses(hidden.view().row_range(first, text.size() - 1), std::span(all).subspan(first + 1));
  }
};

std::vector<float> list(std::span<const float> row) { return {row.begin(), row.end()}; }

TEST_P(Panel, BaseAndContextExpertsEqualAPlainForwardPass) {
  const Matrix losses = panel().read(text, 1);
  EXPECT_EQ(list(losses.row(0)), plain_losses({}));
  EXPECT_EQ(list(losses.row(3)), plain_losses(before));
  EXPECT_LT(largest_difference(losses.row(1), losses.row(0)), 1e-6) << "a step of size 0";
  EXPECT_GT(largest_difference(losses.row(2), losses.row(0)), 1e-3);
  EXPECT_GT(largest_difference(losses.row(4), losses.row(3)), 1e-3);
}

TEST_P(Panel, AnAdaptedExpertEqualsAForwardPassWithItsAdapterOverTheText) {
  const std::vector<Token> context = with_bos(*model, before);
  KvCache cache(*model, 0, model->config().layers);
  const Sequence read_by_base{.tokens = context, .cache = &cache};
  model->forward({&read_by_base, 1});
  const Sequence adapted{.tokens = text, .adapter = &direction, .cache = &cache};
  const Matrix hidden = model->forward({&adapted, 1});
  EXPECT_EQ(list(panel().read(text, 1).row(4)),
            model->losses(hidden.view().row_range(0, text.size() - 1), std::span(text).subspan(1)));
}

TEST_P(Panel, ReadingInPiecesChangesNothing) {
  ExpertPanel at_once = panel();
  const Matrix expected = at_once.read(text, 1);
  for (const size_t piece : {1, 2, 5, 26}) {
    ExpertPanel reader = panel();
    reader.read(std::span(text).first(1));
    for (size_t at = 1; at < text.size(); at += piece) {
      const size_t count = std::min(piece, text.size() - at);
      const Matrix losses = reader.read(std::span(text).subspan(at, count), 0);
      for (size_t e = 0; e < losses.rows(); ++e)
        for (size_t t = 0; t < count; ++t) ASSERT_EQ(losses.row(e)[t], expected.row(e)[at - 1 + t]) << piece;
    }
    EXPECT_TRUE(same_bits(reader.next_logits(), at_once.next_logits()));
  }
}

TEST_P(Panel, AnExpertDoesNotDependOnWhoReadsBesideIt) {
  const std::span<const Token> first = std::span(text).first(11), rest = std::span(text).subspan(11);
  ExpertPanel everyone = panel();
  everyone.read(first);
  const Matrix expected = everyone.read(rest, 0), expected_logits = everyone.next_logits();
  for (const std::vector<size_t>& chosen :
       {std::vector<size_t>{0}, {0, 2}, {3}, {4}, {0, 4}, {1, 3}, {2, 3, 4}, {4, 2, 0}}) {
    ExpertPanel reader = panel(chosen);
    reader.read(first);
    const Matrix losses = reader.read(rest, 0), logits = reader.next_logits();
    for (size_t k = 0; k < chosen.size(); ++k) {
      EXPECT_EQ(list(losses.row(k)), list(expected.row(chosen[k]))) << everyone.experts()[chosen[k]].name;
      EXPECT_EQ(list(logits.row(k)), list(expected_logits.row(chosen[k])));
    }
  }
}

TEST_P(Panel, AQuantizedDirectionIsCloseToTheDenseOne) {
  Adapter dense;
  for (const MatrixKind kind : {MatrixKind::v, MatrixKind::down}) {
    const MatrixId id{first_layer, kind};
    const auto [out, in] = model->shape(id);
    dense.dense[id] = generated_matrix(77, out, in, 0.2);
  }
  Adapter quantized = dense.copy();
  quantized.quantize();
  EXPECT_TRUE(quantized.dense.empty());
  EXPECT_EQ(quantized.first_layer(99), first_layer);
  ExpertPanel reader(*model, first_layer, {});
  const size_t plain = reader.add_context({});
  reader.add_expert({"base", plain, nullptr, 0, 0.4});
  reader.add_expert({"dense", plain, &dense, 1, 0.3});
  reader.add_expert({"quantized", plain, &quantized, 1, 0.3});
  const Matrix losses = reader.read(text, 1);
  const auto moved = largest_difference(losses.row(1), losses.row(0));
  EXPECT_GT(moved, 1e-3);
  EXPECT_LT(largest_difference(losses.row(2), losses.row(1)), 0.03 * moved);
}

TEST_P(Panel, ALongTextIsReadByAFewExpertsAtATime) {
  std::vector<Token> long_text;
  while (long_text.size() < 400) long_text.insert(long_text.end(), text.begin(), text.end());
  ExpertPanel everyone = panel();
  const Matrix expected = everyone.read(long_text, 1), expected_logits = everyone.next_logits();
  for (size_t e = 0; e < everyone.experts().size(); ++e) {
    ExpertPanel alone = panel({e});
    EXPECT_EQ(list(alone.read(long_text, 1).row(0)), list(expected.row(e))) << everyone.experts()[e].name;
    EXPECT_EQ(list(alone.next_logits().row(0)), list(expected_logits.row(e)));
  }
}

TEST_P(Panel, NextLogitsAreWhatTheNextLossIsMadeOf) {
  ExpertPanel reader = panel();
  reader.read(std::span(text).first(5));
  for (size_t t = 5; t < 9; ++t) {
    const Matrix logits = reader.next_logits();
    const Matrix losses = reader.read(std::span(text).subspan(t, 1), 0);
    for (size_t e = 0; e < losses.rows(); ++e) {
      double normalizer = 0;
      for (const float logit : logits.row(e)) normalizer += std::exp(static_cast<double>(logit));
      EXPECT_NEAR(losses.row(e)[0], std::log(normalizer) - logits.row(e)[static_cast<size_t>(text[t])], 1e-4);
    }
  }
}

TEST_P(Panel, TheFirstTokenNeedsSomethingBeforeIt) {
  ExpertPanel reader(*model, first_layer, {});
  reader.add_expert({"base", reader.add_context({}), nullptr, 0, 1});
  if (model->tokenizer().adds_bos()) {
    EXPECT_EQ(reader.read(text, 0).cols(), text.size());
  } else {
    HONE_EXPECT_ERROR(reader.read(text, 0), ErrorCode::bad_input, "first token");
  }
  ExpertPanel with_context(*model, first_layer, {});
  with_context.add_expert({"context", with_context.add_context(before), nullptr, 0, 1});
  const Matrix losses = with_context.read(text, 0);
  EXPECT_EQ(losses.cols(), text.size());
  const std::vector<float> expected = plain_losses(before);
  EXPECT_EQ(list(losses.row(0).subspan(1)), expected);
}

TEST_P(Panel, ReadingNothingChangesNothing) {
  ExpertPanel reader = panel();
  reader.read(text);
  const Matrix before_it = reader.next_logits();
  EXPECT_EQ(reader.read({}, 0).cols(), 0U);
  EXPECT_TRUE(same_bits(reader.next_logits(), before_it));
}

TEST_P(Panel, TooLongATextAndCancellation) {
  ExpertPanel reader = panel();
  const std::vector<Token> longest(static_cast<size_t>(model->config().context) + 1, text[0]);
  HONE_EXPECT_ERROR(reader.read(longest), ErrorCode::bad_input, "context");
  const CancelToken cancel;
  ExpertPanel cancelled(*model, first_layer, cancel);
  cancelled.add_expert({"base", cancelled.add_context({}), nullptr, 0, 1});
  cancel.cancel();
  HONE_EXPECT_ERROR(cancelled.read(text), ErrorCode::cancelled, "");
}

TEST_P(Panel, AReadingGoesOnFromWhatItsTextsHaveInCommon) {
  std::vector<Token> longer = before, other = before;
  longer.insert(longer.end(), text.begin(), text.end());
  other[7] = text[3];
  Reading reading(*model, first_layer);
  for (const std::vector<Token>& wanted : {before, longer, other, longer, {}, other, before, before}) {
    reading.read(*model, wanted, {});
    Reading fresh(*model, first_layer);
    fresh.read(*model, wanted, {});
    EXPECT_EQ(reading.tokens, with_bos(*model, wanted));
    EXPECT_EQ(reading.below.length(), reading.length());
    EXPECT_EQ(reading.above.length(), reading.length());
    EXPECT_EQ(reading.hidden_values, fresh.hidden_values);
    EXPECT_TRUE(same_bits(reading.last_hidden, fresh.last_hidden)) << wanted.size();
  }
}

TEST_P(Panel, APanelGoesOnFromWhatAnotherHasRead) {
  std::vector<Token> both = before;
  both.insert(both.end(), text.begin(), text.end());
  const std::span<const Token> next = std::span(tokens).subspan(40, 12);
  const auto reading_on = [&](std::vector<Reading> readings) {
    ExpertPanel second(*model, first_layer, {});
    second.add_context(text, std::move(readings[0]));
    second.add_context(both, std::move(readings[1]));
    second.add_expert({"base", 0, nullptr, 0, 0.5});
    second.add_expert({"context and step 1", 1, &direction, 1, 0.5});
    return second.read(next, 0);
  };
  std::vector<Reading> unread;
  for (int c = 0; c < 2; ++c) unread.emplace_back(*model, first_layer);
  const Matrix expected = reading_on(std::move(unread));
  // Everybody; the context only by an adapted expert; nobody that is not adapted.
  for (const std::vector<size_t>& chosen : {std::vector<size_t>{0, 1, 2, 3, 4}, {0, 4}, {1, 4}}) {
    ExpertPanel first = panel(chosen);
    first.read(text);
    EXPECT_TRUE(same_bits(reading_on(first.take_readings()), expected));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Panel,
                         testing::Combine(testing::Values("llama", "qwen2", "gemma3"),
                                          testing::Values(Precision::fp32, Precision::int8)),
                         model_and_precision);

TEST(RealPanel, ExpertsOfSmolLM2EqualAPlainForwardPass) {
  HONE_NEED_FILE(smollm2());
  const auto model = Model::open(smollm2(), {.precision = Precision::int8});
  const std::vector<Token> tokens = Golden("smollm2_real").list<Token>("tokens");
  const std::span<const Token> before = std::span(tokens).first(40), text = std::span(tokens).subspan(40, 24);
  ExpertPanel reader(*model, default_first_adapted_layer(*model), {});
  const size_t plain = reader.add_context({}), context = reader.add_context(before);
  reader.add_expert({"base", plain, nullptr, 0, 0.5});
  reader.add_expert({"context", context, nullptr, 0, 0.5});
  reader.read(text.first(7));
  const Matrix losses = reader.read(text.subspan(7), 0);

  const Sequence alone{text}, whole{std::span(tokens).first(64)};
  const Matrix after_nothing = model->forward({&alone, 1}), after_context = model->forward({&whole, 1});
  EXPECT_EQ(list(losses.row(0)), model->losses(after_nothing.view().row_range(6, 17), text.subspan(7)));
  EXPECT_EQ(list(losses.row(1)), model->losses(after_context.view().row_range(46, 17), text.subspan(7)));
}

}  // namespace
}  // namespace hone::test::panel_test
