// Autoencoders of a language model's residual stream, and the page of their features.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/random.h"
#include "hone/data.h"
#include "hone/sae.h"
#include "tests/expect_error.h"
#include "tests/golden.h"
#include "tests/temporary_folder.h"

namespace hone::sae_model_test {
namespace {

constexpr int layers = 1;

class SaeModel : public ::testing::Test {
 protected:
  const std::shared_ptr<const Model> model = Model::open(test::tiny_model("llama"));
  std::vector<std::vector<Token>> windows;

  SaeModel() {
    RandomStream random(1, "windows");
    for (const size_t length : {7U, 1U, 12U, 30U, 2U, 19U}) {
      std::vector<Token>& window = windows.emplace_back();
      for (size_t t = 0; t < length; ++t)
        window.push_back(static_cast<Token>(random.below(static_cast<uint64_t>(model->config().vocabulary))));
    }
  }
  std::vector<Token> with_start(const std::vector<Token>& window) const {
    std::vector<Token> tokens;
    if (model->tokenizer().adds_bos()) tokens.push_back(model->tokenizer().bos());
    tokens.insert(tokens.end(), window.begin(), window.end());
    return tokens;
  }
  // All rows, window by window.
  Matrix expected() const {
    std::vector<std::vector<float>> rows;
    for (const std::vector<Token>& window : windows) {
      const std::vector<Token> tokens = with_start(window);
      const Sequence sequence{.tokens = tokens};
      const std::span<const Sequence> batch(&sequence, 1);
      const Matrix states = model->forward(batch, 0, layers, model->embed(batch));
      for (size_t p = 1; p < states.rows(); ++p) rows.emplace_back(states.row(p).begin(), states.row(p).end());
    }
    Matrix all(rows.size(), static_cast<size_t>(model->config().width));
    for (size_t i = 0; i < rows.size(); ++i) std::ranges::copy(rows[i], all.row(i).begin());
    return all;
  }
  // Features ±e_j: any row is reconstructed.
  Sae identity() const {
    const auto width = static_cast<size_t>(model->config().width);
    Sae sae = Sae::create({.inputs = width, .features = 2 * width, .active = 2 * width, .relu = true}, 0);
    sae.encoder = Matrix(2 * width, width);
    for (size_t j = 0; j < width; ++j) {
      sae.encoder.row(j)[j] = 1;
      sae.encoder.row(width + j)[j] = -1;
    }
    sae.decoder = sae.encoder.copy();
    return sae;
  }
};

TEST_F(SaeModel, StreamsTheResidualStreamOfEveryTokenOnceAnEpoch) {
  const Matrix all = expected();
  const auto batches = stream_activations(model, layers, windows, 3);
  ASSERT_EQ(batches->rows(), all.rows());
  Matrix in_order(all.rows(), all.cols()), part(5, all.cols());
  batches->read_in_order(0, in_order, {});
  EXPECT_TRUE(test::same_bits(in_order, all));
  batches->read_in_order(6, part, {});
  EXPECT_TRUE(test::same_bits(part, all.view().row_range(6, 5)));

  std::multiset<std::vector<float>> seen, wanted;
  for (size_t i = 0; i < all.rows(); ++i) wanted.emplace(all.row(i).begin(), all.row(i).end());
  Matrix epoch(all.rows(), all.cols());
  batches->read(0, epoch, {});
  for (size_t i = 0; i < epoch.rows(); ++i) seen.emplace(epoch.row(i).begin(), epoch.row(i).end());
  EXPECT_EQ(seen, wanted);
  EXPECT_FALSE(test::same_bits(epoch, all));
}

TEST_F(SaeModel, ABatchDependsOnSeedAndNumberAlone) {
  const auto one = stream_activations(model, layers, windows, 3), two = stream_activations(model, layers, windows, 3);
  Matrix a(10, one->width()), b(10, one->width());
  for (uint64_t number = 0; number < 20; ++number) one->read(number, a, {});
  two->read(19, b, {});
  EXPECT_TRUE(test::same_bits(a, b));
  stream_activations(model, layers, windows, 4)->read(19, b, {});
  EXPECT_FALSE(test::same_bits(a, b));
  EXPECT_EQ(one->identity(), two->identity());
  EXPECT_NE(one->identity(), stream_activations(model, layers + 1, windows, 3)->identity());
}

TEST_F(SaeModel, WhatReconstructsEverythingLosesNothing) {
  const SpliceEvaluation spliced = evaluate_spliced(identity(), *model, layers, windows, {});
  EXPECT_NEAR(spliced.spliced, spliced.loss, 1e-4);
  EXPECT_NEAR(spliced.recovered, 1, 1e-2);
  EXPECT_GT(std::abs(spliced.ablated - spliced.loss), 1e-3);
  double sum = 0;
  size_t tokens = 0;
  for (const std::vector<Token>& window : windows) {
    const std::vector<Token> text = with_start(window);
    if (text.size() < 3) continue;
    const Sequence sequence{.tokens = text};
    const Matrix top = model->forward({&sequence, 1});
    for (const float loss : model->losses(top.view().row_range(1, text.size() - 2), std::span(text).subspan(2))) {
      sum += loss;
      ++tokens;
    }
  }
  EXPECT_EQ(spliced.tokens, tokens);
  EXPECT_NEAR(spliced.loss, sum / static_cast<double>(tokens), 1e-5);
}

TEST_F(SaeModel, ThePageShowsFeaturesExamplesAndTokens) {
  const auto source = stream_activations(model, layers, windows, 0);
  const std::string page = feature_report(
      identity(), *source, {.title = "a <title>", .features = 5, .examples = 3, .lens = model.get()}, {});
  EXPECT_NE(page.find("a &lt;title&gt;"), std::string::npos);
  EXPECT_EQ(page.find("a <title>"), std::string::npos);
  const auto count = [&](const std::string& text) {
    size_t found = 0;
    for (size_t at = page.find(text); at != std::string::npos; at = page.find(text, at + 1)) ++found;
    return found;
  };
  EXPECT_EQ(count("<h2 "), 5U);
  EXPECT_EQ(count("more likely"), 5U);
  EXPECT_EQ(count("<li>"), 15U);
  EXPECT_EQ(count("<mark>"), 15U);
  EXPECT_EQ(page.find("http"), std::string::npos);  // nothing is fetched
}

TEST_F(SaeModel, RefusesWhatDoesNotFit) {
  HONE_EXPECT_ERROR(stream_activations(model, 0, windows, 0), ErrorCode::bad_input, "layer: 0");
  HONE_EXPECT_ERROR(stream_activations(model, model->config().layers + 1, windows, 0), ErrorCode::bad_input, "layer");
  HONE_EXPECT_ERROR(stream_activations(model, layers, {}, 0), ErrorCode::bad_input, "texts");
  std::vector<std::vector<Token>> longest = {std::vector<Token>(static_cast<size_t>(model->config().context) + 1, 1)};
  HONE_EXPECT_ERROR(stream_activations(model, layers, longest, 0), ErrorCode::bad_input, "context");
  const Sae narrow = Sae::create({.inputs = 3, .features = 8, .active = 2}, 0);
  HONE_EXPECT_ERROR(evaluate_spliced(narrow, *model, layers, windows, {}), ErrorCode::bad_input, "width");
  HONE_EXPECT_ERROR(evaluate_spliced(identity(), *model, layers, {}, {}), ErrorCode::bad_input, "texts");
}

TEST(FeatureReport, RowsOfAFileAreShownAsTheCallerLikes) {
  const test::TemporaryFolder folder;
  Matrix x(4, 2);
  for (size_t i = 0; i < 4; ++i) x.row(i)[i % 2] = static_cast<float>(i + 1);
  write_npy(folder.path() / "x.npy", x);
  const auto source = open_activations(folder.path() / "x.npy", 0);
  const Sae sae = Sae::create({.inputs = 2, .features = 4, .active = 1, .unit_inputs = false}, 0);
  EXPECT_NE(feature_report(sae, *source, {}, {}).find("<mark>row 3</mark>"), std::string::npos);
  const auto show = [](size_t row) { return "<b>" + std::to_string(row) + "</b>"; };
  EXPECT_NE(feature_report(sae, *source, {.title = "", .show = show}, {}).find("<b>3</b>"), std::string::npos);
}

TEST(SaeInputs, RowsOfDenormalsHaveLengthOneToo) {
  const Sae sae = Sae::create({.inputs = 2, .features = 4, .active = 1}, 0);
  Matrix x(1, 2);
  x.row(0)[0] = 1e-40F;
  const Matrix inputs = sae.inputs(x);
  EXPECT_NEAR(inputs.row(0)[0], 1, 1e-6);
  EXPECT_EQ(inputs.row(0)[1], 0);
}

TEST(EscapeHtml, LeavesNothingToTheBrowser) {
  EXPECT_EQ(escape_html("<a href=\"x\">&'é"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;é");
  EXPECT_EQ(escape_html("\xC3<\xFF"), "\uFFFD&lt;\uFFFD");
}

TEST(ImageHtml, IsABitmapOfThePixels) {
  // 2 × 1 pixels: 1078 bytes of headers and palette, one row of 4.
  const std::string html = image_html(std::vector<float>{0, 255}, 2, 1);
  const std::string start = "<img alt=\"\" src=\"data:image/bmp;base64,";
  ASSERT_TRUE(html.starts_with(start));
  const std::string coded = html.substr(start.size(), html.size() - start.size() - 2);
  EXPECT_TRUE(coded.starts_with("Qk06BAAA"));         // "BM", 1082 bytes
  EXPECT_TRUE(coded.ends_with("AAD/AAA=")) << coded;  // the row: 0, 255, and two bytes of padding
  EXPECT_EQ(coded.size(), (1082 + 2) / 3 * 4U);
  HONE_EXPECT_ERROR(image_html(std::vector<float>{0, 255}, 2, 2), ErrorCode::bad_input, "width times height");
}

}  // namespace
}  // namespace hone::sae_model_test
