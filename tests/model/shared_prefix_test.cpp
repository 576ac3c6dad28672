// Sequences of a batch that share their first tokens: rows, losses and gradients are those of a batch without sharing.
#include <gtest/gtest.h>

#include <functional>
#include <tuple>

#include "hone/model.h"
#include "tests/expect_error.h"
#include "tests/golden.h"

namespace hone::test::shared_prefix_test {
namespace {

// The last token's loss of each sequence, weighted unequally.
std::vector<float> last_token_losses(const Model& model, std::span<const Sequence> batch, int first,
                                     std::span<GradientSink* const> sinks) {
  const BatchRows rows(batch);
  Tape tape;
  Matrix x = model.forward(batch, 0, first, model.embed(batch));
  const Matrix hidden = model.forward(batch, first, model.config().layers, std::move(x), &tape);
  Loss loss;
  for (size_t b = 0; b < batch.size(); ++b) {
    loss.rows.push_back(rows.last_activation_row(b));
    loss.targets.push_back(static_cast<Token>(b + 3));
    loss.weights.push_back(1 + static_cast<float>(b % 3));
  }
  Matrix d_rows(batch.size(), hidden.cols());
  const std::vector<float> losses = model.losses_with_gradient(loss.gather(hidden), loss.targets, loss.weights, d_rows);
  Matrix d_hidden(rows.activation.size(), hidden.cols());
  for (size_t b = 0; b < batch.size(); ++b)
    std::ranges::copy(d_rows.row(b), d_hidden.row(rows.last_gradient_row(b)).begin());
  model.backward(tape, std::move(d_hidden), sinks);
  return losses;
}

class SharedPrefix : public testing::TestWithParam<std::tuple<const char*, Precision>> {
 protected:
  std::string name = std::get<0>(GetParam());
  std::shared_ptr<const Model> model = Model::open(tiny_model(name), {.precision = std::get<1>(GetParam())});
  std::vector<Token> tokens = Golden(name).list<Token>("tokens");
  Adapter lora = generated_lora(*model, 3, 0.1);

  // Texts that branch off one another: 1 and 2 off 0, 3 off 2 inside and beyond what that shares, 4 is 0 again, 5 is a
  // prefix of 3. All are longer than gemma3's window.
  std::vector<std::vector<Token>> texts = branching_texts();
  std::vector<std::vector<Token>> branching_texts() const {
    const auto text = [&](std::initializer_list<std::pair<size_t, size_t>> pieces) {
      std::vector<Token> result;
      for (const auto& [begin, end] : pieces)
        result.insert(result.end(), tokens.begin() + static_cast<ptrdiff_t>(begin),
                      tokens.begin() + static_cast<ptrdiff_t>(end));
      return result;
    };
    return {text({{0, 40}}), text({{0, 5}, {41, 58}}), text({{0, 22}, {30, 44}}), text({{0, 22}, {30, 40}, {50, 58}}),
            text({{0, 40}}), text({{0, 22}, {30, 36}})};
  }
  std::vector<Sequence> whole(const Adapter* adapter = nullptr) const {
    std::vector<Sequence> batch;
    for (const auto& text : texts) batch.push_back({.tokens = text, .adapter = adapter, .step = 0.5F});
    return batch;
  }
  std::vector<Sequence> sharing(const Adapter* adapter = nullptr) const {
    std::vector<Sequence> batch = whole(adapter);
    share_prefixes(batch);
    return batch;
  }
};

TEST_P(SharedPrefix, TheLongestOneIsFound) {
  const std::vector<Sequence> batch = sharing();
  const std::vector<std::pair<size_t, size_t>> expected = {{0, 0}, {0, 5}, {0, 22}, {2, 32}, {0, 40}, {2, 28}};
  for (size_t b = 0; b < batch.size(); ++b) EXPECT_EQ(std::pair(batch[b].prefix, batch[b].shared), expected[b]) << b;
  const BatchRows rows(batch);
  EXPECT_EQ(rows.start, (std::vector<size_t>{0, 40, 57, 71, 79, 79, 79}));
  EXPECT_EQ(rows.gradient_start, (std::vector<size_t>{0, 40, 62, 98, 138, 178, 206}));
  EXPECT_EQ(rows.last_activation_row(4), 39U);
  EXPECT_EQ(rows.last_activation_row(5), 62U);
  EXPECT_TRUE(rows.sharing());
  EXPECT_FALSE(BatchRows(whole()).sharing());
}

TEST_P(SharedPrefix, ASequenceOfAnotherAdapterStepOrCacheIsLeftAlone) {
  std::vector<Sequence> batch = whole();
  KvCache cache(*model, 0, model->config().layers);
  batch[0].adapter = &lora;
  batch[2].step = 2;
  batch[4].cache = &cache;
  share_prefixes(batch);
  EXPECT_EQ(batch[1].shared, 0U);
  EXPECT_EQ(batch[2].shared, 0U);
  EXPECT_EQ(std::pair(batch[3].prefix, batch[3].shared), std::pair(size_t{1}, size_t{5}));
  EXPECT_EQ(batch[4].shared, 0U);
}

TEST_P(SharedPrefix, RowsAreThoseOfWholeTextsToTheLastBit) {
  for (const Adapter* adapter : {static_cast<const Adapter*>(nullptr), static_cast<const Adapter*>(&lora)}) {
    const std::vector<Sequence> apart = whole(adapter), shared = sharing(adapter);
    const Matrix expected = model->forward(apart), hidden = model->forward(shared);
    const BatchRows rows(shared);
    ASSERT_EQ(hidden.rows(), rows.start.back());
    for (size_t q = 0; q < expected.rows(); ++q)
      ASSERT_TRUE(same_bits(hidden.view().row_range(rows.activation[q], 1), expected.view().row_range(q, 1))) << q;
  }
}

TEST_P(SharedPrefix, GradientsAreThoseOfWholeTexts) {
  for (int first = 0; first < model->config().layers; ++first) {
    LoraSink lora_apart(lora), lora_shared(lora);
    WeightGradientSink apart, shared;
    GradientSink* const apart_sinks[] = {&lora_apart, &apart};
    GradientSink* const shared_sinks[] = {&lora_shared, &shared};
    EXPECT_EQ(last_token_losses(*model, whole(&lora), first, apart_sinks),
              last_token_losses(*model, sharing(&lora), first, shared_sinks));
    ASSERT_EQ(shared.gradients().size(), apart.gradients().size());
    for (const auto& [id, gradient] : apart.gradients())
      EXPECT_LE(relative_difference(shared.gradients().at(id), gradient), 1e-6) << hone::name(id);
    for (const auto& [id, gradient] : lora_apart.gradients()) {
      EXPECT_LE(relative_difference(lora_shared.gradients().at(id).a, gradient.a), 1e-6) << hone::name(id);
      EXPECT_LE(relative_difference(lora_shared.gradients().at(id).b, gradient.b), 1e-6) << hone::name(id);
    }
  }
}

// What a sink is told fits together, and activations are offered once. Of the top layer's matrices above attention only
// the last token of each text has a gradient.
class ShapeSink : public GradientSink {
 public:
  ShapeSink(const BatchRows& rows, int top) : rows_(rows), top_(top) {}
  void accept(const LinearGradient& gradient) override {
    ++offers;
    const bool before_attention =
        gradient.id.kind == MatrixKind::q || gradient.id.kind == MatrixKind::k || gradient.id.kind == MatrixKind::v;
    std::vector<size_t> input_rows = rows_.activation, start = rows_.gradient_start;
    if (gradient.id.layer == top_ && !before_attention) {
      input_rows.clear();
      for (size_t b = 0; b < start.size(); ++b) {
        if (b + 1 < start.size()) input_rows.push_back(rows_.last_activation_row(b));
        start[b] = b;
      }
    }
    EXPECT_EQ(gradient.inputs.rows, rows_.start.back());
    EXPECT_EQ(gradient.output_gradients.rows, input_rows.size());
    EXPECT_TRUE(std::ranges::equal(gradient.input_rows, input_rows));
    EXPECT_TRUE(std::ranges::equal(gradient.sequence_start, start));
  }
  int offers = 0;

 private:
  const BatchRows& rows_;
  int top_;
};

TEST_P(SharedPrefix, SinksSeeEachActivationOnce) {
  const std::vector<Sequence> batch = sharing();
  const BatchRows rows(batch);
  ShapeSink sink(rows, model->config().layers - 1);
  GradientSink* const sinks[] = {&sink};
  last_token_losses(*model, batch, 0, sinks);
  EXPECT_EQ(sink.offers, matrix_kinds * model->config().layers);
}

// Gradients add up: what few rows give alone is what they add to all rows', whoever adapts the texts.
TEST_P(SharedPrefix, RowsWithoutAGradientCanBeLeftOut) {
  Adapter other = generated_lora(*model, 2, 0.2);
  for (const bool shared : {false, true}) {
    std::vector<Sequence> batch = whole();
    for (const size_t b : {0, 1, 4}) batch[b].adapter = &lora;
    batch[3].adapter = &other;
    if (shared) share_prefixes(batch);
    const BatchRows rows(batch);
    const int layers = model->config().layers;
    Tape tape;
    const Matrix hidden = model->forward(batch, 0, layers, model->embed(batch), &tape);
    const auto gradients = [&](Matrix d_hidden) {
      WeightGradientSink sink;
      GradientSink* const sinks[] = {&sink};
      model->backward(tape, std::move(d_hidden), sinks);
      return sink.take();
    };
    const Matrix all = generated_matrix(900, rows.activation.size(), hidden.cols(), 1);
    Matrix few(all.rows(), all.cols()), sum = all.copy();
    for (const size_t row : {3, 25, 39, 70, 71, 110, 205})  // none of sequence 4
      for (size_t i = 0; i < all.cols(); ++i) sum.row(row)[i] += few.row(row)[i] = 2 * all.row(row)[i];
    const auto of_all = gradients(all.copy()), of_sum = gradients(std::move(sum));
    auto of_few = gradients(std::move(few));
    ASSERT_EQ(of_few.size(), of_all.size());
    for (auto& [id, gradient] : of_few) {
      const Matrix& added = of_all.at(id);
      for (size_t i = 0; i < gradient.size(); ++i) gradient.data()[i] += added.data()[i];
      EXPECT_LE(relative_difference(gradient, of_sum.at(id)), 2e-6) << hone::name(id) << " " << shared;
    }
  }
}

TEST_P(SharedPrefix, ATapeCanBeWalkedSeveralTimes) {
  const std::vector<Sequence> batch = sharing();
  Tape tape;
  const Matrix hidden = model->forward(batch, 0, model->config().layers, model->embed(batch), &tape);
  std::vector<Matrix> d_hidden;
  for (uint64_t output = 0; output < 2; ++output)
    d_hidden.push_back(generated_matrix(900 + output, BatchRows(batch).activation.size(), hidden.cols(), 1));
  Matrix sum = d_hidden[0].copy();
  for (size_t i = 0; i < sum.size(); ++i) sum.data()[i] += d_hidden[1].data()[i];
  WeightGradientSink one_by_one, together;
  GradientSink* const separate_sinks[] = {&one_by_one};
  GradientSink* const together_sinks[] = {&together};
  for (Matrix& d : d_hidden) model->backward(tape, std::move(d), separate_sinks);
  model->backward(tape, std::move(sum), together_sinks);
  for (const auto& [id, gradient] : together.gradients())
    EXPECT_LE(relative_difference(one_by_one.gradients().at(id), gradient), 1e-5) << hone::name(id);
}

TEST_P(SharedPrefix, WrongOnesAreRefused) {
  const auto expect_refused = [&](const std::string& text, const std::function<void(std::vector<Sequence>&)>& spoil) {
    std::vector<Sequence> batch = sharing();
    spoil(batch);
    HONE_EXPECT_ERROR(model->embed(batch), ErrorCode::bad_input, text);
    const Matrix x(200, static_cast<size_t>(model->config().width));
    HONE_EXPECT_ERROR(model->forward(batch, 0, 1, x.copy()), ErrorCode::bad_input, text);
  };
  KvCache cache(*model, 0, model->config().layers);
  expect_refused("sequence 1 shares 23 of its 22 tokens", [](auto& batch) { batch[1].shared = 23; });
  expect_refused("does not come before it", [](auto& batch) { batch[1].prefix = 1; });
  expect_refused("does not come before it", [](auto& batch) { batch[1].prefix = 100; });
  expect_refused("does not come before it", [](auto& batch) { batch[0].shared = 1; });
  expect_refused("which has 22", [](auto& batch) { batch[2] = {batch[2].tokens, nullptr, 0.5F, nullptr, 1, 30}; });
  expect_refused("whose first tokens are others", [](auto& batch) { batch[1].shared = 6; });
  expect_refused("another adapter or step", [&](auto& batch) { batch[1].adapter = &lora; });
  expect_refused("another adapter or step", [](auto& batch) { batch[1].step = 1; });
  expect_refused("only without caches", [&](auto& batch) { batch[1].cache = &cache; });
  expect_refused("only without caches", [&](auto& batch) { batch[0].cache = &cache; });
}

TEST_P(SharedPrefix, ATextBeyondTheContextIsRefusedHoweverMuchItShares) {
  const std::vector<Token> text(static_cast<size_t>(model->config().context) + 1, 5);
  std::vector<Sequence> batch{{.tokens = std::span(text).first(text.size() - 1)}, {.tokens = text}};
  share_prefixes(batch);
  EXPECT_EQ(batch[1].shared, text.size() - 1);
  HONE_EXPECT_ERROR(model->forward(batch, 0, 0, model->embed(batch)), ErrorCode::bad_input, "longer than the model's");
}

INSTANTIATE_TEST_SUITE_P(Models, SharedPrefix,
                         testing::Combine(testing::Values("llama", "llama_untied", "qwen2", "gemma3"),
                                          testing::Values(Precision::fp32, Precision::int8)),
                         model_and_precision);

}  // namespace
}  // namespace hone::test::shared_prefix_test
