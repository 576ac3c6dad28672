// Gradients against finite differences of the loss, and against each other.
#include <gtest/gtest.h>

#include "base/random.h"
#include "hone/model.h"
#include "tests/golden.h"

namespace hone::test::gradient_test {
namespace {

class Gradient : public testing::TestWithParam<const char*> {
 protected:
  Golden golden{GetParam()};
  std::shared_ptr<const Model> model = Model::open(tiny_model(GetParam()));
  std::vector<Token> tokens = golden.list<Token>("tokens");
  std::vector<size_t> lengths = golden.list<size_t>("lengths");
  Loss loss = Loss::from(golden);
  Adapter adapter = generated_lora(*model, 3, 0.1);
  std::vector<Sequence> batch = pack(tokens, lengths, &adapter);

  double slope(float& parameter, float step) const {
    const float before = parameter;
    parameter = before + step;
    const double above = loss.value(*model, batch);
    parameter = before - step;
    const double below = loss.value(*model, batch);
    parameter = before;
    return (above - below) / (2.0 * static_cast<double>(step));
  }

  // A random one of the entries that are at least half as large as the largest.
  static size_t sizeable_entry(const Matrix& gradient, RandomStream& random) {
    float largest = 0;
    for (size_t i = 0; i < gradient.size(); ++i) largest = std::max(largest, std::abs(gradient.data()[i]));
    for (;;) {
      const size_t i = random.below(gradient.size());
      if (2 * std::abs(gradient.data()[i]) >= largest) return i;
    }
  }

  void expect_slope(float& parameter, float gradient, const std::string& what) const {
    EXPECT_NEAR(slope(parameter, 4e-3F) / gradient, 1, 2e-2) << what << ", gradient " << gradient;
  }
};

TEST_P(Gradient, OfLoraIsTheSlopeOfTheLoss) {
  LoraSink sink(adapter);
  GradientSink* const sinks[] = {&sink};
  loss.backward(*model, batch, sinks);
  RandomStream random(0, "entries");
  for (auto& [id, pair] : adapter.low_rank) {
    const Adapter::LowRank& gradient = sink.gradients().at(id);
    const size_t a = sizeable_entry(gradient.a, random), b = sizeable_entry(gradient.b, random);
    expect_slope(pair.a.data()[a], gradient.a.data()[a], name(id) + ".a");
    expect_slope(pair.b.data()[b], gradient.b.data()[b], name(id) + ".b");
  }
}

TEST_P(Gradient, OfWeightsIsTheSlopeOfTheLoss) {
  for (const MatrixId id : all_matrices(*model)) {
    const auto [out, in] = model->shape(id);
    adapter.dense[id] = generated_matrix(500, out, in, 0.05);
  }
  WeightGradientSink sink;
  GradientSink* const sinks[] = {&sink};
  loss.backward(*model, batch, sinks);
  RandomStream random(0, "entries");
  double along_the_addition = 0;
  for (auto& [id, addition] : adapter.dense) {
    const Matrix& gradient = sink.gradients().at(id);
    const size_t i = sizeable_entry(gradient, random);
    expect_slope(addition.data()[i], gradient.data()[i], name(id));
    const Adapter::LowRank& pair = adapter.low_rank.at(id);
    for (size_t o = 0; o < addition.rows(); ++o) {
      for (size_t c = 0; c < addition.cols(); ++c) {
        double change = addition.row(o)[c];
        for (size_t r = 0; r < pair.a.rows(); ++r) change += static_cast<double>(pair.b.row(o)[r]) * pair.a.row(r)[c];
        along_the_addition += change * gradient.row(o)[c];
      }
    }
  }
  // ∂loss/∂step = Σ ⟨∂loss/∂W, ΔW + B A⟩
  std::vector<Sequence> longer = batch, shorter = batch;
  for (Sequence& sequence : longer) sequence.step = 1.01F;
  for (Sequence& sequence : shorter) sequence.step = 0.99F;
  const double slope = (loss.value(*model, longer) - loss.value(*model, shorter)) / 2e-2;
  EXPECT_NEAR(slope / along_the_addition, 1, 2e-2);
}

TEST_P(Gradient, OfABatchIsTheSumOverItsSequences) {
  LoraSink together(adapter), one_by_one(adapter);
  GradientSink* const together_sinks[] = {&together};
  loss.backward(*model, batch, together_sinks);
  GradientSink* const alone_sinks[] = {&one_by_one};
  size_t start = 0;
  for (const Sequence& sequence : batch) {
    Loss part;
    for (size_t r = 0; r < loss.rows.size(); ++r) {
      if (loss.rows[r] < start || loss.rows[r] >= start + sequence.tokens.size()) continue;
      part.rows.push_back(loss.rows[r] - start);
      part.targets.push_back(loss.targets[r]);
      part.weights.push_back(loss.weights[r]);
    }
    part.backward(*model, {&sequence, 1}, alone_sinks);
    start += sequence.tokens.size();
  }
  for (const auto& [id, gradient] : together.gradients()) {
    EXPECT_LE(relative_difference(one_by_one.gradients().at(id).a, gradient.a), 1e-5) << name(id);
    EXPECT_LE(relative_difference(one_by_one.gradients().at(id).b, gradient.b), 1e-5) << name(id);
  }
}

TEST_P(Gradient, OfUpperLayersNeedsNoTapeOfLowerOnes) {
  LoraSink all(adapter);
  GradientSink* const all_sinks[] = {&all};
  loss.backward(*model, batch, all_sinks);
  for (int first = 1; first < model->config().layers; ++first) {
    LoraSink upper(adapter);
    GradientSink* const upper_sinks[] = {&upper};
    loss.backward(*model, batch, upper_sinks, first);
    for (const auto& [id, gradient] : upper.gradients()) {
      if (id.layer < first) {
        EXPECT_EQ(norm({gradient.a.data(), gradient.a.size()}), 0) << name(id);
        continue;
      }
      EXPECT_TRUE(same_bits(gradient.a, all.gradients().at(id).a)) << name(id);
      EXPECT_TRUE(same_bits(gradient.b, all.gradients().at(id).b)) << name(id);
    }
  }
}

TEST_P(Gradient, OfTheHeadForAnyReadout) {
  const Matrix hidden = loss.gather(model->forward(batch));
  Matrix d_logits = model->logits(hidden);
  for (size_t r = 0; r < d_logits.rows(); ++r) {
    const std::span<float> row = d_logits.row(r);
    const double largest = *std::ranges::max_element(row);
    double sum = 0;
    for (float logit : row) sum += std::exp(logit - largest);
    for (float& value : row) value = static_cast<float>(loss.weights[r] * std::exp(value - largest) / sum);
    row[static_cast<size_t>(loss.targets[r])] -= loss.weights[r];
  }
  Matrix d_hidden(hidden.rows(), hidden.cols());
  model->losses_with_gradient(hidden, loss.targets, loss.weights, d_hidden);
  EXPECT_LE(relative_difference(model->head_backward(hidden, d_logits), d_hidden), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Models, Gradient, testing::Values("llama", "llama_untied", "qwen2", "gemma3"),
                         [](const auto& parameter) { return std::string(parameter.param); });

}  // namespace
}  // namespace hone::test::gradient_test
