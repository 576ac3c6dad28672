// How well an autoencoder describes activations, and reading codes block by block.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "hone/data.h"
#include "interpret/encode.h"
#include "tests/golden.h"
#include "tests/small_sae.h"
#include "tests/temporary_folder.h"

namespace hone::sae_evaluation_test {
namespace {

using test::normals;
using test::TemporaryFolder;

// Features ±e_j with all active ones positive reconstruct anything.
TEST(SaeEvaluation, OfAPerfectAutoencoder) {
  const TemporaryFolder folder;
  Sae sae = Sae::create({.inputs = 4, .features = 9, .active = 9, .relu = true}, 0);
  sae.encoder = Matrix(9, 4);
  for (size_t j = 0; j < 4; ++j) {
    sae.encoder.row(j)[j] = 1;
    sae.encoder.row(4 + j)[j] = -1;
  }
  sae.encoder.row(8)[0] = 1;
  sae.encoder_bias[8] = -2;  // never fires
  sae.decoder = sae.encoder.copy();
  write_npy(folder.path() / "x.npy", normals(5000, 4, "x"));
  const auto source = open_activations(folder.path() / "x.npy", 0);
  const SaeEvaluation perfect = evaluate(sae, *source, 0, 1e-4, {});
  EXPECT_EQ(perfect.rows, 5000U);
  EXPECT_NEAR(perfect.explained_variance, 1, 1e-6);
  EXPECT_NEAR(perfect.l0, 4, 1e-9);
  EXPECT_NEAR(perfect.dead_share, 1.0 / 9, 1e-9);
  // Without the first coordinate a quarter of isotropic variance is missing.
  sae.decoder.row(0)[0] = 0;
  sae.decoder.row(4)[0] = 0;
  EXPECT_NEAR(evaluate(sae, *source, 4096, 1e-4, {}).explained_variance, 0.75, 0.02);
}

// An autoencoder that keeps all of its features: the rows' codes do not fit one block.
class WideSae : public ::testing::Test {
 protected:
  static constexpr size_t features = 20000, rows = 430;

  WideSae()
      : sae_(Sae::create({.inputs = 4, .features = features, .active = features, .unit_inputs = false, .relu = true},
                         0)),
        x_(normals(rows, 4, "wide")) {
    sae_.encoder_bias[0] = 1000;                                                   // fires in every row
    for (size_t j = 0; j < 4; ++j) x_.row(425)[j] = 100 * sae_.encoder.row(0)[j];  // and most in this one
    write_npy(folder_.path() / "x.npy", x_);
    source_ = open_activations(folder_.path() / "x.npy", 0);
  }

  TemporaryFolder folder_;
  Sae sae_;
  Matrix x_;
  std::unique_ptr<ActivationBatches> source_;
};

TEST_F(WideSae, IsReadInBlocks) {
  std::vector<size_t> starts;
  encode_in_blocks(sae_, x_, [&](size_t first, const SparseCodes& codes) {
    starts.push_back(first);
    EXPECT_LE(codes.rows() * features * 8, 64000000U);
  });
  EXPECT_EQ(starts, (std::vector<size_t>{0, 400}));
}

TEST_F(WideSae, BlocksAreNoDifference) {
  const SparseCodes codes = sae_.encode(x_);
  const Matrix decoded = sae_.decode(codes, sae_.directions());
  EXPECT_TRUE(test::same_bits(sae_.reconstruct(x_), decoded));
  double error = 0, kept = 0;
  std::vector<uint64_t> firings(features);
  for (size_t i = 0; i < rows; ++i) {
    kept += codes.counts[i];
    for (const uint32_t feature : codes.row_features(i)) ++firings[feature];
    for (size_t j = 0; j < 4; ++j) error += std::pow(static_cast<double>(x_.row(i)[j]) - decoded.row(i)[j], 2);
  }
  const SaeEvaluation found = evaluate(sae_, *source_, 0, 1e-4, {});
  EXPECT_EQ(found.firings, firings);
  EXPECT_EQ(found.l0, kept / rows);
  EXPECT_NEAR(found.loss, error / (rows * 4), 1e-9 * found.loss);
}

TEST_F(WideSae, ThePageShowsTheRightRow) {
  const auto show = [](size_t row) { return "<b>" + std::to_string(row) + "</b>"; };
  const std::string page =
      feature_report(sae_, *source_, {.title = "", .features = 1, .examples = 1, .show = show}, {});
  EXPECT_NE(page.find("Feature 0"), std::string::npos);
  EXPECT_NE(page.find("<b>425</b>"), std::string::npos);
}

}  // namespace
}  // namespace hone::sae_evaluation_test
