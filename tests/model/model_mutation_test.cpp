// Damaged model files: each is refused with an error, or it is a model that runs, however nonsensical its answers are.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/random.h"
#include "hone/encoder.h"
#include "hone/model.h"
#include "model/gguf.h"
#include "model/quantization.h"
#include "tests/golden.h"
#include "tests/temporary_folder.h"

namespace hone::model_mutation_test {
namespace {

// What a mutation may aim at.
struct Target {
  std::string bytes;
  size_t metadata = 0;          // bytes before the tensor data
  std::vector<size_t> numbers;  // offsets in the metadata of small 64-bit numbers: lengths, counts, extents, offsets
};

Target read_target(const std::filesystem::path& path) {
  Target target;
  target.bytes = read_file(path);
  const Gguf file = Gguf::open(path);
  const auto first = std::ranges::min_element(file.tensors(), {}, [](const GgufTensor& t) { return t.bytes.data(); });
  target.metadata = static_cast<size_t>(first->bytes.data() - file.bytes().data());
  for (size_t at = 8; at + sizeof(uint64_t) <= target.metadata; ++at) {
    uint64_t value = 0;
    std::memcpy(&value, target.bytes.data() + at, sizeof(value));
    if (value > 0 && value <= target.bytes.size()) target.numbers.push_back(at);
  }
  return target;
}

void flip(std::string& bytes, size_t limit, RandomStream& random) {
  for (uint64_t n = 1 + random.below(4); n > 0; --n)
    bytes[random.below(limit)] ^= static_cast<char>(1 << random.below(8));
}

void overwrite(std::string& bytes, size_t limit, RandomStream& random) {
  for (uint64_t n = 1 + random.below(8); n > 0; --n) bytes[random.below(limit)] = static_cast<char>(random.below(256));
}

// Values at the edges of what a reader may take for granted.
void replace_number(std::string& bytes, size_t at, RandomStream& random) {
  constexpr std::array<uint64_t, 12> edges = {0,       1,       2,          3,          64,         1 << 20,
                                              1 << 24, 1 << 30, 0x7fffffff, 0xffffffff, 1ull << 62, ~0ull};
  const uint64_t value = edges[random.below(edges.size())];
  std::memcpy(bytes.data() + at, &value, random.below(2) == 0 ? sizeof(uint32_t) : sizeof(uint64_t));
}

void swap_numbers(std::string& bytes, size_t a, size_t b) {
  std::array<char, sizeof(uint64_t)> first{}, second{};
  std::memcpy(first.data(), bytes.data() + a, first.size());
  std::memcpy(second.data(), bytes.data() + b, second.size());
  std::memcpy(bytes.data() + a, second.data(), second.size());
  std::memcpy(bytes.data() + b, first.data(), first.size());
}

std::string mutated(const Target& target, RandomStream& random) {
  std::string bytes = target.bytes;
  const auto number = [&] { return target.numbers[random.below(target.numbers.size())]; };
  switch (random.below(8)) {
    case 0: flip(bytes, bytes.size(), random); break;
    case 1: overwrite(bytes, bytes.size(), random); break;
    case 2: flip(bytes, target.metadata, random); break;
    case 3: overwrite(bytes, target.metadata, random); break;
    case 4: bytes.resize(random.below(2) == 0 ? random.below(bytes.size()) : random.below(target.metadata)); break;
    case 5: swap_numbers(bytes, number(), number()); break;
    case 6: replace_number(bytes, number(), random); break;
    default: replace_number(bytes, 8 + random.below(target.metadata - 16), random); break;
  }
  return bytes;
}

// Everything that a model answers to, on four tokens.
void run(const std::filesystem::path& path, Precision precision) {
  const auto model = Model::open(path, {.precision = precision});
  std::vector<Token> tokens = model->encode("a word");
  tokens.resize(std::min<size_t>(4, static_cast<size_t>(model->config().context)), 0);
  (void)model->tokenizer().decode(tokens);
  const Sequence sequence{.tokens = tokens};
  const Matrix hidden = model->forward({&sequence, 1});
  const Matrix logits = model->logits(hidden);
  EXPECT_EQ(logits.rows(), tokens.size());
  EXPECT_EQ(logits.cols(), static_cast<size_t>(model->config().vocabulary));
  EXPECT_EQ(model->losses(hidden, tokens).size(), tokens.size());
}

// The hidden states of a short text.
void run_encoder(const std::filesystem::path& path, Precision precision) {
  const auto encoder = TextEncoder::open(path, {.precision = precision});
  const std::vector<std::vector<Token>> texts = {encoder->encode("a word"), encoder->encode("")};
  EXPECT_EQ(encoder->hidden_states(texts).rows(), texts[0].size() + texts[1].size());
}

// A value of a tensor's first block that is no number.
void make_nan(std::string& bytes, size_t tensor, TensorType type) {
  const bool half = type != TensorType::f32 && type != TensorType::bf16;
  const size_t at = tensor + (type == TensorType::q6_k ? 208 : 0);  // of the block's scale, or of the value
  const std::string nan = type == TensorType::f32 ? std::string("\0\0\xc0\x7f", 4)
                          : half                  ? std::string("\0\x7e", 2)
                                                  : std::string("\xc0\x7f", 2);
  bytes.replace(at, nan.size(), nan);
}

TEST(ModelFile, WeightsThatAreNoNumbersAreRefusedByName) {
  const test::TemporaryFolder folder;
  for (const char* golden : {"llama.gguf", "qwen2.gguf", "gemma3.gguf"}) {
    const auto path = test::golden_directory() / "models" / golden;
    const std::string sound = read_file(path);
    const Gguf layout = Gguf::open(path);
    for (const GgufTensor& tensor : layout.tensors()) {
      std::string bytes = sound;
      make_nan(bytes, static_cast<size_t>(tensor.bytes.data() - layout.bytes().data()), tensor.type);
      const auto file = folder.write("model.gguf", bytes);
      for (const Precision precision : {Precision::fp32, Precision::int8}) try {
          const auto model = Model::open(file, {.precision = precision});
          ASSERT_EQ(tensor.name, "token_embd.weight");  // its rows are read as they are needed
          const std::vector<Token> first = {0};
          const Sequence sequence{.tokens = first};
          (void)model->forward({&sequence, 1});
          ADD_FAILURE() << golden << ' ' << tensor.name;
        } catch (const Error& error) {
          EXPECT_EQ(error.code, ErrorCode::corrupt) << error.message;
          for (const std::string& part : {file.string(), "'" + tensor.name + "'"})
            EXPECT_NE(error.message.find(part), std::string::npos) << error.message;
        }
    }
  }
}

class ModelMutations : public testing::TestWithParam<const char*> {};

TEST_P(ModelMutations, AreRefusedOrRun) {
  constexpr int mutations = 3000;
  const auto path = test::golden_directory() / "models" / GetParam();
  const Target target = read_target(path);
  const test::TemporaryFolder folder;
  RandomStream random(23, GetParam());
  int refused = 0;
  for (int i = 0; i < mutations; ++i) {
    SCOPED_TRACE(i);
    const std::filesystem::path file = folder.write("model.gguf", mutated(target, random));
    try {
      const Precision precision = i % 2 == 0 ? Precision::fp32 : Precision::int8;
      GetParam() == std::string("bert.gguf") ? run_encoder(file, precision) : run(file, precision);
    } catch (const Error& error) {
      ++refused;
      EXPECT_TRUE(error.code == ErrorCode::corrupt || error.code == ErrorCode::unsupported) << error.message;
      EXPECT_NE(error.message.find(file.string()), std::string::npos) << error.message;
    }
    if (HasFailure()) break;
  }
  RecordProperty("refused", refused);
  EXPECT_GT(refused, mutations / 4);
  EXPECT_LT(refused, mutations);
}

INSTANTIATE_TEST_SUITE_P(Golden, ModelMutations,
                         testing::Values("llama.gguf", "qwen2.gguf", "gemma3.gguf", "bert.gguf"),
                         [](const auto& model) {
                           const std::string name = model.param;
                           return name.substr(0, name.find('.'));
                         });

}  // namespace
}  // namespace hone::model_mutation_test
