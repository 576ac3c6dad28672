// A row's result does not depend, to the last bit, on the rest of the batch, nor on how the work is cut.
#include <gtest/gtest.h>

#include <tuple>

#include "hone/model.h"
#include "tests/data.h"
#include "tests/golden.h"

namespace hone::test::invariance_test {
namespace {

// Dense additions to the value matrices of the upper layers.
Adapter dense_addition(const Model& model) {
  Adapter adapter;
  for (int layer = 1; layer < model.config().layers; ++layer) {
    const MatrixId id{layer, MatrixKind::v};
    const auto [out, in] = model.shape(id);
    adapter.dense[id] = generated_matrix(1000 + static_cast<uint64_t>(layer), out, in, 0.1);
  }
  return adapter;
}

class Invariance : public testing::TestWithParam<std::tuple<const char*, Precision>> {
 protected:
  std::string name = std::get<0>(GetParam());
  std::shared_ptr<const Model> model = Model::open(tiny_model(name), {.precision = std::get<1>(GetParam())});
  int layers = model->config().layers;
  std::vector<Token> tokens = Golden(name).list<Token>("tokens");
  Adapter lora = generated_lora(*model, 3, 0.1);
  Adapter dense = dense_addition(*model);
  // Texts of all lengths, each with its own adapter and step.
  std::vector<Sequence> batch{
      {.tokens = std::span(tokens).subspan(0, 1), .adapter = &lora},
      {.tokens = std::span(tokens).subspan(1, 17)},
      {.tokens = std::span(tokens).subspan(5, 23), .adapter = &dense, .step = 0.25F},
      {.tokens = std::span(tokens).subspan(18, 40), .adapter = &lora, .step = 0.5F},
  };
};

TEST_P(Invariance, ASequenceAloneGivesTheRowsOfThePackedBatch) {
  const Matrix packed = model->forward(batch);
  const Matrix packed_logits = model->logits(packed);
  size_t start = 0;
  for (const Sequence& sequence : batch) {
    const Matrix alone = model->forward({&sequence, 1});
    const size_t rows = sequence.tokens.size();
    EXPECT_TRUE(same_bits(alone, packed.view().row_range(start, rows))) << rows << " tokens";
    EXPECT_TRUE(same_bits(model->logits(alone), packed_logits.view().row_range(start, rows))) << rows << " tokens";
    start += rows;
  }
}

TEST_P(Invariance, ThreadsDoNotMatter) {
  const int before = threads();
  set_threads(1);
  const Matrix one = model->forward(batch);
  set_threads(3);
  const Matrix three = model->forward(batch);
  set_threads(before);
  EXPECT_TRUE(same_bits(one, three));
}

TEST_P(Invariance, TokensThroughACacheGiveTheRowsOfTheWholeText) {
  for (const Sequence& whole : batch) {
    const Matrix expected = model->forward({&whole, 1});
    for (size_t piece : {size_t{1}, size_t{3}, size_t{16}}) {
      KvCache cache(*model, 0, layers);
      for (size_t start = 0; start < whole.tokens.size(); start += piece) {
        Sequence part = whole;
        part.tokens = whole.tokens.subspan(start, std::min(piece, whole.tokens.size() - start));
        part.cache = &cache;
        const Matrix rows = model->forward({&part, 1});
        ASSERT_TRUE(same_bits(rows, expected.view().row_range(start, part.tokens.size())))
            << "token " << start << " of " << whole.tokens.size() << " in pieces of " << piece;
        ASSERT_EQ(cache.length(), start + part.tokens.size());
      }
    }
  }
}

TEST_P(Invariance, CachesOfABatchAndTruncation) {
  const Matrix expected = model->forward(batch);
  std::vector<KvCache> caches;
  for (size_t b = 0; b < batch.size(); ++b) caches.emplace_back(*model, 0, layers);
  std::vector<Sequence> first = batch, second = batch;
  for (size_t b = 0; b < batch.size(); ++b) {
    first[b].cache = second[b].cache = &caches[b];
    second[b].tokens = batch[b].tokens.subspan(batch[b].tokens.size() / 2);
  }
  model->forward(first);
  for (size_t b = 0; b < batch.size(); ++b) caches[b].truncate(batch[b].tokens.size() / 2);
  std::vector<KvCache> copies;
  for (const KvCache& cache : caches) copies.push_back(cache.copy());
  const Matrix again = model->forward(second);
  for (size_t b = 0; b < batch.size(); ++b) second[b].cache = &copies[b];
  EXPECT_TRUE(same_bits(again, model->forward(second))) << "a copy of a cache";
  size_t whole = 0, half = 0;
  for (size_t b = 0; b < batch.size(); ++b) {
    const size_t rows = second[b].tokens.size();
    EXPECT_TRUE(same_bits(again.view().row_range(half, rows),
                          expected.view().row_range(whole + batch[b].tokens.size() - rows, rows)))
        << "sequence " << b;
    whole += batch[b].tokens.size();
    half += rows;
  }
}

// Texts that are longer than a cache's pages, which copies share.
class PagedInvariance : public Invariance {
 protected:
  PagedInvariance() {
    for (size_t i = 0; i < 170; ++i) {
      text.push_back(tokens[i % tokens.size()]);
      other.push_back(tokens[(7 * i + 3) % tokens.size()]);
    }
  }
  Matrix whole(std::span<const Token> of) const {
    const Sequence sequence{.tokens = of};
    return model->forward({&sequence, 1});
  }
  Matrix read(KvCache& cache, std::span<const Token> of) const {
    const Sequence sequence{.tokens = of, .cache = &cache};
    return model->forward({&sequence, 1});
  }
  std::vector<Token> text, other;
};

TEST_P(PagedInvariance, PiecesOfALongTextGiveItsRows) {
  const Matrix expected = whole(text);
  for (const size_t piece : {1, 63, 64, 65, 130}) {
    KvCache cache(*model, 0, layers);
    for (size_t start = 0; start < text.size(); start += piece) {
      const size_t count = std::min(piece, text.size() - start);
      ASSERT_TRUE(
          same_bits(read(cache, std::span(text).subspan(start, count)), expected.view().row_range(start, count)))
          << "token " << start << " in pieces of " << piece;
    }
  }
}

TEST_P(PagedInvariance, CopiesInOneBatchGoTheirOwnWays) {
  KvCache cache(*model, 0, layers);
  read(cache, std::span(text).first(100));
  KvCache copy = cache.copy();
  std::vector<Token> mixed(text.begin(), text.begin() + 100);
  mixed.insert(mixed.end(), other.begin(), other.begin() + 40);
  const Sequence both[] = {{.tokens = std::span(text).subspan(100, 60), .cache = &cache},
                           {.tokens = std::span(other).first(40), .cache = &copy}};
  const Matrix rows = model->forward(both);
  EXPECT_TRUE(same_bits(rows.view().row_range(0, 60), whole(text).view().row_range(100, 60)));
  EXPECT_TRUE(same_bits(rows.view().row_range(60, 40), whole(mixed).view().row_range(100, 40)));
}

TEST_P(PagedInvariance, WhatACopyOfACacheReadsChangesNoOther) {
  KvCache cache(*model, 0, layers);
  read(cache, std::span(text).first(150));
  for (const size_t kept : {150, 149, 128, 127, 70, 64, 1}) {
    KvCache copy = cache.copy();
    copy.truncate(kept);
    std::vector<Token> mixed(text.begin(), text.begin() + static_cast<ptrdiff_t>(kept));
    mixed.insert(mixed.end(), other.begin(), other.begin() + 90);
    const Matrix rows = read(copy, std::span(other).first(90));
    EXPECT_TRUE(same_bits(rows, whole(mixed).view().row_range(kept, 90))) << kept << " tokens kept";
    EXPECT_EQ(copy.length(), kept + 90);
  }
  EXPECT_EQ(cache.length(), 150);
  EXPECT_TRUE(same_bits(read(cache, std::span(text).subspan(150)), whole(text).view().row_range(150, 20)));
}

TEST_P(Invariance, LayersInTwoCallsGiveTheSameAsInOne) {
  const Matrix expected = model->forward(batch);
  for (int split = 0; split <= layers; ++split) {
    Matrix lower = model->forward(batch, 0, split, model->embed(batch));
    EXPECT_TRUE(same_bits(model->forward(batch, split, layers, std::move(lower)), expected)) << "split at " << split;
  }
}

TEST_P(Invariance, ATapeChangesNothing) {
  Tape tape;
  const Matrix taped = model->forward(batch, 0, layers, model->embed(batch), &tape);
  EXPECT_TRUE(same_bits(taped, model->forward(batch)));
  EXPECT_GT(tape.bytes(), 0U);
}

TEST_P(Invariance, LossesOfARowDoNotDependOnOtherRows) {
  const Matrix hidden = model->forward(batch);
  std::vector<Token> targets;
  for (size_t r = 0; r < hidden.rows(); ++r) targets.push_back(tokens[r % tokens.size()]);
  const std::vector<float> together = model->losses(hidden, targets);
  const Matrix logits = model->logits(hidden);
  for (size_t r = 0; r < hidden.rows(); ++r) {
    EXPECT_EQ(model->losses(hidden.view().row_range(r, 1), std::span(targets).subspan(r, 1))[0], together[r]);
    const double largest = *std::ranges::max_element(logits.row(r));
    double sum = 0;
    for (float logit : logits.row(r)) sum += std::exp(logit - largest);
    EXPECT_NEAR(largest + std::log(sum) - logits.row(r)[static_cast<size_t>(targets[r])], together[r], 1e-4);
  }
}

const auto tiny_models = testing::Combine(testing::Values("llama", "llama_untied", "qwen2", "gemma3"),
                                          testing::Values(Precision::fp32, Precision::int8));
INSTANTIATE_TEST_SUITE_P(Models, Invariance, tiny_models, model_and_precision);
INSTANTIATE_TEST_SUITE_P(Models, PagedInvariance, tiny_models, model_and_precision);

struct RealModel {
  const char* name;
  std::filesystem::path (*path)();
  Precision precision;
};

class RealInvariance : public testing::TestWithParam<RealModel> {};

TEST_P(RealInvariance, PackedCachedAndAloneAgree) {
  const std::filesystem::path path = GetParam().path();
  HONE_NEED_FILE(path);
  const auto model = Model::open(path, {.precision = GetParam().precision});
  const std::vector<Token> tokens = Golden(std::string(GetParam().name) + "_real").list<Token>("tokens");
  const std::vector<Sequence> batch{{.tokens = std::span(tokens).first(100)}, {.tokens = std::span(tokens).first(37)}};
  const Matrix packed = model->forward(batch);
  EXPECT_TRUE(same_bits(model->forward({batch.data(), 1}), packed.view().row_range(0, 100)));
  EXPECT_TRUE(same_bits(packed.view().row_range(0, 37), packed.view().row_range(100, 37)));
  KvCache cache(*model, 0, model->config().layers);
  for (size_t start = 0, count = 90; start < 100; start += count, count = 1) {
    const Sequence part{.tokens = std::span(tokens).subspan(start, count), .cache = &cache};
    ASSERT_TRUE(same_bits(model->forward({&part, 1}), packed.view().row_range(start, count))) << "token " << start;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, RealInvariance,
                         testing::Values(RealModel{"smollm2", smollm2, Precision::fp32},
                                         RealModel{"smollm2", smollm2, Precision::int8},
                                         RealModel{"gemma3", gemma3, Precision::fp32},
                                         RealModel{"gemma3", gemma3, Precision::int8}),
                         [](const auto& parameter) {
                           const bool fp32 = parameter.param.precision == Precision::fp32;
                           return std::string(parameter.param.name) + (fp32 ? "_fp32" : "_int8");
                         });

}  // namespace
}  // namespace hone::test::invariance_test
