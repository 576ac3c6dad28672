#include "hone/masks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"
#include "interpret/masks.h"
#include "tests/expect_error.h"
#include "tests/golden.h"

namespace hone::masks_test {
namespace {

constexpr size_t concepts = 30, classes = 3, points = 60;

// Codes with six of the concepts each; the label says which of concepts 0, 1 and 2 is the largest.
struct Planted {
  SparseCodes codes{points, 9};
  std::vector<int> y;
  LinearHead start{Matrix(classes, concepts), std::vector<float>(classes)};
  std::vector<int64_t> ids;

  explicit Planted(uint64_t seed) {
    RandomStream random(seed, "planted");
    for (size_t i = 0; i < points; ++i) {
      std::vector<float> row(concepts);
      for (size_t j = 0; j < 6; ++j) row[3 + random.below(concepts - 3)] = static_cast<float>(random.uniform());
      const auto label = static_cast<size_t>(random.below(classes));
      row[label] = 1 + static_cast<float>(random.uniform());
      y.push_back(static_cast<int>(label));
      for (uint32_t f = 0; f < concepts; ++f) {
        if (row[f] == 0) continue;
        codes.features[i * codes.width + codes.counts[i]] = f;
        codes.values[i * codes.width + codes.counts[i]++] = row[f];
      }
    }
    random.normals({start.weights.data(), start.weights.size()}, 0.1F);
    ids.resize(points);
    std::iota(ids.begin(), ids.end(), 0);
  }
  NeighbourIds neighbours(size_t k) const { return {std::span(ids).first(points / k * k), k}; }
};

// Rows 0, step, 2 step, … of some codes.
SparseCodes some_rows(const SparseCodes& codes, size_t count, size_t step = 1) {
  SparseCodes some(count, codes.width);
  for (size_t i = 0; i < count; ++i) {
    some.counts[i] = codes.counts[i * step];
    std::ranges::copy(codes.row_features(i * step),
                      some.features.begin() + static_cast<std::ptrdiff_t>(i * codes.width));
    std::ranges::copy(codes.row_values(i * step), some.values.begin() + static_cast<std::ptrdiff_t>(i * codes.width));
  }
  return some;
}

TEST(MaskLoss, GradientsEqualFiniteDifferences) {
  const Planted planted(1);
  const Matrix codes = dense_codes(planted.codes, concepts);
  LinearHead head = planted.start.copy();
  std::vector<float> mask(concepts);
  RandomStream random(2, "mask");
  for (float& value : mask) value = static_cast<float>(random.uniform());
  MaskLoss loss(classes, concepts), other(classes, concepts);
  loss.differentiate(head, codes, planted.y, mask, 0.2F);
  const auto compare = [&](float& parameter, float gradient) {
    constexpr float h = 1e-2F;
    const float before = parameter;
    parameter = before + h;
    const double above = other.differentiate(head, codes, planted.y, mask, 0.2F);
    parameter = before - h;
    const double below = other.differentiate(head, codes, planted.y, mask, 0.2F);
    parameter = before;
    EXPECT_NEAR(gradient, (above - below) / (2 * static_cast<double>(h)), 2e-4);
  };
  for (size_t j = 0; j < concepts; ++j) {
    compare(mask[j], loss.mask[j]);
    for (size_t c = 0; c < classes; ++c) compare(head.weights.row(c)[j], loss.weights.row(c)[j]);
  }
  for (size_t c = 0; c < classes; ++c) compare(head.bias[c], loss.bias[c]);
}

TEST(MaskLoss, NextToImpossibleClassesHaveNoGradient) {
  const Planted planted(3);
  const Matrix codes = dense_codes(planted.codes, concepts);
  LinearHead head = planted.start.copy();
  head.bias[0] = 50;
  MaskLoss loss(classes, concepts);
  loss.differentiate(head, codes, std::vector<int>(points, 0), std::vector<float>(concepts, 1.0F), 0);
  for (size_t c = 1; c < classes; ++c) {
    EXPECT_EQ(loss.bias[c], 0);
    EXPECT_TRUE(std::ranges::all_of(loss.weights.row(c), [](float value) { return value == 0; }));
  }
}

TEST(MaskLoss, WithoutTheMasksGradientAllElseIsTheSame) {
  const Planted planted(8);
  const Matrix codes = dense_codes(planted.codes, concepts);
  const std::vector<float> mask(concepts, 1.0F);
  MaskLoss all(classes, concepts), some(classes, concepts, false);
  EXPECT_EQ(some.differentiate(planted.start, codes, planted.y, mask, 0.2F),
            all.differentiate(planted.start, codes, planted.y, mask, 0.2F));
  EXPECT_TRUE(test::same_bits(some.weights, all.weights));
  EXPECT_EQ(some.bias, all.bias);
  EXPECT_EQ(some.right, all.right);
  EXPECT_TRUE(some.mask.empty());
}

TEST(Masks, ALearnedMaskKeepsTheConceptsThatDecide) {
  const Planted planted(3);
  const SparseCodes queries = some_rows(planted.codes, 1);
  const MaskedAnswers answers =
      masked_answers(planted.start, planted.codes, planted.y, planted.neighbours(points), queries, {.steps = 200});
  EXPECT_EQ(answers.active[0], 30U);
  EXPECT_GE(answers.kept[0], 2U);
  EXPECT_LE(answers.kept[0], 8U);
  EXPECT_EQ(answers.own_accuracy[0], 1);
}

// Without a mask it is test-time training on the dense codes, which heads.h computes in another way.
TEST(Masks, WithoutAMaskTheAnswersAreThoseOfLocalHeads) {
  const Planted planted(4);
  const size_t k = 10;
  const SparseCodes queries = some_rows(planted.codes, points / k, k);
  const MaskedAnswers answers = masked_answers(planted.start, planted.codes, planted.y, planted.neighbours(k), queries,
                                               {.mask = Mask::none, .steps = 30});
  const LocalAnswers expected = local_answers(planted.start, dense_codes(planted.codes, concepts), planted.y,
                                              planted.neighbours(k), dense_codes(queries, concepts), {.steps = 30});
  // Every query is among its own neighbours, so that they have all of its concepts.
  EXPECT_LT(test::largest_difference(answers.logits, expected.logits.back()), 1e-4);
}

TEST(Masks, OfAQueryAreItsOwnConcepts) {
  const Planted planted(5);
  const SparseCodes queries = some_rows(planted.codes, 6);
  const MaskedAnswers answers = masked_answers(planted.start, planted.codes, planted.y, planted.neighbours(10), queries,
                                               {.mask = Mask::of_query});
  for (size_t q = 0; q < 6; ++q) EXPECT_EQ(answers.kept[q], queries.counts[q]);
}

TEST(Masks, AnswersDoNotDependOnOtherQueriesOrThreads) {
  const Planted planted(6);
  const SparseCodes all = some_rows(planted.codes, 6), one = some_rows(planted.codes, 1);
  const int before = threads();
  const MaskedAnswers together =
      masked_answers(planted.start, planted.codes, planted.y, planted.neighbours(10), all, {});
  set_threads(1);
  const MaskedAnswers alone =
      masked_answers(planted.start, planted.codes, planted.y, {std::span(planted.ids).first(10), 10}, one, {});
  set_threads(before);
  EXPECT_TRUE(test::same_bits(alone.logits, together.logits.view().row_range(0, 1)));
  EXPECT_EQ(alone.kept[0], together.kept[0]);
}

TEST(Masks, RefuseWhatDoesNotFit) {
  Planted planted(7);
  const SparseCodes queries = some_rows(planted.codes, 6);
  const auto ask = [&] {
    masked_answers(planted.start, planted.codes, planted.y, planted.neighbours(10), queries, {});
  };
  planted.ids[3] = points;
  HONE_EXPECT_ERROR(ask(), ErrorCode::bad_input, "neighbour 60");
  planted.ids[3] = 3;
  planted.y[5] = 3;
  HONE_EXPECT_ERROR(ask(), ErrorCode::bad_input, "label 3");
  planted.y.pop_back();
  HONE_EXPECT_ERROR(ask(), ErrorCode::bad_input, "59 labels");
  planted.y.assign(points, 0);
  planted.start.weights = Matrix(classes, 10);
  HONE_EXPECT_ERROR(ask(), ErrorCode::bad_input, "10 concepts");
  HONE_EXPECT_ERROR(dense_codes(planted.codes, 10), ErrorCode::bad_input, "of 10");
}

}  // namespace
}  // namespace hone::masks_test
