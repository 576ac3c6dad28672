// What a caller of Model gets wrong is an Error, and leaves caches as they were.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "hone/model.h"
#include "tests/expect_error.h"
#include "tests/golden.h"

namespace hone::test::misuse_test {
namespace {

class Misuse : public testing::Test {
 protected:
  std::shared_ptr<const Model> model = Model::open(tiny_model("llama"));
  int layers = model->config().layers;
  std::vector<Token> tokens = Golden("llama").list<Token>("tokens");
  std::span<const Token> text = std::span(tokens).first(7);

  Matrix forward(std::span<const Sequence> batch, int first, int last, const CancelToken& cancel = {}) const {
    return model->forward(batch, first, last, model->embed(batch), nullptr, cancel);
  }
  void expect_refused(const Adapter& adapter, std::string_view why) const {
    const Sequence sequence{.tokens = text, .adapter = &adapter};
    HONE_EXPECT_ERROR(model->forward({&sequence, 1}), ErrorCode::bad_input, why);
    HONE_EXPECT_ERROR(
        model->forward_tangents({&sequence, 1}, 0, layers, {model->embed({&sequence, 1}), {}}, {}, nullptr, nullptr),
        ErrorCode::bad_input, "no adapters");
  }
};

TEST_F(Misuse, ACacheHoldsAllLayersOfAPass) {
  KvCache cache(*model, 0, layers);
  const Sequence sequence{.tokens = text, .cache = &cache};
  HONE_EXPECT_ERROR(forward({&sequence, 1}, 0, layers - 1), ErrorCode::bad_input, "other layers");
  HONE_EXPECT_ERROR(forward({&sequence, 1}, 1, layers), ErrorCode::bad_input, "other layers");
  EXPECT_EQ(cache.length(), 0U);
  for (const auto& [first, last] : {std::pair(-1, 1), std::pair(2, 1), std::pair(0, layers + 1)})
    HONE_EXPECT_ERROR(KvCache(*model, first, last), ErrorCode::bad_input, "does not fit a model");
}

TEST_F(Misuse, ACacheIsOfItsOwnModel) {
  const auto other = Model::open(tiny_model("gemma3"));
  ASSERT_NE(other->config().head_dim, model->config().head_dim);
  KvCache cache(*other, 0, layers);
  const Sequence sequence{.tokens = text, .cache = &cache};
  HONE_EXPECT_ERROR(forward({&sequence, 1}, 0, layers), ErrorCode::bad_input, "another model's");
  EXPECT_EQ(cache.length(), 0U);
}

TEST_F(Misuse, TwoSequencesNeedTwoCaches) {
  KvCache cache(*model, 0, layers);
  const std::vector<Sequence> batch(2, Sequence{.tokens = text, .cache = &cache});
  HONE_EXPECT_ERROR(forward(batch, 0, layers), ErrorCode::bad_input, "the same cache");
  EXPECT_EQ(cache.length(), 0U);
}

// Cancelled ever later, until a pass comes to its end: in between, some layers have written and others have not.
TEST_F(Misuse, APassThatIsCancelledLeavesCachesAsTheyWere) {
  KvCache cache(*model, 0, layers);
  const Sequence sequence{.tokens = text, .cache = &cache};
  const Matrix first = forward({&sequence, 1}, 0, layers);
  std::vector<Token> more;
  for (size_t i = 0; i < 400; ++i) more.push_back(tokens[i % tokens.size()]);
  const Sequence longer{.tokens = more, .cache = &cache};
  bool finished = false;
  for (auto delay = std::chrono::microseconds(0); !finished; delay += delay / 4 + std::chrono::microseconds(50)) {
    const CancelToken cancel;
    std::atomic<bool> begun = false;
    std::thread late([&] {
      begun = true;
      const auto end = std::chrono::steady_clock::now() + delay;
      while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
      cancel.cancel();
    });
    while (!begun) std::this_thread::yield();
    try {
      forward({&longer, 1}, 0, layers, cancel);
      finished = true;
    } catch (const Error& error) {
      EXPECT_EQ(error.code, ErrorCode::cancelled);
    }
    late.join();
    if (!finished) {
      ASSERT_EQ(cache.length(), text.size());
    }
  }
  cache.truncate(0);
  EXPECT_TRUE(same_bits(forward({&sequence, 1}, 0, layers), first));
}

TEST_F(Misuse, AdditionsOfAnotherShape) {
  const MatrixId q{0, MatrixKind::q};
  const auto [out, in] = model->shape(q);
  Adapter dense, quantized, rank, beyond;
  dense.dense.emplace(q, Matrix(out + 1, in));
  expect_refused(dense, "to L0.q");
  quantized.dense.emplace(q, Matrix(out, in + 1));
  quantized.quantize();
  expect_refused(quantized, "to L0.q");
  rank.low_rank.emplace(q, Adapter::LowRank{Matrix(2, in), Matrix(out, 3)});
  expect_refused(rank, "rank 2");
  rank.low_rank.insert_or_assign(q, Adapter::LowRank{Matrix(0, in), Matrix(out, 0)});
  expect_refused(rank, "rank 0");
  beyond.dense.emplace(MatrixId{layers, MatrixKind::q}, Matrix(out, in));
  expect_refused(beyond, "layers");

  const Sequence sequence{.tokens = text};
  HONE_EXPECT_ERROR(model->forward_tangents({&sequence, 1}, 0, layers, {model->embed({&sequence, 1}), {}}, {&dense, 1},
                                            nullptr, nullptr),
                    ErrorCode::bad_input, "to L0.q");
  HONE_EXPECT_ERROR(model->shape({layers, MatrixKind::q}), ErrorCode::bad_input, "layers");
  HONE_EXPECT_ERROR(model->shape({-1, MatrixKind::q}), ErrorCode::bad_input, "layers");
}

TEST_F(Misuse, RowsThatAreNotTheLastLayers) {
  const auto width = static_cast<size_t>(model->config().width),
             vocabulary = static_cast<size_t>(model->config().vocabulary);
  const Matrix wide(2, width + 1), right(2, width);
  const std::vector<Token> some = {tokens[0], tokens[1]};
  HONE_EXPECT_ERROR(model->logits(wide), ErrorCode::bad_input, "last layer");
  HONE_EXPECT_ERROR(model->logits(wide, some), ErrorCode::bad_input, "last layer");
  HONE_EXPECT_ERROR(model->losses(wide, some), ErrorCode::bad_input, "last layer");
  HONE_EXPECT_ERROR(model->logits(right, std::span<const Token>()), ErrorCode::bad_input, "no tokens");
  HONE_EXPECT_ERROR(model->head_backward(right, Matrix(2, 0), std::span<const Token>()), ErrorCode::bad_input,
                    "no tokens");
  HONE_EXPECT_ERROR(model->head_backward(wide, Matrix(2, vocabulary)), ErrorCode::bad_input, "last layer");
  HONE_EXPECT_ERROR(model->head_backward(right, Matrix(2, vocabulary - 1)), ErrorCode::bad_input, "does not fit");
  HONE_EXPECT_ERROR(model->head_backward(right, Matrix(1, vocabulary)), ErrorCode::bad_input, "does not fit");
}

TEST_F(Misuse, MatricesThatNoMemoryHolds) {
  for (const auto& [rows, cols] :
       {std::pair(size_t{1} << 60, size_t{576}), {size_t{1} << 40, size_t{1} << 40}, {size_t{1} << 61, size_t{1}}})
    EXPECT_THROW(Matrix::uninitialized(rows, cols), std::bad_alloc) << rows << " x " << cols;
}

TEST_F(Misuse, ATapeThatWasNotFilled) {
  HONE_EXPECT_ERROR(model->backward(Tape(), Matrix(), {}), ErrorCode::bad_input, "a tape");
  const Sequence sequence{.tokens = text};
  Tape tape;
  model->forward({&sequence, 1}, 0, layers, model->embed({&sequence, 1}), &tape);
  HONE_EXPECT_ERROR(model->backward(tape, Matrix(text.size() + 1, 1), {}), ErrorCode::bad_input, "does not fit a tape");
}

}  // namespace
}  // namespace hone::test::misuse_test
