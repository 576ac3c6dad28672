// Files of activations and of autoencoders.
#include <gtest/gtest.h>

#include <cmath>

#include "base/files.h"
#include "data/npy.h"
#include "hone/data.h"
#include "hone/sae.h"
#include "interpret/matrices.h"
#include "tests/expect_error.h"
#include "tests/golden.h"
#include "tests/small_sae.h"
#include "tests/temporary_folder.h"

namespace hone::sae_files_test {
namespace {

using test::normals;
using test::small_sae;
using test::TemporaryFolder;

TEST(Activations, FilesThatCannotBeUsed) {
  const TemporaryFolder folder;
  write_file_atomically(folder.path() / "empty.npy", "");
  HONE_EXPECT_ERROR(open_activations(folder.path() / "empty.npy", 0), ErrorCode::corrupt, "empty.npy");
  write_npy(folder.path() / "none.npy", Matrix(0, 4));
  HONE_EXPECT_ERROR(open_activations(folder.path() / "none.npy", 0), ErrorCode::bad_input, "none.npy");
  const size_t endless[] = {size_t{1} << 60, 0};  // rows of nothing take no bytes
  write_file_atomically(folder.path() / "endless.npy", npy_header("<f4", endless));
  HONE_EXPECT_ERROR(open_activations(folder.path() / "endless.npy", 0), ErrorCode::bad_input, "endless.npy");
  HONE_EXPECT_ERROR(open_activations(folder.path() / "absent.npy", 0), ErrorCode::not_found, "absent.npy");
  Matrix x = normals(10, 4, "x");
  x.row(6)[1] = INFINITY;
  write_npy(folder.path() / "infinite.npy", x);
  const auto batches = open_activations(folder.path() / "infinite.npy", 0);
  Matrix to(10, 4);
  HONE_EXPECT_ERROR(batches->read(0, to, {}), ErrorCode::bad_input, "row 6");
}

TEST(Activations, AFileIsHashedOnce) {
  const TemporaryFolder folder;
  write_npy(folder.path() / "x.npy", normals(10, 4, "x"));
  write_npy(folder.path() / "y.npy", normals(10, 4, "y"));
  const auto batches = open_activations(folder.path() / "x.npy", 0);
  const std::string identity = batches->identity();
  EXPECT_EQ(identity, open_activations(folder.path() / "x.npy", 1)->identity());
  EXPECT_NE(identity, open_activations(folder.path() / "y.npy", 0)->identity());
  std::filesystem::remove(folder.path() / "x.npy");
  EXPECT_EQ(batches->identity(), identity);
}

TEST(SaeFiles, ComeBackAsTheSameFunction) {
  const TemporaryFolder folder;
  for (const bool unit_inputs : {false, true}) {
    const Sae sae = small_sae({.inputs = 9, .features = 40, .active = 3, .unit_inputs = unit_inputs, .pre_bias = true});
    sae.save(folder.path());
    const Sae again = Sae::open(folder.path());
    EXPECT_EQ(again.config.active, 3U);
    EXPECT_EQ(again.config.unit_inputs, unit_inputs);
    EXPECT_TRUE(again.config.unit_rows);
    EXPECT_TRUE(again.config.pre_bias);
    EXPECT_FALSE(again.config.relu);
    const Matrix x = normals(20, 9, "x");
    EXPECT_LT(test::largest_difference(again.reconstruct(x), sae.reconstruct(x)), 1e-5);
  }
}

void write_public(const std::filesystem::path& folder, const std::string& settings, const Sae& sae) {
  const Matrix encoder = transposed(sae.encoder);
  const auto& in = sae.encoder_bias;
  const auto& out = sae.decoder_bias;
  const std::vector<NamedMatrix> tensors = {{"W_enc", encoder},
                                            {"b_enc", {in.data(), 1, in.size()}, {in.size()}},
                                            {"W_dec", sae.decoder},
                                            {"b_dec", {out.data(), 1, out.size()}, {out.size()}}};
  write_safetensors(folder / "sae_weights.safetensors", tensors);
  write_file_atomically(folder / "cfg.json", settings);
}

TEST(SaeFiles, OfPublicLibrariesAreRead) {
  const TemporaryFolder folder;
  Sae sae =
      small_sae({.inputs = 9, .features = 40, .active = 5, .unit_inputs = false, .unit_rows = false, .relu = true});
  for (float& value : sae.decoder.row(3)) value *= 2;
  const Matrix x = normals(20, 9, "x");
  write_public(folder.path(), R"({"architecture": "topk", "d_in": 9, "d_sae": 40, "activation_fn_kwargs": {"k": 5},
                                  "apply_b_dec_to_input": false, "normalize_activations": "none"})",
               sae);
  EXPECT_LT(test::largest_difference(Sae::open(folder.path()).reconstruct(x), sae.reconstruct(x)), 1e-6);

  // Ranked by what a feature contributes: feature 3 counts twice before the selection.
  write_public(folder.path(), R"({"architecture": "topk", "d_in": 9, "d_sae": 40, "k": 5, "apply_b_dec_to_input": false,
                                  "rescale_acts_by_decoder_norm": true})",
               sae);
  Sae ranked = sae.copy();
  for (float& value : ranked.encoder.row(3)) value *= 2;
  for (float& value : ranked.decoder.row(3)) value /= 2;
  ranked.encoder_bias[3] *= 2;
  EXPECT_LT(test::largest_difference(Sae::open(folder.path()).reconstruct(x), ranked.reconstruct(x)), 1e-5);

  // Of older versions: the activation says what the architecture does not, and b_dec is subtracted where nothing is
  // said.
  sae.config.pre_bias = true;
  for (const char* settings : {R"({"architecture": "standard", "activation_fn_str": "topk", "d_in": 9, "d_sae": 40,
                                   "activation_fn_kwargs": {"k": 5}, "normalize_activations": false})",
                               R"({"activation_fn": "topk", "k": 5, "d_in": 9, "d_sae": 40})",
                               R"({"architecture": "topk", "k": 5, "d_in": 9, "d_sae": 40})"}) {
    write_public(folder.path(), settings, sae);
    EXPECT_LT(test::largest_difference(Sae::open(folder.path()).reconstruct(x), sae.reconstruct(x)), 1e-6) << settings;
  }

  write_public(folder.path(), R"({"architecture": "standard", "d_in": 9, "d_sae": 40})", sae);
  sae.config.active = 40;
  EXPECT_LT(test::largest_difference(Sae::open(folder.path()).reconstruct(x), sae.reconstruct(x)), 1e-6);

  const auto refuse = [&](const std::string& settings, ErrorCode code, const std::string& text) {
    write_public(folder.path(), settings, sae);
    HONE_EXPECT_ERROR(Sae::open(folder.path()), code, text);
  };
  refuse("[]", ErrorCode::corrupt, "not a JSON object");
  refuse(R"({"d_sae": 40})", ErrorCode::corrupt, "d_in");
  refuse(R"({"architecture": "gated", "d_in": 9, "d_sae": 40})", ErrorCode::unsupported, "gated");
  refuse(R"({"architecture": "topk", "d_in": 9, "d_sae": 40, "k": 41})", ErrorCode::corrupt, "k: 41");
  refuse(R"({"architecture": "topk", "d_in": 9, "d_sae": 41, "k": 4})", ErrorCode::corrupt, "W_enc");
  refuse(R"({"d_in": 9, "d_sae": 40, "normalize_activations": "layer_norm"})", ErrorCode::unsupported, "layer_norm");
  refuse(R"({"d_in": 9, "d_sae": 40, "activation_fn_str": "tanh-relu"})", ErrorCode::unsupported, "tanh-relu");
  refuse(R"({"d_in": 9, "d_sae": 40, "finetuning_scaling_factor": true})", ErrorCode::unsupported, "scaling_factor");
  refuse(R"({"d_in": 9, "d_sae": 40, "normalize_activations": true})", ErrorCode::corrupt, "normalize_activations");
}

}  // namespace
}  // namespace hone::sae_files_test
