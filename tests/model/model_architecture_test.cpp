// What a file says of its model, and what hone cannot run.
#include "model/architecture.h"

#include <gtest/gtest.h>

#include "model/weights.h"
#include "tests/expect_error.h"
#include "tests/gguf_writer.h"
#include "tests/temporary_folder.h"

namespace hone::test::model_architecture_test {
namespace {

class ArchitectureOfAFile : public testing::Test {
 protected:
  ArchitectureOfAFile() {
    writer.add("general.architecture", std::string("llama"));
    for (const char* field : {"block_count", "feed_forward_length", "context_length"})
      writer.add<uint32_t>(std::string("llama.") + field, 4);
    writer.add<uint32_t>("llama.embedding_length", 16);
    writer.add<uint32_t>("llama.attention.head_count", 2);
    writer.add("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  }
  Architecture read() const { return read_architecture(Gguf::open(folder.write("model.gguf", writer.finish()))); }

  GgufWriter writer;
  TemporaryFolder folder;
};

TEST_F(ArchitectureOfAFile, WhatIsNotSaidHasItsDefault) {
  const Architecture a = read();
  EXPECT_EQ(a.config.kv_heads, 2);
  EXPECT_EQ(a.config.head_dim, 8);
  EXPECT_EQ(a.rope_base, 10000);
}

TEST(ArchitectureOfGemma, RotatesGlobalLayersByAMillionUnlessToldOtherwise) {
  const TemporaryFolder folder;
  for (const bool told : {false, true}) {
    GgufWriter writer;
    writer.add("general.architecture", std::string("gemma3"));
    for (const char* field : {"block_count", "feed_forward_length", "context_length", "attention.sliding_window"})
      writer.add<uint32_t>(std::string("gemma3.") + field, 4);
    writer.add<uint32_t>("gemma3.embedding_length", 16);
    writer.add<uint32_t>("gemma3.attention.head_count", 2);
    writer.add("gemma3.attention.layer_norm_rms_epsilon", 1e-5F);
    if (told) writer.add("gemma3.rope.freq_base", 5000.0F);
    const Architecture a = read_architecture(Gguf::open(folder.write("model.gguf", writer.finish())));
    EXPECT_EQ(a.rope_base, told ? 5000 : 1e6);
    EXPECT_EQ(a.local_rope_base, 1e4);
  }
}

TEST_F(ArchitectureOfAFile, ScalingByANamedTypeIsRefused) {
  writer.add("llama.rope.scaling.type", std::string("yarn"));
  HONE_EXPECT_ERROR(read(), ErrorCode::unsupported, "'llama.rope.scaling.type' is 'yarn'");
}

TEST_F(ArchitectureOfAFile, RowsTooLongForInt8AreRefused) {
  Architecture a = read();
  a.config.ffn_width = 1 << 16;
  const Gguf file = Gguf::open(folder.write("model.gguf", writer.finish()));
  HONE_EXPECT_ERROR(Weights(file, a, Precision::int8), ErrorCode::unsupported, "rows of 65536 weights have no room");
}

// Files of before there was a type.
TEST_F(ArchitectureOfAFile, ScalingByAFactorAloneIsRefused) {
  writer.add("llama.rope.scaling.factor", 4.0F);
  HONE_EXPECT_ERROR(read(), ErrorCode::unsupported, "'llama.rope.scaling.factor' is 4");
}

TEST_F(ArchitectureOfAFile, ScalingByTheOldKeyIsRefused) {
  writer.add("llama.rope.scale_linear", 2.0F);
  HONE_EXPECT_ERROR(read(), ErrorCode::unsupported, "'llama.rope.scale_linear' is 2");
}

TEST_F(ArchitectureOfAFile, ScalingByOneOrNoneIsNone) {
  writer.add("llama.rope.scale_linear", 1.0F);
  writer.add("llama.rope.scaling.factor", 0.0F);
  EXPECT_EQ(read().config.layers, 4);
}

TEST_F(ArchitectureOfAFile, ATypeOfNoneOutranksAFactor) {
  writer.add("llama.rope.scaling.type", std::string("none"));
  writer.add("llama.rope.scaling.factor", 4.0F);
  EXPECT_EQ(read().config.layers, 4);
}

}  // namespace
}  // namespace hone::test::model_architecture_test
