// Directions against their formula, from plain weight gradients: ΔW = −relative_step · G / D.
#include <gtest/gtest.h>

#include <cmath>

#include "adapt/gradients.h"
#include "hone/adapt.h"
#include "tests/golden.h"
#include "tests/small_store.h"

namespace hone::test::directions_test {
namespace {

class Directions : public testing::Test {
 protected:
  Directions() : small(Model::open(tiny_model("llama"))), statistics(small.statistics) {
    float step = 0.5F;  // each matrix's own
    for (auto& [id, block] : statistics.blocks) block.relative_step = step += 0.25F;
  }

  std::map<MatrixId, Matrix> gradients(std::span<const Token> tokens) const {
    return weight_gradients(*small.model, with_bos(*small.model, tokens), 1, statistics.first_layer, {});
  }
  // −relative_step · G / D.
  Matrix expected(MatrixId id, const Matrix& gradient) const {
    const CorpusStatistics::Block& block = statistics.blocks.at(id);
    Matrix delta(gradient.rows(), gradient.cols());
    for (size_t o = 0; o < delta.rows(); ++o)
      for (size_t i = 0; i < delta.cols(); ++i)
        delta.row(o)[i] = -block.relative_step * gradient.row(o)[i] / (block.row[o] * block.column[i]);
    return delta;
  }
  double loss(std::span<const Token> tokens, const Adapter& direction, float step) const {
    const std::vector<Token> text = with_bos(*small.model, tokens);
    const Sequence sequence{.tokens = text, .adapter = &direction, .step = step};
    const Matrix hidden = small.model->forward({&sequence, 1});
    double total = 0;
    for (const float l : small.model->losses(hidden.view().row_range(0, text.size() - 1), std::span(text).subspan(1)))
      total += l;
    return total;
  }

  SmallStore small;
  CorpusStatistics statistics;
};

// |a − b| / |b|.
double distance(const Matrix& a, const Matrix& b) {
  double difference = 0, square = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(static_cast<double>(a.data()[i]) - b.data()[i], 2);
    square += std::pow(static_cast<double>(b.data()[i]), 2);
  }
  return std::sqrt(difference / square);
}

TEST_F(Directions, AlongThePrompt) {
  const std::vector<Token> prompt = prose_tokens(*small.model, 40);
  const Adapter direction = prompt_direction(*small.model, statistics, prompt);
  const auto found = gradients(prompt);
  ASSERT_EQ(direction.dense.size(), statistics.blocks.size());
  for (const auto& [id, delta] : direction.dense)
    EXPECT_LT(distance(delta, expected(id, found.at(id))), 1e-5) << name(id);
  EXPECT_LT(loss(prompt, direction, 1e-4F), loss(prompt, direction, 0));
  EXPECT_GT(loss(prompt, direction, -1e-4F), loss(prompt, direction, 0));
}

// Rows hold four bits a value.
TEST_F(Directions, AlongTheMeanOfTheNeighbours) {
  std::vector<Chunk> neighbours;
  for (const int64_t id : small.store->chunk_ids())
    if (neighbours.size() < 3) neighbours.push_back(small.store->chunk(id));
  const Adapter direction = neighbour_direction(*small.model, *small.store, statistics, neighbours, 1 << 30);
  std::map<MatrixId, Matrix> mean;
  for (const Chunk& chunk : neighbours)
    for (auto& [id, gradient] : gradients(chunk.tokens)) {
      Matrix& sum = mean.try_emplace(id, gradient.rows(), gradient.cols()).first->second;
      for (size_t i = 0; i < sum.size(); ++i) sum.data()[i] += gradient.data()[i] / 3;
    }
  ASSERT_EQ(direction.dense.size(), statistics.blocks.size());
  for (const auto& [id, delta] : direction.dense)
    EXPECT_LT(distance(delta, expected(id, mean.at(id))), 0.2) << name(id);
  double before = 0, after = 0;
  for (const Chunk& chunk : neighbours) {
    before += loss(chunk.tokens, direction, 0);
    after += loss(chunk.tokens, direction, 1e-4F);
  }
  EXPECT_LT(after, before);
}

}  // namespace
}  // namespace hone::test::directions_test
