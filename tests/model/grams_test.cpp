// Grams against gradients taken one sequence at a time, finite differences, and the reference (tests/golden).
#include <gtest/gtest.h>

#include "base/random.h"
#include "hone/fewshot.h"
#include "hone/grams.h"
#include "tests/data.h"
#include "tests/expect_error.h"
#include "tests/golden.h"

namespace hone::test::grams_test {
namespace {

// max |a − b| relative to sqrt(a_ii a_jj): a Gram's entries are compared with the lengths of the two gradients.
double largest_difference(const Gram& a, const Gram& b) {
  if (a.size != b.size) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < a.size; ++i)
    for (size_t j = 0; j < a.size; ++j) {
      const double difference = std::abs(a(i, j) - b(i, j)) / std::sqrt(b(i, i) * b(j, j));
      largest = std::isnan(difference) ? INFINITY : std::max(largest, difference);
    }
  return largest;
}

std::vector<Sequence> sequences(const std::vector<std::vector<Token>>& prompts, const Adapter* adapter = nullptr) {
  std::vector<Sequence> batch;
  for (const auto& prompt : prompts) batch.push_back({.tokens = prompt, .adapter = adapter});
  return batch;
}

std::vector<Sequence> sharing(std::vector<Sequence> batch) {
  share_prefixes(batch);
  return batch;
}

// The part of a gradient that a block is.
Matrix part(const Matrix& gradient, const BlockExtent& e) {
  Matrix result = Matrix::uninitialized(e.out, e.in);
  for (size_t o = 0; o < e.out; ++o)
    std::ranges::copy(gradient.row(e.first_out + o).subspan(e.first_in, e.in), result.row(o).begin());
  return result;
}

double inner_product(const Matrix& a, const Matrix& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a.data()[i]) * b.data()[i];
  return sum;
}

class Grams : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Model> model = Model::open(tiny_model(GetParam()));
  std::vector<Token> tokens = Golden(GetParam()).list<Token>("tokens");
  Readout readout = Readout::expected_value({5, 9, 14, 2}, {0, 0.25, 0.5, 1});

  std::vector<Token> slice(size_t begin, size_t count) const {
    return {tokens.begin() + static_cast<ptrdiff_t>(begin), tokens.begin() + static_cast<ptrdiff_t>(begin + count)};
  }
  // Five examples of unequal lengths and a query.
  std::vector<std::vector<Token>> prompts() const {
    std::vector<Example> examples;
    for (size_t i = 0; i < 5; ++i) examples.push_back({slice(i * 7, 2 + i), slice(40 + i, 1 + i % 2)});
    return leave_one_out_prompts(slice(50, 1), examples, slice(30, 3));
  }
  // Blocks by heads, and v and o whole as well.
  std::vector<BlockId> blocks(int first_layer = 0) const {
    std::vector<BlockId> result = blocks_of(*model, first_layer);
    for (int layer = first_layer; layer < model->config().layers; ++layer)
      for (const MatrixKind kind : {MatrixKind::v, MatrixKind::o}) result.push_back({{layer, kind}, -1});
    return result;
  }
  std::map<BlockId, Gram> grams(const std::vector<Sequence>& batch, GramSink::Way way, int first_layer = 0) const {
    GramSink sink(*model, blocks(first_layer), way);
    GradientSink* const sinks[] = {&sink};
    readout_gradients(*model, batch, first_layer, {&readout, 1}, sinks);
    return sink.grams();
  }
  // From each sequence's own gradients.
  std::map<BlockId, Gram> grams_one_by_one(const std::vector<Sequence>& batch) const {
    std::vector<std::map<MatrixId, Matrix>> gradients;
    for (const Sequence& sequence : batch) {
      WeightGradientSink sink;
      GradientSink* const sinks[] = {&sink};
      readout_gradients(*model, {&sequence, 1}, 0, {&readout, 1}, sinks);
      gradients.push_back(sink.take());
    }
    std::map<BlockId, Gram> result;
    for (const BlockId id : blocks()) {
      Gram gram{batch.size(), {}};
      for (size_t i = 0; i < batch.size(); ++i)
        for (size_t j = 0; j < batch.size(); ++j)
          gram.values.push_back(inner_product(part(gradients[i].at(id.matrix), extent(*model, id)),
                                              part(gradients[j].at(id.matrix), extent(*model, id))));
      result.emplace(id, std::move(gram));
    }
    return result;
  }
};

TEST_P(Grams, AreInnerProductsOfEachSequencesGradients) {
  const auto texts = prompts();
  const auto expected = grams_one_by_one(sequences(texts));
  for (const auto way : {GramSink::Way::cheaper, GramSink::Way::materialised, GramSink::Way::dual})
    for (const auto& batch : {sequences(texts), sharing(sequences(texts))}) {
      const auto found = grams(batch, way);
      ASSERT_EQ(found.size(), expected.size());
      for (const auto& [id, gram] : expected)
        EXPECT_LE(largest_difference(found.at(id), gram), 2e-5) << name(id) << ", way " << static_cast<int>(way);
    }
}

TEST_P(Grams, AreThoseOfTheAdaptedModel) {
  const Adapter adapter = generated_lora(*model, 3, 0.1);
  const auto texts = prompts();
  const auto expected = grams_one_by_one(sequences(texts, &adapter));
  const auto found = grams(sharing(sequences(texts, &adapter)), GramSink::Way::cheaper);
  for (const auto& [id, gram] : expected) EXPECT_LE(largest_difference(found.at(id), gram), 2e-5) << name(id);
}

TEST_P(Grams, OfHeadsSumToThatOfTheMatrix) {
  const auto texts = prompts();
  for (const auto way : {GramSink::Way::materialised, GramSink::Way::dual}) {
    const auto found = grams(sharing(sequences(texts)), way);
    for (int layer = 0; layer < model->config().layers; ++layer)
      for (const MatrixKind kind : {MatrixKind::v, MatrixKind::o}) {
        const Gram& whole = found.at({{layer, kind}, -1});
        Gram sum{whole.size, std::vector<double>(whole.values.size())};
        const int heads = kind == MatrixKind::v ? model->config().kv_heads : model->config().heads;
        for (int head = 0; head < heads; ++head)
          for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += found.at({{layer, kind}, head}).values[i];
        EXPECT_LE(largest_difference(sum, whole), 1e-5) << name(MatrixId{layer, kind});
      }
  }
}

TEST_P(Grams, OfUpperLayersAndInTotal) {
  const std::vector<std::vector<Token>> texts = prompts();
  // The same blocks of each matrix as below: which way is cheaper depends on them.
  GramSink every(*model, blocks_of(*model, 0));
  GradientSink* const every_sinks[] = {&every};
  readout_gradients(*model, sharing(sequences(texts)), 0, {&readout, 1}, every_sinks);
  const std::map<BlockId, Gram>& all = every.grams();
  const int first = model->config().layers - 1;
  const std::vector<BlockId> wanted = blocks_of(*model, first);
  GramSink sink(*model, wanted);
  GradientSink* const sinks[] = {&sink};
  readout_gradients(*model, sharing(sequences(texts)), first, {&readout, 1}, sinks);
  ASSERT_EQ(sink.grams().size(), wanted.size());
  Gram sum{texts.size(), std::vector<double>(texts.size() * texts.size())};
  for (const BlockId id : wanted) {
    EXPECT_EQ(sink.grams().at(id).values, all.at(id).values) << name(id);
    for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += all.at(id).values[i];
  }
  EXPECT_LE(largest_difference(sink.total(), sum), 1e-12);
}

TEST_P(Grams, AreSymmetricAndTheSameEachTimeOnAnyThreads) {
  const auto texts = prompts();
  const auto once = grams(sharing(sequences(texts)), GramSink::Way::cheaper);
  const int before = threads();
  set_threads(1);
  const auto again = grams(sharing(sequences(texts)), GramSink::Way::cheaper);
  set_threads(before);
  for (const auto& [id, gram] : once) {
    EXPECT_EQ(again.at(id).values, gram.values) << name(id);
    for (size_t i = 0; i < gram.size; ++i)
      for (size_t j = 0; j < i; ++j) EXPECT_EQ(gram(i, j), gram(j, i));
  }
}

// One readout a class from one forward pass: as sequences that share everything, and as several walks of a tape.
TEST_P(Grams, OfSeveralOutputsOfOnePrompt) {
  const std::vector<Token> labels = {5, 9, 14};
  const auto texts = prompts();
  std::vector<Sequence> batch;
  std::vector<Readout> readouts;
  for (const auto& text : texts)
    for (size_t c = 0; c < labels.size(); ++c) {
      batch.push_back({.tokens = text});
      readouts.push_back(Readout::log_probability(labels, c));
    }
  share_prefixes(batch);
  EXPECT_EQ(BatchRows(batch).start.back(), BatchRows(sharing(sequences(texts))).start.back());
  GramSink together(*model, blocks()), summed(*model, blocks());
  GradientSink* const together_sinks[] = {&together};
  GradientSink* const summed_sinks[] = {&summed};
  const std::vector<double> values = readout_gradients(*model, batch, 0, readouts, together_sinks);
  for (size_t c = 0; c < labels.size(); ++c) {
    const Readout of_class = Readout::log_probability(labels, c);
    const auto alone = readout_gradients(*model, sharing(sequences(texts)), 0, {&of_class, 1}, summed_sinks);
    for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(values[i * labels.size() + c], alone[i]);
  }
  for (const auto& [id, gram] : summed.grams()) {
    const Gram& all = together.grams().at(id);
    Gram sum{gram.size, std::vector<double>(gram.values.size())};
    for (size_t i = 0; i < gram.size; ++i)
      for (size_t j = 0; j < gram.size; ++j)
        for (size_t c = 0; c < labels.size(); ++c)
          sum.values[i * gram.size + j] += all(i * labels.size() + c, j * labels.size() + c);
    EXPECT_LE(largest_difference(sum, gram), 2e-5) << name(id);
  }
}

// ⟨G_i, G_j⟩ is how fast output i changes when the weights of the block move along G_j.
TEST_P(Grams, AreSlopesAlongABlocksDirection) {
  const std::vector<std::vector<Token>> texts = prompts();
  const auto found = grams(sharing(sequences(texts)), GramSink::Way::cheaper);
  const std::vector<BlockId> ids = blocks();
  RandomStream random(0, "blocks");
  for (int draw = 0; draw < 6; ++draw) {
    const BlockId id = ids[random.below(ids.size())];
    const size_t j = random.below(texts.size());
    const Sequence sequence{.tokens = texts[j]};
    WeightGradientSink sink;
    GradientSink* const sinks[] = {&sink};
    readout_gradients(*model, {&sequence, 1}, 0, {&readout, 1}, sinks);
    const Matrix direction = part(sink.gradients().at(id.matrix), extent(*model, id));
    const Gram& gram = found.at(id);
    const auto [out, in] = model->shape(id.matrix);
    const BlockExtent e = extent(*model, id);
    Adapter adapter;
    Matrix& addition = adapter.dense.emplace(id.matrix, Matrix(out, in)).first->second;
    for (size_t o = 0; o < e.out; ++o)
      std::ranges::copy(direction.row(o), addition.row(e.first_out + o).subspan(e.first_in, e.in).begin());
    std::vector<Sequence> above = sequences(texts, &adapter), below = above;
    const float step = 0.005F / static_cast<float>(std::sqrt(gram(j, j)));
    for (Sequence& s : above) s.step = step;
    for (Sequence& s : below) s.step = -step;
    const auto upper = readout_values(*model, above, {&readout, 1});
    const auto lower = readout_values(*model, below, {&readout, 1});
    for (size_t i = 0; i < texts.size(); ++i)
      EXPECT_NEAR((upper[i] - lower[i]) / (2.0 * static_cast<double>(step)), gram(i, j),
                  0.02 * std::sqrt(gram(i, i) * gram(j, j)))
          << name(id) << ", outputs " << i << " and " << j;
  }
}

TEST_P(Grams, NamesAndExtentsOfBlocks) {
  const ModelConfig& c = model->config();
  EXPECT_EQ(name(BlockId{{27, MatrixKind::v}, 2}), "L27.v.h2");
  EXPECT_EQ(name(BlockId{{3, MatrixKind::down}, -1}), "L3.down");
  EXPECT_EQ(blocks_of(*model, 0).size(), static_cast<size_t>(c.layers * (5 + c.heads + c.kv_heads)));
  const MatrixKind only[] = {MatrixKind::v};
  for (const BlockId id : blocks_of(*model, 1, only)) {
    EXPECT_EQ(id.matrix.kind, MatrixKind::v);
    EXPECT_EQ(extent(*model, id).first_out, static_cast<size_t>(id.head * c.head_dim));
    EXPECT_EQ(extent(*model, id).in, static_cast<size_t>(c.width));
  }
  const BlockExtent o = extent(*model, {{0, MatrixKind::o}, 1});
  EXPECT_EQ(o.first_in, static_cast<size_t>(c.head_dim));
  EXPECT_EQ(o.out, static_cast<size_t>(c.width));
}

TEST_P(Grams, WhatDoesNotFitIsRefused) {
  const ModelConfig& c = model->config();
  for (const BlockId id : {BlockId{{c.layers, MatrixKind::q}, -1}, BlockId{{-1, MatrixKind::q}, -1},
                           BlockId{{0, MatrixKind::q}, 0}, BlockId{{0, MatrixKind::v}, c.kv_heads},
                           BlockId{{0, MatrixKind::o}, -2}, BlockId{{0, static_cast<MatrixKind>(7)}, -1}})
    HONE_EXPECT_ERROR(GramSink(*model, {&id, 1}), ErrorCode::bad_input, "does not exist");
  const BlockId twice[] = {{{0, MatrixKind::q}, -1}, {{0, MatrixKind::q}, -1}};
  HONE_EXPECT_ERROR(GramSink(*model, twice), ErrorCode::bad_input, "L0.q is named twice");
  HONE_EXPECT_ERROR(blocks_of(*model, c.layers), ErrorCode::bad_input, "does not exist");
  GramSink sink(*model, blocks());
  HONE_EXPECT_ERROR(sink.total(), ErrorCode::bad_input, "no backward pass");
  GradientSink* const sinks[] = {&sink};
  const auto texts = prompts();
  readout_gradients(*model, sequences(texts), 0, {&readout, 1}, sinks);
  HONE_EXPECT_ERROR(readout_gradients(*model, sequences({texts[0]}), 0, {&readout, 1}, sinks), ErrorCode::bad_input,
                    "a batch of 1 sequences adds to Grams of 6");
  HONE_EXPECT_ERROR(query_kernel(sink.total(), 6), ErrorCode::bad_input, "cannot be the query");
}

INSTANTIATE_TEST_SUITE_P(Models, Grams, testing::Values("llama", "llama_untied", "qwen2", "gemma3"),
                         [](const auto& parameter) { return std::string(parameter.param); });

// All blocks' Grams of the golden prompts, each entry within `tolerance` of the lengths of its two gradients and each
// block within it as a whole.
void expect_golden_grams(const Model& model, const std::string& golden_name, double tolerance) {
  const Golden golden(golden_name);
  const std::vector<Token> tokens = golden.list<Token>("tokens");
  std::vector<Sequence> batch = pack(tokens, golden.list<size_t>("lengths"));
  share_prefixes(batch);
  const Readout readout = Readout::expected_value(golden.list<Token>("labels"), golden.list<double>("label_values"));
  const std::vector<BlockId> blocks = blocks_of(model, 0);
  GramSink sink(model, blocks);
  GradientSink* const sinks[] = {&sink};
  const std::vector<double> outputs = readout_gradients(model, batch, 0, {&readout, 1}, sinks);
  const auto expected_outputs = golden.list<double>("outputs");
  for (size_t b = 0; b < batch.size(); ++b) EXPECT_NEAR(outputs[b], expected_outputs[b], 1e-4) << b;
  const Matrix expected = golden.matrix("grams");
  ASSERT_EQ(expected.rows(), blocks.size());
  ASSERT_EQ(expected.cols(), batch.size() * (batch.size() + 1) / 2);
  double largest_entry = 0, largest_block = 0;
  for (size_t n = 0; n < blocks.size(); ++n) {
    Gram gram{batch.size(), std::vector<double>(batch.size() * batch.size())};
    for (size_t i = 0, at = 0; i < batch.size(); ++i)
      for (size_t j = i; j < batch.size(); ++j, ++at)
        gram.values[i * batch.size() + j] = gram.values[j * batch.size() + i] =
            static_cast<double>(expected.row(n)[at]);
    const Gram& found = sink.grams().at(blocks[n]);
    const double entry = largest_difference(found, gram);
    double difference = 0, square = 0;
    for (size_t i = 0; i < gram.values.size(); ++i) {
      difference += std::pow(found.values[i] - gram.values[i], 2);
      square += std::pow(gram.values[i], 2);
    }
    const double block = std::sqrt(difference / square);
    EXPECT_LE(entry, tolerance) << name(blocks[n]);
    EXPECT_LE(block, tolerance) << name(blocks[n]);
    largest_entry = std::max(largest_entry, entry);
    largest_block = std::max(largest_block, block);
  }
  testing::Test::RecordProperty("largest_entry", std::to_string(largest_entry));
  testing::Test::RecordProperty("largest_block", std::to_string(largest_block));
}

TEST_P(Grams, AreThoseOfTheReference) { expect_golden_grams(*model, std::string(GetParam()) + "_grams", 1e-3); }

TEST(RealGrams, OfSmolLM2AreThoseOfTheReference) {
  HONE_NEED_FILE(smollm2());
  expect_golden_grams(*Model::open(smollm2()), "smollm2_grams", 1e-3);
}

TEST(QueryKernel, TakesTheQuerysRowOut) {
  const Gram gram{3, {1, 2, 3, 2, 5, 6, 3, 6, 9}};
  const QueryKernel first = query_kernel(gram, 0), middle = query_kernel(gram, 1);
  EXPECT_EQ(first.examples, 2U);
  EXPECT_EQ(first.kernel, (std::vector<double>{5, 6, 6, 9}));
  EXPECT_EQ(first.with_query, (std::vector<double>{2, 3}));
  EXPECT_EQ(first.query, 1);
  EXPECT_EQ(middle.kernel, (std::vector<double>{1, 3, 3, 9}));
  EXPECT_EQ(middle.with_query, (std::vector<double>{2, 6}));
  EXPECT_EQ(middle.query, 5);
}

}  // namespace
}  // namespace hone::test::grams_test
