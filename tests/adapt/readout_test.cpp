// Readouts of label logits, their gradients, and the rows of the output matrix that they read.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "hone/fewshot.h"
#include "tests/expect_error.h"
#include "tests/golden.h"

namespace hone::test::readout_test {
namespace {

const std::vector<float> logits = {0.3F, -1.2F, 2.5F, 0.9F};

double value(const Readout& readout, std::vector<float> z) {
  std::vector<float> d_z(z.size());
  return readout.value(z, d_z);
}

TEST(Readout, ValuesByHand) {
  double sum = 0;
  for (const float z : logits) sum += std::exp(z);
  const double expected = (std::exp(-1.2F) * 1 + std::exp(2.5F) * 2 + std::exp(0.9F) * 3) / sum;
  EXPECT_NEAR(value(Readout::expected_value({5, 6, 7, 8}, {0, 1, 2, 3}), logits), expected, 1e-6);
  EXPECT_NEAR(value(Readout::margin(5, 6), {0.3F, -1.2F}), 1.5, 1e-6);
  EXPECT_NEAR(value(Readout::log_probability({5, 6, 7, 8}, 2), logits), 2.5 - std::log(sum), 1e-6);
}

TEST(Readout, GradientsAreSlopes) {
  for (const Readout& readout : {Readout::expected_value({5, 6, 7, 8}, {0, 0.5, -2, 3}), Readout::margin(5, 6),
                                 Readout::log_probability({5, 6, 7, 8}, 0)}) {
    std::vector<float> z(logits.begin(), logits.begin() + static_cast<ptrdiff_t>(readout.labels().size()));
    std::vector<float> d_z(z.size());
    readout.value(z, d_z);
    for (size_t j = 0; j < z.size(); ++j) {
      std::vector<float> above = z, below = z;
      above[j] += 1.0F / 128;
      below[j] -= 1.0F / 128;
      EXPECT_NEAR((value(readout, above) - value(readout, below)) * 64, static_cast<double>(d_z[j]), 1e-4);
    }
  }
}

TEST(Readout, LogitsOfAnySizeGiveFiniteValues) {
  for (const Readout& readout : {Readout::expected_value({5, 6}, {0, 1}), Readout::log_probability({5, 6}, 1)})
    for (const float z : {-1e30F, -1e4F, 1e4F, 1e30F}) {
      std::vector<float> d_z(2);
      EXPECT_TRUE(std::isfinite(readout.value(std::vector<float>{0, z}, d_z))) << z;
      EXPECT_TRUE(std::isfinite(d_z[0]) && std::isfinite(d_z[1])) << z;
    }
}

TEST(Readout, WhatSaysNothingIsRefused) {
  HONE_EXPECT_ERROR(Readout::expected_value({5}, {1}), ErrorCode::bad_input, "at least two");
  HONE_EXPECT_ERROR(Readout::expected_value({}, {}), ErrorCode::bad_input, "at least two");
  HONE_EXPECT_ERROR(Readout::expected_value({5, 6}, {1}), ErrorCode::bad_input, "1 values for 2 labels");
  HONE_EXPECT_ERROR(Readout::expected_value({5, 6, 5}, {1, 2, 3}), ErrorCode::bad_input, "same token 5");
  HONE_EXPECT_ERROR(Readout::expected_value({5, 6}, {1, std::nan("")}), ErrorCode::bad_input, "value nan");
  HONE_EXPECT_ERROR(Readout::margin(5, 5), ErrorCode::bad_input, "same token 5");
  HONE_EXPECT_ERROR(Readout::log_probability({5, 6}, 2), ErrorCode::bad_input, "label 2 of 2");
  std::vector<float> d_z(3);
  HONE_EXPECT_ERROR(Readout::margin(5, 6).value(logits, d_z), ErrorCode::bad_input, "4 logits for 2 labels");
}

TEST(LeaveOneOut, PromptsByHand) {
  const std::vector<Example> examples = {{{10, 11}, {12}}, {{20}, {21, 22}}, {{}, {30}}};
  const std::vector<Token> start = {1}, query = {40, 41};
  const std::vector<std::vector<Token>> expected = {{1, 10, 11, 12, 20, 21, 22, 30, 40, 41},
                                                    {1, 20, 21, 22, 30, 10, 11},
                                                    {1, 10, 11, 12, 30, 20},
                                                    {1, 10, 11, 12, 20, 21, 22}};
  EXPECT_EQ(leave_one_out_prompts(start, examples, query), expected);
  EXPECT_EQ(leave_one_out_prompts({}, {}, query), (std::vector<std::vector<Token>>{query}));
}

class HeadRows : public testing::TestWithParam<std::tuple<const char*, Precision>> {
 protected:
  std::shared_ptr<const Model> model =
      Model::open(tiny_model(std::get<0>(GetParam())), {.precision = std::get<1>(GetParam())});
  std::vector<Token> tokens = Golden(std::get<0>(GetParam())).list<Token>("tokens");
  std::vector<Token> labels = {9, 3, static_cast<Token>(model->config().vocabulary - 1), 0};
};

TEST_P(HeadRows, LogitsAreColumnsOfAllLogits) {
  const Sequence sequence{.tokens = tokens};
  const Matrix hidden = model->forward({&sequence, 1});
  const Matrix all = model->logits(hidden), some = model->logits(hidden, labels);
  ASSERT_EQ(some.cols(), labels.size());
  for (size_t r = 0; r < all.rows(); ++r)
    for (size_t j = 0; j < labels.size(); ++j)
      ASSERT_EQ(some.row(r)[j], all.row(r)[static_cast<size_t>(labels[j])]) << r << " " << j;
}

TEST_P(HeadRows, GradientIsThatOfAllLogits) {
  const Sequence sequence{.tokens = tokens};
  const Matrix hidden = model->forward({&sequence, 1});
  const Matrix d_some = generated_matrix(1, hidden.rows(), labels.size(), 1);
  Matrix d_all(hidden.rows(), static_cast<size_t>(model->config().vocabulary));
  for (size_t r = 0; r < d_all.rows(); ++r)
    for (size_t j = 0; j < labels.size(); ++j) d_all.row(r)[static_cast<size_t>(labels[j])] = d_some.row(r)[j];
  EXPECT_LE(relative_difference(model->head_backward(hidden, d_some, labels), model->head_backward(hidden, d_all)),
            1e-6);
}

TEST_P(HeadRows, ReadoutsOfABatchAreThoseOfItsPrompts) {
  const std::vector<std::vector<Token>> texts = {{tokens.begin(), tokens.begin() + 9},
                                                 {tokens.begin(), tokens.begin() + 4},
                                                 {tokens.begin() + 3, tokens.begin() + 8}};
  std::vector<Sequence> batch;
  for (const auto& text : texts) batch.push_back({.tokens = text});
  share_prefixes(batch);
  const std::vector<Readout> readouts = {Readout::margin(4, 7), Readout::expected_value(labels, {0, 1, 2, 3}),
                                         Readout::log_probability(labels, 2)};
  const std::vector<double> values = readout_values(*model, batch, readouts);
  EXPECT_EQ(readout_gradients(*model, batch, 0, readouts, {}), values);
  for (size_t b = 0; b < batch.size(); ++b) {
    const Sequence alone{.tokens = texts[b]};
    EXPECT_EQ(readout_values(*model, {&alone, 1}, std::span(readouts).subspan(b, 1))[0], values[b]);
    const Matrix all = model->logits(model->forward({&alone, 1}).view().row_range(texts[b].size() - 1, 1));
    std::vector<float> z;
    for (const Token label : readouts[b].labels()) z.push_back(all.row(0)[static_cast<size_t>(label)]);
    EXPECT_EQ(value(readouts[b], z), values[b]);
  }
}

TEST_P(HeadRows, WhatCannotBeReadIsRefused) {
  const std::vector<Readout> margin = {Readout::margin(3, 4)};
  const std::vector<Readout> outside = {Readout::margin(3, static_cast<Token>(model->config().vocabulary))};
  const Sequence empty, some{.tokens = tokens};
  const std::vector<Sequence> two = {some, some}, three = {some, some, some};
  HONE_EXPECT_ERROR(readout_values(*model, {&empty, 1}, margin), ErrorCode::bad_input, "sequence 0 is empty");
  HONE_EXPECT_ERROR(readout_values(*model, two, outside), ErrorCode::bad_input, "outside the vocabulary");
  HONE_EXPECT_ERROR(readout_values(*model, three, std::vector{margin[0], margin[0]}), ErrorCode::bad_input,
                    "2 readouts for 3 sequences");
  HONE_EXPECT_ERROR(readout_gradients(*model, two, -1, margin, {}), ErrorCode::bad_input, "layer -1 does not exist");
  HONE_EXPECT_ERROR(readout_gradients(*model, two, model->config().layers, margin, {}), ErrorCode::bad_input,
                    "does not exist");
  const CancelToken cancel;
  cancel.cancel();
  HONE_EXPECT_ERROR(readout_gradients(*model, two, 0, margin, {}, cancel), ErrorCode::cancelled, "");
}

INSTANTIATE_TEST_SUITE_P(Models, HeadRows,
                         testing::Combine(testing::Values("llama", "llama_untied", "qwen2", "gemma3"),
                                          testing::Values(Precision::fp32, Precision::int8)),
                         model_and_precision);

}  // namespace
}  // namespace hone::test::readout_test
