// hone against plain torch (tests/golden): logits, losses, gradients and optimiser steps on the same weights.
#include <gtest/gtest.h>

#include "hone/adapt.h"
#include "hone/model.h"
#include "model/elementwise.h"
#include "model/gguf.h"
#include "tests/data.h"
#include "tests/golden.h"

namespace hone::test::parity_test {
namespace {

TEST(QuantizationParity, EveryTensorTypeReadsAsInTheReference) {
  const Golden golden("quantization");
  const Gguf file = Gguf::open(tiny_model("quantization"));
  ASSERT_EQ(file.tensors().size(), golden.names().size());
  for (const GgufTensor& tensor : file.tensors()) {
    Matrix values = Matrix::uninitialized(tensor.rows(), tensor.cols());
    dequantize(tensor.type, tensor.bytes, {values.data(), values.size()});
    EXPECT_LE(largest_difference(values, golden.matrix(tensor.name)), 1e-5) << tensor.name;
  }
}

class ActivationParity : public testing::TestWithParam<std::pair<Activation, const char*>> {};

TEST_P(ActivationParity, ValuesAndSlopesOverEightDecades) {
  const auto [activation, name] = GetParam();
  const Golden golden("activation");
  const Matrix x = golden.matrix("x"), slope = golden.matrix(name + std::string("_slope"));
  Matrix value = golden.matrix(name);
  Matrix ones(1, x.cols()), y(1, x.cols()), d_gate(1, x.cols()), d_up(1, x.cols());
  std::ranges::fill(ones.row(0), 1.0F);
  gate(activation, x, ones, y);
  gate_backward(activation, x, ones, ones, d_gate, d_up);
  // Values are compared as parts of max(1, |x|), of which they are at most 1.
  for (size_t i = 0; i < x.cols(); ++i) {
    for (Matrix* values : {&y, &d_up, &value}) values->data()[i] /= std::max(1.0F, std::abs(x.data()[i]));
  }
  EXPECT_LE(largest_difference(y, value), 1e-6);
  EXPECT_LE(largest_difference(d_up, value), 1e-6);
  EXPECT_LE(largest_difference(d_gate, slope), 2e-6);
}

INSTANTIATE_TEST_SUITE_P(Gates, ActivationParity,
                         testing::Values(std::pair(Activation::silu, "silu"), std::pair(Activation::gelu_tanh, "gelu")),
                         [](const auto& parameter) { return std::string(parameter.param.second); });

float log_normalizer(std::span<const float> logits) {
  const double largest = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return static_cast<float>(largest + std::log(sum));
}

// The loss before the first of ten Adam steps and after each.
std::vector<double> adam_losses(const Model& model, std::span<const Sequence> batch, Adapter& adapter, const Loss& loss,
                                float learning_rate) {
  Adam adam(learning_rate);
  std::vector<double> curve;
  for (int i = 0; i < 10; ++i) {
    LoraSink sink(adapter);
    GradientSink* const sinks[] = {&sink};
    curve.push_back(loss.backward(model, batch, sinks));
    adam.step(adapter, sink.gradients());
  }
  curve.push_back(loss.value(model, batch));
  return curve;
}

void expect_same_curve(const std::vector<double>& curve, const std::vector<float>& golden) {
  ASSERT_EQ(curve.size(), golden.size());
  for (size_t i = 0; i < curve.size(); ++i) EXPECT_NEAR(curve[i] / golden[i], 1, 1e-4) << "after step " << i;
}

class TinyParity : public testing::TestWithParam<const char*> {
 protected:
  Golden golden{GetParam()};
  std::shared_ptr<const Model> model = Model::open(tiny_model(GetParam()));
  std::vector<Token> tokens = golden.list<Token>("tokens");
  std::vector<size_t> lengths = golden.list<size_t>("lengths");
  Loss loss = Loss::from(golden);

  Adapter golden_lora() const {
    Adapter adapter;
    for (const MatrixId id : all_matrices(*model)) {
      adapter.low_rank[id] = {golden.matrix("lora." + name(id) + ".a"), golden.matrix("lora." + name(id) + ".b")};
    }
    return adapter;
  }
};

TEST_P(TinyParity, LogitsAndLosses) {
  const std::vector<Sequence> batch = pack(tokens, lengths);
  EXPECT_LE(largest_difference(model->logits(model->forward(batch)), golden.matrix("logits")), 1e-4);
  EXPECT_LE(largest_difference(loss.each(*model, batch), golden.list<float>("losses")), 1e-4);
}

TEST_P(TinyParity, LogitsOfAWholeContext) {
  const auto context = golden.list<Token>("context.tokens");
  ASSERT_EQ(context.size(), 512U);
  const Matrix logits = model->logits(model->forward(std::vector<Sequence>{{.tokens = context}}));
  const Matrix expected = golden.matrix("context.logits");
  for (size_t r = 0; r < expected.rows(); ++r)
    EXPECT_LE(largest_difference(logits.row(32 * r + 31), expected.row(r)), 1e-4) << "row " << 32 * r + 31;
  std::vector<float> log_normalizers;
  for (size_t r = 0; r < logits.rows(); ++r) log_normalizers.push_back(log_normalizer(logits.row(r)));
  EXPECT_LE(largest_difference(log_normalizers, golden.list<float>("context.log_normalizers")), 1e-4);
}

TEST_P(TinyParity, LogitsAndLossesWithLora) {
  const Adapter adapter = golden_lora();
  const std::vector<Sequence> batch = pack(tokens, lengths, &adapter);
  EXPECT_LE(largest_difference(model->logits(model->forward(batch)), golden.matrix("lora_logits")), 1e-4);
  EXPECT_LE(largest_difference(loss.each(*model, batch), golden.list<float>("lora_losses")), 1e-4);
}

TEST_P(TinyParity, LoraAndWeightGradients) {
  const Adapter adapter = golden_lora();
  LoraSink lora(adapter);
  WeightGradientSink weights;
  GradientSink* const sinks[] = {&lora, &weights};
  loss.backward(*model, pack(tokens, lengths, &adapter), sinks);
  ASSERT_EQ(lora.gradients().size(), adapter.low_rank.size());
  for (const auto& [id, gradient] : lora.gradients()) {
    EXPECT_LE(relative_difference(gradient.a, golden.matrix("gradient." + name(id) + ".a")), 1e-3) << name(id);
    EXPECT_LE(relative_difference(gradient.b, golden.matrix("gradient." + name(id) + ".b")), 1e-3) << name(id);
  }
  ASSERT_EQ(weights.gradients().size(), adapter.low_rank.size());
  for (int kind = 0; kind < matrix_kinds; ++kind) {
    const MatrixId id{1, static_cast<MatrixKind>(kind)};
    EXPECT_LE(relative_difference(weights.gradients().at(id), golden.matrix("weight_gradient." + name(id))), 1e-3)
        << name(id);
  }
}

TEST_P(TinyParity, TenAdamSteps) {
  Adapter adapter = golden_lora();
  const std::vector<Sequence> batch = pack(tokens, lengths, &adapter);
  expect_same_curve(adam_losses(*model, batch, adapter, loss, 1e-3F), golden.list<float>("adam"));
}

TEST_P(TinyParity, TheGeneratorsOfPythonAndTestsAgree) {
  const Adapter from_file = golden_lora();
  const Adapter generated = generated_lora(*model, 3, 0.1);
  for (const auto& [id, pair] : from_file.low_rank) {
    EXPECT_TRUE(same_bits(pair.a, generated.low_rank.at(id).a)) << name(id);
    EXPECT_TRUE(same_bits(pair.b, generated.low_rank.at(id).b)) << name(id);
  }
}

TEST_P(TinyParity, Int8IsCloseToTheReference) {
  const auto quantized = Model::open(tiny_model(GetParam()), {.precision = Precision::int8});
  const std::vector<float> losses = loss.each(*quantized, pack(tokens, lengths));
  const std::vector<float> expected = golden.list<float>("losses");
  const double root_mean_square = distance(losses, expected) / std::sqrt(static_cast<double>(losses.size()));
  EXPECT_LE(root_mean_square, 0.2);  // about one per cent in each of the products, at a deviation of 3 of the logits
  EXPECT_GT(root_mean_square, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, TinyParity, testing::Values("llama", "llama_untied", "qwen2", "gemma3"),
                         [](const auto& parameter) { return std::string(parameter.param); });

struct RealModel {
  const char* name;
  std::filesystem::path (*path)();
};

class RealParity : public testing::TestWithParam<RealModel> {
 protected:
  void SetUp() override {
    const std::filesystem::path path = GetParam().path();
    HONE_NEED_FILE(path);
    model = Model::open(path);
  }

  Golden golden{std::string(GetParam().name) + "_real"};
  std::vector<Token> tokens = golden.list<Token>("tokens");
  std::shared_ptr<const Model> model;

  Adapter lora() const { return generated_lora(*model, 4, 0.02); }
  std::span<const Token> text() const { return std::span(tokens).first(256); }

  // Each matrix within `tolerance`, and all together within 1e-3.
  void expect_gradients(const std::string& name, const Loss& loss, double tolerance) const {
    const Adapter adapter = lora();
    LoraSink sink(adapter);
    GradientSink* const sinks[] = {&sink};
    loss.backward(*model, std::vector<Sequence>{{.tokens = text(), .adapter = &adapter}}, sinks);
    const auto norms = golden.list<float>(name + ".norms");
    const Matrix sketches = golden.matrix(name + ".sketches");
    double largest = 0, squared_difference = 0, squared_norm = 0;
    size_t i = 0;
    for (const MatrixId id : all_matrices(*model)) {
      const Adapter::LowRank& gradient = sink.gradients().at(id);
      for (const Matrix* matrix : {&gradient.a, &gradient.b}) {
        const std::string what = hone::name(id) + (matrix == &gradient.a ? ".a" : ".b");
        const double difference = distance(sketch(*matrix), sketches.row(i));
        EXPECT_NEAR(norm({matrix->data(), matrix->size()}) / norms[i], 1, tolerance) << what;
        EXPECT_LE(difference / norms[i], tolerance) << what;
        largest = std::max(largest, difference / norms[i]);
        squared_difference += difference * difference;
        squared_norm += static_cast<double>(norms[i]) * norms[i];
        ++i;
      }
    }
    const double all = std::sqrt(squared_difference / squared_norm);
    EXPECT_LE(all, 1e-3);
    RecordProperty("largest", std::to_string(largest));
    RecordProperty("all", std::to_string(all));
  }
};

TEST_P(RealParity, LogitsAndLosses) {
  const std::vector<Sequence> batch{{.tokens = tokens}};
  const Matrix hidden = model->forward(batch);
  const auto rows = golden.list<size_t>("rows");
  const auto columns = golden.list<size_t>("columns");
  const auto log_normalizers = golden.list<float>("log_normalizers");
  const Matrix expected = golden.matrix("logits");
  double logit_error = 0, normalizer_error = 0;
  for (size_t first = 0; first < hidden.rows(); first += 64) {
    const Matrix logits = model->logits(hidden.view().row_range(first, 64));
    for (size_t r = 0; r < logits.rows(); ++r) {
      const std::span<const float> row = logits.row(r);
      normalizer_error = std::max<double>(normalizer_error, std::abs(log_normalizer(row) - log_normalizers[first + r]));
      const auto found = std::ranges::find(rows, first + r);
      if (found == rows.end()) continue;
      const std::span<const float> want = expected.row(static_cast<size_t>(found - rows.begin()));
      for (size_t c = 0; c < columns.size(); ++c) {
        logit_error = std::max(logit_error, std::abs(static_cast<double>(row[columns[c]]) - want[c]));
      }
    }
  }
  EXPECT_LE(logit_error, 2e-3);
  EXPECT_LE(normalizer_error, 2e-3);
  EXPECT_LE(largest_difference(Loss::next_tokens(tokens).each(*model, batch), golden.list<float>("losses")), 2e-3);
}

TEST_P(RealParity, LossesWithLora) {
  const Adapter adapter = lora();
  const std::vector<Sequence> batch{{.tokens = text(), .adapter = &adapter}};
  EXPECT_LE(largest_difference(Loss::next_tokens(text()).each(*model, batch), golden.list<float>("lora_losses")), 2e-3);
}

TEST_P(RealParity, GradientsOfSomePositions) {
  Loss loss;
  for (size_t row = 15; row + 1 < text().size(); row += 16) {
    loss.rows.push_back(row);
    loss.targets.push_back(text()[row + 1]);
  }
  loss.weights.assign(loss.rows.size(), 1.0F / static_cast<float>(loss.rows.size()));
  expect_gradients("some", loss, 1e-3);
}

// Over a whole text that the model knows well, the positions' gradients nearly cancel and rounding weighs more: torch
// in fp32 is up to 4e-3 from torch in double for a single matrix, 6e-4 for all together.
TEST_P(RealParity, GradientsOfEveryPosition) { expect_gradients("every", Loss::next_tokens(text()), 5e-3); }

TEST_P(RealParity, TenAdamSteps) {
  Adapter adapter = lora();
  const std::vector<Sequence> batch{{.tokens = text(), .adapter = &adapter}};
  expect_same_curve(adam_losses(*model, batch, adapter, Loss::next_tokens(text()), 1e-4F), golden.list<float>("adam"));
}

INSTANTIATE_TEST_SUITE_P(Models, RealParity,
                         testing::Values(RealModel{"smollm2", smollm2}, RealModel{"gemma3", gemma3}),
                         [](const auto& parameter) { return std::string(parameter.param.name); });

}  // namespace
}  // namespace hone::test::parity_test
