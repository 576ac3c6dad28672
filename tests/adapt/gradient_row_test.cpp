// Gradient rows and corpus statistics as bytes: what four bits a value keep, and what damaged bytes do.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "adapt/gradients.h"
#include "base/random.h"
#include "tests/data.h"
#include "tests/golden.h"

namespace hone::test::gradient_row_test {
namespace {

using Values = double (*)(RandomStream&);

double gaussian(RandomStream& random) { return random.normal(); }
// Student's t with three degrees of freedom: finite variance, infinite fourth moment.
double heavy_tailed(RandomStream& random) {
  double chi = 0;
  for (int i = 0; i < 3; ++i) chi += std::pow(random.normal(), 2);
  return random.normal() / std::sqrt(chi / 3);
}

Matrix random_matrix(RandomStream& random, size_t rows, size_t cols, Values values, double scale = 1) {
  Matrix m(rows, cols);
  for (size_t i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(scale * values(random));
  return m;
}

std::vector<float> positive(RandomStream& random, size_t size, double spread) {
  std::vector<float> result(size);
  for (float& x : result) x = static_cast<float>(std::exp(spread * random.normal()));
  return result;
}

CorpusStatistics random_statistics(RandomStream& random, const std::map<MatrixId, Matrix>& gradients,
                                   double spread = 1) {
  CorpusStatistics statistics;
  statistics.first_layer = gradients.begin()->first.layer;
  for (const auto& [id, g] : gradients)
    statistics.blocks[id] = {positive(random, g.rows(), spread), positive(random, g.cols(), spread), 1.5F};
  return statistics;
}

// G / D.
Matrix preconditioned(const Matrix& g, const CorpusStatistics::Block& block) {
  Matrix result(g.rows(), g.cols());
  for (size_t o = 0; o < g.rows(); ++o)
    for (size_t i = 0; i < g.cols(); ++i) result.row(o)[i] = g.row(o)[i] / (block.row[o] * block.column[i]);
  return result;
}

// G = D ∘ values: gradients of the scale that the statistics were learned from.
std::map<MatrixId, Matrix> scaled(std::map<MatrixId, Matrix> values, const CorpusStatistics& statistics) {
  for (auto& [id, g] : values) {
    const CorpusStatistics::Block& block = statistics.blocks.at(id);
    for (size_t o = 0; o < g.rows(); ++o)
      for (size_t i = 0; i < g.cols(); ++i) g.row(o)[i] *= block.row[o] * block.column[i];
  }
  return values;
}

std::vector<std::byte> encode_gradient_row(const std::map<MatrixId, Matrix>& gradients,
                                           const CorpusStatistics& statistics) {
  std::vector<std::byte> row = empty_gradient_row(statistics);
  for (const auto& [id, gradient] : gradients) encode_gradient(id, gradient, statistics, row);
  return row;
}

double cosine(const Matrix& a, const Matrix& b) {
  double dot = 0;
  for (size_t i = 0; i < a.size(); ++i) dot += static_cast<double>(a.data()[i]) * b.data()[i];
  return dot / norm({a.data(), a.size()}) / norm({b.data(), b.size()});
}

Adapter decoded(const std::vector<std::vector<std::byte>>& rows, const CorpusStatistics& statistics, float weight = 1) {
  Adapter direction;
  std::vector<StoredRow> stored;
  for (const std::vector<std::byte>& row : rows) {
    EXPECT_TRUE(is_gradient_row(row, statistics));
    stored.emplace_back(row);
  }
  for (const auto& [id, block] : statistics.blocks)
    direction.dense.emplace(id, sum_gradient_rows(stored, statistics, id, weight));
  return direction;
}

Adapter decoded(const std::vector<std::byte>& row, const CorpusStatistics& statistics, float weight = 1) {
  return decoded(std::vector<std::vector<std::byte>>{row}, statistics, weight);
}

class GradientRow : public testing::Test {
 protected:
  const MatrixId v{1, MatrixKind::v}, down{2, MatrixKind::down};
  RandomStream random{7, "gradient rows"};

  std::map<MatrixId, Matrix> two_matrices(Values values = gaussian) {
    std::map<MatrixId, Matrix> gradients;
    gradients[v] = random_matrix(random, 24, 64, values, 1e-3);
    gradients[down] = random_matrix(random, 64, 97, values, 10);
    return gradients;
  }
};

TEST_F(GradientRow, FourBitsKeepTheDirection) {
  for (const auto& [values, least_cosine, most_error] :
       {std::tuple{&gaussian, 0.994, 0.11}, std::tuple{&heavy_tailed, 0.98, 0.20}}) {
    std::map<MatrixId, Matrix> raw = two_matrices(values);
    const CorpusStatistics statistics = random_statistics(random, raw);
    const std::map<MatrixId, Matrix> gradients = scaled(std::move(raw), statistics);
    const Adapter direction = decoded(encode_gradient_row(gradients, statistics), statistics);
    for (const auto& [id, g] : gradients) {
      const Matrix exact = preconditioned(g, statistics.blocks.at(id));
      const double similarity = cosine(direction.dense.at(id), exact);
      const double error = relative_difference(direction.dense.at(id), exact);
      const std::string measured = values == gaussian ? "gaussian" : "heavy_tailed";
      RecordProperty(measured + "_" + name(id) + "_cosine", std::to_string(similarity));
      EXPECT_GT(similarity, least_cosine) << measured << ' ' << name(id);
      EXPECT_LT(error, most_error) << measured << ' ' << name(id);
    }
  }
}

TEST_F(GradientRow, NoValueIsFurtherOffThanHalfAStepOfItsBlock) {
  for (const size_t in : {1, 15, 16, 17, 31, 32, 33, 63, 64, 65}) {
    std::map<MatrixId, Matrix> gradients;
    gradients[v] = random_matrix(random, 5, in, gaussian);
    const CorpusStatistics statistics = random_statistics(random, gradients);
    const Adapter direction = decoded(encode_gradient_row(gradients, statistics), statistics);
    const Matrix exact = preconditioned(gradients.at(v), statistics.blocks.at(v));
    for (size_t o = 0; o < exact.rows(); ++o)
      for (size_t i = 0; i < in; ++i) {
        const std::span<const float> block = exact.row(o).subspan(i / 32 * 32, std::min<size_t>(32, in - i / 32 * 32));
        float top = 0;
        for (const float x : block) top = std::max(top, std::fabs(x));
        const float step = top / 7 * (1 + 0x1p-7F);  // bf16 has eight significant bits
        EXPECT_NEAR(direction.dense.at(v).row(o)[i], exact.row(o)[i], step / 2 * 1.001F) << in << " columns, " << i;
      }
  }
}

TEST_F(GradientRow, ZeroGradientsAreZeroAndWeightsAdd) {
  std::map<MatrixId, Matrix> gradients = two_matrices();
  const CorpusStatistics statistics = random_statistics(random, gradients);
  const std::vector<std::byte> row = encode_gradient_row(gradients, statistics);
  std::map<MatrixId, Matrix> zeros;
  for (const auto& [id, g] : gradients) zeros[id] = Matrix(g.rows(), g.cols());

  const std::vector<std::byte> zero_row = encode_gradient_row(zeros, statistics);
  for (const auto& [id, delta] : decoded(zero_row, statistics).dense) EXPECT_EQ(norm({delta.data(), delta.size()}), 0);
  const Adapter twice = decoded({row, zero_row, row}, statistics, -0.625F), once = decoded(row, statistics, -1.25F);
  for (const auto& [id, delta] : once.dense) EXPECT_LT(relative_difference(twice.dense.at(id), delta), 1e-6);
}

TEST_F(GradientRow, ARowServesLaterStatisticsAsIfItWereEncodedAgain) {
  std::map<MatrixId, Matrix> raw = two_matrices();
  const CorpusStatistics written = random_statistics(random, raw);
  const std::map<MatrixId, Matrix> gradients = scaled(std::move(raw), written);
  CorpusStatistics later = random_statistics(random, gradients, 0.3);  // drifted by a third
  for (auto& [id, block] : later.blocks) {
    const CorpusStatistics::Block& old = written.blocks.at(id);
    for (size_t o = 0; o < block.row.size(); ++o) block.row[o] *= old.row[o];
    for (size_t i = 0; i < block.column.size(); ++i) block.column[i] *= old.column[i];
  }
  const Adapter rescaled = decoded(encode_gradient_row(gradients, written), later);
  const Adapter again = decoded(encode_gradient_row(gradients, later), later);
  for (const auto& [id, g] : gradients) {
    const Matrix exact = preconditioned(g, later.blocks.at(id));
    EXPECT_LT(relative_difference(rescaled.dense.at(id), exact), 0.11);
    EXPECT_LT(relative_difference(again.dense.at(id), exact), 0.11);
    EXPECT_GT(cosine(rescaled.dense.at(id), again.dense.at(id)), 0.99);
  }

  // Without quantisation error (all values of the old G / D are multiples of its step) the rescaling is exact.
  std::map<MatrixId, Matrix> exact;
  exact[v] = Matrix(4, 64);
  CorpusStatistics old = random_statistics(random, exact), fresh = random_statistics(random, exact);
  for (size_t o = 0; o < 4; ++o)
    for (size_t i = 0; i < 64; ++i)
      exact[v].row(o)[i] = (static_cast<float>(random.below(15)) - 7) * old.blocks[v].row[o] * old.blocks[v].column[i];
  for (size_t o = 0; o < 4; ++o)
    for (const size_t i : {0, 32}) exact[v].row(o)[i] = 7 * old.blocks[v].row[o] * old.blocks[v].column[i];
  const Adapter direction = decoded(encode_gradient_row(exact, old), fresh);
  EXPECT_LT(relative_difference(direction.dense.at(v), preconditioned(exact[v], fresh.blocks[v])), 0.01);
}

TEST_F(GradientRow, OtherBytesAreRefused) {
  const std::map<MatrixId, Matrix> gradients = two_matrices();
  const CorpusStatistics statistics = random_statistics(random, gradients);
  const std::vector<std::byte> row = encode_gradient_row(gradients, statistics);
  EXPECT_TRUE(is_gradient_row(row, statistics));
  const auto refused = [&](std::span<const std::byte> bytes, const std::string& what) {
    EXPECT_FALSE(is_gradient_row(bytes, statistics)) << what;
  };

  for (size_t size = 0; size < row.size(); size += 1 + size / 16) refused(std::span(row).first(size), "truncated");
  refused(std::span(row).first(row.size() - 1), "one byte short");
  std::vector<std::byte> longer = row;
  longer.push_back({});
  refused(longer, "one byte long");
  refused(std::vector<std::byte>(row.size()), "zeros");
  std::vector<std::byte> garbage(row.size());
  for (std::byte& b : garbage) b = static_cast<std::byte>(random.below(256));
  refused(garbage, "garbage");
  for (size_t field = 0; field < 24; ++field) {
    std::vector<std::byte> other = row;
    other[field] ^= std::byte{1};
    refused(other, "header of the first matrix");
  }

  std::map<MatrixId, Matrix> swapped;  // as many bytes, other matrices
  swapped[{0, MatrixKind::v}] = random_matrix(random, 24, 64, gaussian);
  swapped[down] = random_matrix(random, 64, 97, gaussian);
  refused(encode_gradient_row(swapped, random_statistics(random, swapped)), "another layer");
  std::map<MatrixId, Matrix> transposed;
  transposed[v] = random_matrix(random, 64, 24, gaussian);
  transposed[down] = random_matrix(random, 64, 97, gaussian);
  refused(encode_gradient_row(transposed, random_statistics(random, transposed)), "another shape");
}

TEST(MeanLossGradient, ReturnsTheMeanLossOfItsTargets) {
  for (const char* name : {"llama", "qwen2", "gemma3"}) {
    const auto model = Model::open(tiny_model(name));
    const std::vector<Token> tokens = Golden(name).list<Token>("tokens");
    const std::span<const Token> text = std::span(tokens).first(40);
    const Sequence sequence{text};
    const std::vector<float> losses =
        model->losses(model->forward({&sequence, 1}).view().row_range(0, 39), text.subspan(1));
    for (const size_t first : {1, 7, 39}) {
      double mean = 0;
      for (size_t t = first; t < 40; ++t) mean += losses[t - 1] / static_cast<double>(40 - first);
      EXPECT_NEAR(mean_loss_gradient(*model, text, first, 1, nullptr, {}, {}, {}), mean, 1e-5) << name << ' ' << first;
    }
    for (const size_t first : {0, 40, 41})
      EXPECT_THROW(mean_loss_gradient(*model, text, first, 1, nullptr, {}, {}, {}), Error) << first;
  }
}

std::map<MatrixId, Matrix> gradients_of(const Model& model, std::span<const Token> text, int first_layer,
                                        Precision products) {
  WeightGradientSink sink;
  GradientSink* const sinks[] = {&sink};
  mean_loss_gradient(model, text, 1, first_layer, nullptr, {}, sinks, {}, products);
  return sink.take();
}

TEST(MeanLossGradient, InInt8OnlyWhereTheModelIsAndItIsWanted) {
  for (const char* name : {"llama", "qwen2", "gemma3"}) {
    const auto fp32 = Model::open(tiny_model(name));
    const auto int8 = Model::open(tiny_model(name), {.precision = Precision::int8});
    const std::vector<Token> tokens = Golden(name).list<Token>("tokens");
    const std::span<const Token> text = std::span(tokens).first(40);
    const auto wanted = gradients_of(*fp32, text, 0, Precision::fp32),
               same = gradients_of(*fp32, text, 0, Precision::int8);
    const auto plain = gradients_of(*int8, text, 0, Precision::fp32),
               close = gradients_of(*int8, text, 0, Precision::int8);
    for (const auto& [id, gradient] : plain) {
      EXPECT_TRUE(std::equal(wanted.at(id).data(), wanted.at(id).data() + gradient.size(), same.at(id).data()));
      EXPECT_GT(cosine(gradient, close.at(id)), 0.98) << hone::name(id);
      EXPECT_FALSE(std::equal(gradient.data(), gradient.data() + gradient.size(), close.at(id).data()));
    }
  }
}

// docs/decisions.md says what other ways of rounding give here.
TEST(RealMeanLossGradient, InInt8PointsWhereThatInFp32Does) {
  HONE_NEED_FILE(smollm2());
  const auto fp32 = Model::open(smollm2());
  const auto int8 = Model::open(smollm2(), {.precision = Precision::int8});
  const std::vector<Token> text = fp32->tokenizer().encode(
      "def read_lines(path):\n    \"\"\"The lines of a file, without their ends.\"\"\"\n    with open(path) as file:\n"
      "        return [line.rstrip() for line in file]\n\n\ndef count_words(lines):\n    words = {}\n"
      "    for line in lines:\n        for word in line.split():\n            words[word] = words.get(word, 0) + 1\n"
      "    return words\n");
  const auto wanted = gradients_of(*fp32, text, 22, Precision::fp32),
             got = gradients_of(*int8, text, 22, Precision::int8);
  for (const auto& [id, gradient] : wanted) EXPECT_GT(cosine(gradient, got.at(id)), 0.96) << hone::name(id);
}

CorpusStatistics some_statistics() {
  RandomStream random(3, "statistics");
  std::map<MatrixId, Matrix> gradients;
  gradients[{1, MatrixKind::q}] = Matrix(3, 5);
  gradients[{1, MatrixKind::down}] = Matrix(5, 9);
  gradients[{2, MatrixKind::o}] = Matrix(1, 1);
  return random_statistics(random, gradients);
}

TEST(CorpusStatisticsBytes, RoundTrip) {
  for (const CorpusStatistics& statistics : {some_statistics(), CorpusStatistics{}}) {
    const std::vector<std::byte> bytes = statistics.serialize();
    const CorpusStatistics read = CorpusStatistics::deserialize(bytes);
    EXPECT_EQ(read.first_layer, statistics.first_layer);
    ASSERT_EQ(read.blocks.size(), statistics.blocks.size());
    for (const auto& [id, block] : statistics.blocks) {
      EXPECT_EQ(read.blocks.at(id).row, block.row);
      EXPECT_EQ(read.blocks.at(id).column, block.column);
      EXPECT_EQ(read.blocks.at(id).relative_step, block.relative_step);
    }
    EXPECT_EQ(read.serialize(), bytes);
  }
}

TEST(CorpusStatisticsBytes, DamageIsAnErrorOrAValueOfTheSameSize) {
  const std::vector<std::byte> bytes = some_statistics().serialize();
  RandomStream random(4, "mutations");
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> damaged = bytes;
    if (round % 4 == 0) damaged.resize(random.below(bytes.size()));
    for (uint64_t changes = random.below(4) + (round % 4 ? 1 : 0); changes > 0 && !damaged.empty(); --changes) {
      const size_t at = random.below(damaged.size());
      constexpr uint8_t extremes[] = {0, 0xff, 0x7f, 0x80};
      damaged[at] = static_cast<std::byte>(changes % 2 ? extremes[random.below(4)] : random.below(256));
    }
    try {
      const CorpusStatistics read = CorpusStatistics::deserialize(damaged);
      size_t values = 0;
      for (const auto& [id, block] : read.blocks) values += block.row.size() + block.column.size();
      EXPECT_LE(values * sizeof(float), damaged.size());
    } catch (const Error& error) {
      EXPECT_EQ(error.code, ErrorCode::corrupt) << error.message;
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace hone::test::gradient_row_test
