// TextEncoder: BERT encoders against the reference in tests/golden, language models' hidden states, and bad files.
#include "hone/encoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <random>

#include "base/files.h"
#include "base/random.h"
#include "model/attention.h"
#include "model/elementwise.h"
#include "model/pooling.h"
#include "tests/data.h"
#include "tests/expect_error.h"
#include "tests/gguf_writer.h"
#include "tests/golden.h"
#include "tests/program.h"

namespace hone::test::encoder_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Texts = std::vector<std::vector<Token>>;

fs::path tiny_folder() { return golden_directory() / "models" / "bert"; }

Matrix random_matrix(size_t rows, size_t cols, uint64_t seed, float scale = 1) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal(0, scale);
  Matrix m = Matrix::uninitialized(rows, cols);
  for (size_t i = 0; i < m.size(); ++i) m.data()[i] = normal(generator);
  return m;
}

TEST(Gelu, ErrorFunctionAndTanh) {
  Matrix x = random_matrix(3, 211, 1, 3);
  x.data()[0] = 0, x.data()[1] = 40, x.data()[2] = -40, x.data()[3] = 1e30f, x.data()[4] = -1e30f;
  Matrix erf = x.copy(), tanh = x.copy();
  gelu(Gelu::erf, erf);
  gelu(Gelu::tanh, tanh);
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = x.data()[i], phi = (1 + std::erf(v / std::numbers::sqrt2)) / 2;
    const double u = std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v);
    const double scale = std::max(1.0, std::abs(v));
    EXPECT_NEAR(erf.data()[i] / scale, v * phi / scale, 3e-7) << v;
    EXPECT_NEAR(tanh.data()[i] / scale, v * (1 + std::tanh(u)) / 2 / scale, 1e-6) << v;
  }
}

TEST(LayerNorm, ByDefinition) {
  for (const size_t cols : {size_t{1}, size_t{3}, size_t{16}, size_t{97}}) {
    const Matrix x = random_matrix(5, cols, cols, 4), weight = random_matrix(1, cols, 7),
                 bias = random_matrix(1, cols, 8);
    Matrix y = x.copy();
    layer_norm(y, weight.row(0), bias.row(0), 1e-5f, y);
    for (size_t p = 0; p < x.rows(); ++p) {
      double mean = 0, variance = 0;
      for (const float v : x.row(p)) mean += v / static_cast<double>(cols);
      for (const float v : x.row(p)) variance += (v - mean) * (v - mean) / static_cast<double>(cols);
      for (size_t d = 0; d < cols; ++d)
        EXPECT_NEAR(y.row(p)[d], (x.row(p)[d] - mean) / std::sqrt(variance + 1e-5) * weight.row(0)[d] + bias.row(0)[d],
                    2e-5);
    }
  }
}

// Sequences that end inside a block of queries and that fill several, against the definition.
TEST(Attention, Bidirectional) {
  const size_t heads = 4, kv_heads = 2, dim = 8;
  const std::vector<size_t> lengths = {1, 5, 70, 33};
  std::vector<size_t> start = {0};
  for (const size_t n : lengths) start.push_back(start.back() + n);
  const Matrix q = random_matrix(start.back(), heads * dim, 1), k = random_matrix(start.back(), kv_heads * dim, 2),
               v = random_matrix(start.back(), kv_heads * dim, 3);
  std::vector<AttentionSequence> sequences;
  for (size_t b = 0; b < lengths.size(); ++b)
    sequences.push_back({start[b], lengths[b], 0, k.row(start[b]).data(), v.row(start[b]).data()});
  const AttentionShape shape{
      .heads = heads, .kv_heads = kv_heads, .head_dim = dim, .scale = 0.3f, .window = 0, .causal = false};
  Matrix out(start.back(), heads * dim);
  attention(shape, sequences, q, out, {});
  for (size_t b = 0; b < lengths.size(); ++b)
    for (size_t i = start[b]; i < start[b + 1]; ++i)
      for (size_t h = 0; h < heads; ++h) {
        const size_t kv = h / (heads / kv_heads);
        std::vector<double> expected(dim);
        double total = 0;
        for (size_t j = start[b]; j < start[b + 1]; ++j) {
          double score = 0;
          for (size_t d = 0; d < dim; ++d) score += q.row(i)[h * dim + d] * k.row(j)[kv * dim + d];
          const double p = std::exp(0.3 * score);
          total += p;
          for (size_t d = 0; d < dim; ++d) expected[d] += p * v.row(j)[kv * dim + d];
        }
        for (size_t d = 0; d < dim; ++d) ASSERT_NEAR(out.row(i)[h * dim + d], expected[d] / total, 1e-5);
      }
}

TEST(Pooling, ByDefinition) {
  Matrix states = Matrix(3, 2);
  const std::vector<float> values = {8, 8, 3, 4, 0, -2};
  std::ranges::copy(values, states.data());
  const auto pooled = [&](Pooling pooling, size_t rows) {
    std::vector<float> vector(2, 9);
    pool(pooling, states.view().row_range(0, rows), vector);
    return vector;
  };
  using Vector = std::vector<float>;
  EXPECT_EQ(pooled(Pooling::cls, 3), (Vector{8, 8}));
  EXPECT_EQ(pooled(Pooling::last, 3), (Vector{0, -2}));
  EXPECT_LT(largest_difference(pooled(Pooling::mean, 3), Vector{11.0f / 3, 10.0f / 3}), 1e-6);
  EXPECT_LT(largest_difference(pooled(Pooling::directions, 3), Vector{0.3f, -0.1f}), 1e-6);
  EXPECT_LT(largest_difference(pooled(Pooling::directions, 1), Vector{std::sqrt(0.5f), std::sqrt(0.5f)}), 1e-6);
  for (const Pooling pooling : {Pooling::mean, Pooling::cls, Pooling::last, Pooling::directions}) {
    EXPECT_EQ(pooled(pooling, 0), (Vector{0, 0}));
    EXPECT_EQ(pooling_named(name(pooling)), pooling);
  }
  HONE_EXPECT_ERROR(pooling_named("max"), ErrorCode::bad_input, "mean, cls, last, directions");
  Vector zero = {0, 0}, vector = {3, -4};
  normalize(zero);
  normalize(vector);
  EXPECT_EQ(zero, (Vector{0, 0}));
  EXPECT_LT(largest_difference(vector, Vector{0.6f, -0.8f}), 1e-7);
}

Texts golden_texts(const Golden& golden) {
  const auto tokens = golden.list<Token>("tokens");
  const auto start = golden.list<size_t>("start");
  Texts texts;
  for (size_t b = 0; b + 1 < start.size(); ++b)
    texts.emplace_back(tokens.begin() + static_cast<ptrdiff_t>(start[b]),
                       tokens.begin() + static_cast<ptrdiff_t>(start[b + 1]));
  return texts;
}

TEST(TinyBert, EveryLayersStatesFromFolderAndGguf) {
  const Golden golden("bert");
  const Texts texts = golden_texts(golden);
  for (int layer = 0; layer <= 3; ++layer) {
    const Matrix expected = golden.matrix("states." + std::to_string(layer));
    const auto folder = TextEncoder::open(tiny_folder(), {.layer = layer});
    const auto gguf = TextEncoder::open(tiny_model("bert"), {.layer = layer});
    EXPECT_LT(largest_difference(folder->hidden_states(texts), expected), 1e-5) << layer;
    if (layer == 0) continue;  // fp16 in the file
    EXPECT_LT(largest_difference(gguf->hidden_states(texts), expected), 1e-5) << layer;
  }
  const auto int8 = TextEncoder::open(tiny_folder(), {.precision = Precision::int8});
  EXPECT_LT(relative_difference(int8->hidden_states(texts), golden.matrix("states.3")), 0.05);
  EXPECT_GT(relative_difference(int8->hidden_states(texts), golden.matrix("states.3")), 0);
}

TEST(TinyBert, OptionsFromTheFiles) {
  const auto folder = TextEncoder::open(tiny_folder());
  EXPECT_EQ(folder->name(), "bert L3 cls unit");
  EXPECT_EQ(folder->dimension(), 32u);
  EXPECT_EQ(folder->options().max_tokens, 40u);
  EXPECT_EQ(TextEncoder::open(tiny_model("bert"))->name(), "Tiny bert L3 cls unit");
  EXPECT_NE(TextEncoder::open(tiny_model("bert"))->hash(), folder->hash());
  const auto other = TextEncoder::open(tiny_folder(), {.layer = 1, .pooling = Pooling::mean, .normalize = false});
  EXPECT_EQ(other->name(), "bert L1 mean");
  EXPECT_EQ(other->hash(), folder->hash());
  EXPECT_NE(other->identity(), folder->identity());
  HONE_EXPECT_ERROR(TextEncoder::open(tiny_folder(), {.layer = 4}), ErrorCode::bad_input, "layer 4");
  HONE_EXPECT_ERROR(TextEncoder::open(tiny_folder(), {.max_tokens = 41}), ErrorCode::bad_input, "41");
  HONE_EXPECT_ERROR(TextEncoder::open(tiny_folder(), {.max_tokens = 1}), ErrorCode::bad_input, "2 to 40");
}

TEST(TinyBert, NoVectorDependsOnTheOthers) {
  std::vector<std::string> texts = {"the token is in the cafe", "", "a", "中文 and the play", "unable to play!"};
  std::string prose;
  for (int i = 0; i < 30; ++i) prose += "the playing token ";
  texts.push_back(prose);
  for (const Precision precision : {Precision::fp32, Precision::int8}) {
    const auto encoder = TextEncoder::open(tiny_folder(), {.precision = precision});
    const Matrix all = encoder->embed(texts);
    for (const size_t batch : {size_t{1}, size_t{2}, size_t{5}})
      EXPECT_TRUE(same_bits(encoder->embed(texts, {.batch = batch}), all)) << batch;
    const std::vector<std::string> reversed(texts.rbegin(), texts.rend());
    const Matrix backward = encoder->embed(reversed);
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_TRUE(same_bits(backward.view().row_range(texts.size() - 1 - i, 1), all.view().row_range(i, 1))) << i;
      EXPECT_NEAR(norm(all.row(i)), 1, 1e-6);
    }
  }
  EXPECT_EQ(TextEncoder::open(tiny_folder())->embed(std::vector<std::string>{}).rows(), 0u);
}

TEST(TinyBert, ATextsFirstTokensAreRead) {
  const auto encoder = TextEncoder::open(tiny_folder());
  std::string text;
  for (int i = 0; i < 38; ++i) text += "the ";
  const auto exact = encoder->encode(text), longer = encoder->encode(text + "and play"), empty = encoder->encode("");
  EXPECT_EQ(exact.size(), 40u);
  EXPECT_EQ(longer, exact);
  EXPECT_EQ(empty, (std::vector<Token>{2, 3}));
  EXPECT_EQ(TextEncoder::open(tiny_folder(), {.max_tokens = 3})->encode(text).size(), 3u);
  HONE_EXPECT_ERROR(encoder->embed(Texts{std::vector<Token>(41, 5)}), ErrorCode::bad_input, "41 tokens");
  HONE_EXPECT_ERROR(encoder->embed(Texts{{2, 1000, 3}}), ErrorCode::bad_input, "token 1000");
  HONE_EXPECT_ERROR(encoder->embed(Texts{{2, -1, 3}}), ErrorCode::bad_input, "token -1");
  HONE_EXPECT_ERROR(encoder->embed(Texts{{2, 3}}, {.batch = 0}), ErrorCode::bad_input, "batch");
}

TEST(TinyBert, ReportsAndIsCancelled) {
  const auto encoder = TextEncoder::open(tiny_folder());
  const std::vector<std::string> texts(5, "the cafe");
  std::vector<size_t> done;
  Watch watch;
  watch.progress = [&](const Progress& progress) { done.push_back(progress.done); };
  encoder->embed(texts, {.batch = 2}, watch);
  EXPECT_EQ(done, (std::vector<size_t>{0, 2, 4, 5}));
  watch.progress = [&](const Progress& progress) {
    if (progress.done == 2) watch.cancel.cancel();
  };
  HONE_EXPECT_ERROR(encoder->embed(texts, {.batch = 2}, watch), ErrorCode::cancelled, "");
}

// A copy of the tiny model's folder to damage.
class DamagedFolder : public ::testing::Test {
 protected:
  void SetUp() override { fs::copy(tiny_folder(), folder_.path(), fs::copy_options::recursive); }
  void write(const std::string& name, const std::string& contents) { folder_.write(name, contents); }
  std::string read(const std::string& name) const { return read_file(folder_.path() / name); }
  void expect_error(ErrorCode code, const std::string& text) {
    HONE_EXPECT_ERROR(TextEncoder::open(folder_.path()), code, text);
  }

  TemporaryFolder folder_;
};

TEST_F(DamagedFolder, TheCopyIsSound) {
  const auto copy = TextEncoder::open(folder_.path());
  EXPECT_EQ(copy->hash(), TextEncoder::open(tiny_folder())->hash());
  EXPECT_EQ(copy->identity(), TextEncoder::open(tiny_folder())->identity()) << "wherever the files are";
  fs::remove(folder_.path() / "modules.json");
  EXPECT_FALSE(*TextEncoder::open(folder_.path())->options().normalize);
  fs::remove_all(folder_.path() / "1_Pooling");
  EXPECT_EQ(*TextEncoder::open(folder_.path())->options().pooling, Pooling::mean);
}

TEST_F(DamagedFolder, FilesAreMissing) {
  for (const char* name : {"config.json", "model.safetensors", "vocab.txt"}) {
    const std::string contents = read(name);
    fs::remove(folder_.path() / name);
    expect_error(ErrorCode::not_found, name);
    write(name, contents);
  }
  HONE_EXPECT_ERROR(TextEncoder::open(folder_.path() / "nowhere"), ErrorCode::not_found, "nowhere");
}

TEST_F(DamagedFolder, Configuration) {
  const json good = json::parse(read("config.json"));
  const std::vector<std::tuple<std::string, json, ErrorCode>> wrong = {
      {"model_type", "roberta", ErrorCode::unsupported},
      {"position_embedding_type", "relative_key", ErrorCode::unsupported},
      {"hidden_act", "relu", ErrorCode::unsupported},
      {"hidden_size", 64, ErrorCode::corrupt},
      {"hidden_size", "32", ErrorCode::corrupt},
      {"hidden_size", nullptr, ErrorCode::corrupt},
      {"num_attention_heads", 3, ErrorCode::corrupt},
      {"num_attention_heads", 0, ErrorCode::corrupt},
      {"num_hidden_layers", -1, ErrorCode::corrupt},
      {"num_hidden_layers", 1001, ErrorCode::corrupt},
      {"max_position_embeddings", 41, ErrorCode::corrupt},
      {"type_vocab_size", 1, ErrorCode::corrupt},
      {"vocab_size", 3, ErrorCode::corrupt},
      {"layer_norm_eps", 2, ErrorCode::corrupt},
      {"layer_norm_eps", "small", ErrorCode::corrupt}};
  for (const auto& [field, value, code] : wrong) {
    json config = good;
    config[field] = value;
    write("config.json", config.dump());
    expect_error(code, folder_.path().string());
  }
  json more_layers = good;
  more_layers["num_hidden_layers"] = 4;
  write("config.json", more_layers.dump());
  expect_error(ErrorCode::not_found, "encoder.layer.3");
  write("config.json", "{");
  expect_error(ErrorCode::corrupt, "config.json");
}

TEST_F(DamagedFolder, Modules) {
  write("modules.json", R"([{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}])");
  expect_error(ErrorCode::unsupported, "Dense");
  write("modules.json", "{}");
  expect_error(ErrorCode::corrupt, "modules.json");
  write("modules.json", "[3]");
  expect_error(ErrorCode::unsupported, "modules.json");
  fs::remove(folder_.path() / "modules.json");
  for (const char* pooling : {R"({"pooling_mode_max_tokens": true})", "{}",
                              R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true})"}) {
    write("1_Pooling/config.json", pooling);
    expect_error(ErrorCode::unsupported, "pooling_mode");
  }
}

TEST_F(DamagedFolder, CutOffWeights) {
  const std::string whole = read("model.safetensors");
  for (const size_t size : {size_t{0}, size_t{7}, size_t{100}, whole.size() / 2, whole.size() - 1}) {
    write("model.safetensors", whole.substr(0, size));
    expect_error(ErrorCode::corrupt, "model.safetensors");
  }
}

// Mostly in the header, which says where every tensor lies.
TEST_F(DamagedFolder, MutationsOfTheWeightsAreAnEncoderOrAnError) {
  const std::string whole = read("model.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, whole.data(), sizeof header);
  const std::string_view structure = "{}[]\",:0123456789-.eE\\u ";
  RandomStream random(1, "mutations");
  constexpr int mutations = 2000;
  int refused = 0;
  for (int i = 0; i < mutations; ++i) {
    std::string mutated = whole;
    for (uint64_t left = 1 + random.below(3); left > 0; --left) {
      char& byte = mutated[random.below(8) > 0 ? random.below(sizeof header + header) : random.below(mutated.size())];
      byte = random.below(2) ? structure[random.below(structure.size())] : static_cast<char>(random.below(256));
    }
    write("model.safetensors", mutated);
    try {
      const Matrix vectors = TextEncoder::open(folder_.path())->embed(std::vector<std::string>{"the"});
      EXPECT_EQ(vectors.rows(), 1U);
    } catch (const Error& error) {
      ++refused;
      EXPECT_TRUE(error.message.find("model.safetensors") != std::string::npos || error.code == ErrorCode::bad_input)
          << error.what();
    }
  }
  EXPECT_GT(refused, mutations / 4);
  EXPECT_LT(refused, mutations);
}

TEST_F(DamagedFolder, WeightsThatAreNotFinite) {
  std::string whole = read("model.safetensors");
  const float nan = NAN;
  for (size_t at = whole.size() - 4096; at < whole.size(); at += sizeof nan) std::memcpy(whole.data() + at, &nan, 4);
  write("model.safetensors", whole);
  const auto encoder = TextEncoder::open(folder_.path());
  HONE_EXPECT_ERROR(encoder->embed(std::vector<std::string>{"the"}), ErrorCode::bad_input, "not finite");
}

TEST(DamagedGguf, Fields) {
  const auto open = [](const std::function<void(GgufWriter&)>& fields) {
    GgufWriter writer;
    writer.add("general.architecture", "bert");
    fields(writer);
    TemporaryFolder folder;
    return TextEncoder::open(folder.write("bert.gguf", writer.finish()));
  };
  HONE_EXPECT_ERROR(open([](GgufWriter&) {}), ErrorCode::corrupt, "bert.block_count");
  const auto sizes = [](GgufWriter& writer, uint32_t heads) {
    for (const auto& [field, value] : std::vector<std::pair<std::string, uint32_t>>{
             {"block_count", 1}, {"embedding_length", 8}, {"feed_forward_length", 8}, {"context_length", 16}})
      writer.add("bert." + field, value);
    writer.add("bert.attention.head_count", heads);
    writer.add("bert.attention.layer_norm_epsilon", 1e-12f);
  };
  HONE_EXPECT_ERROR(open([&](GgufWriter& writer) { sizes(writer, 3); }), ErrorCode::corrupt, "3 heads");
  HONE_EXPECT_ERROR(open([&](GgufWriter& writer) {
                      sizes(writer, 2);
                      writer.add("bert.attention.causal", true);
                    }),
                    ErrorCode::unsupported, "causal");
  HONE_EXPECT_ERROR(open([&](GgufWriter& writer) {
                      sizes(writer, 2);
                      writer.add("bert.pooling_type", uint32_t{7});
                    }),
                    ErrorCode::unsupported, "pooling_type");
  HONE_EXPECT_ERROR(open([&](GgufWriter& writer) { sizes(writer, 2); }), ErrorCode::corrupt, "tokenizer.ggml");
  const std::string whole = read_file(tiny_model("bert"));
  for (const size_t size : {size_t{10}, size_t{3000}, whole.size() / 2}) {
    TemporaryFolder folder;
    HONE_EXPECT_ERROR(TextEncoder::open(folder.write("bert.gguf", whole.substr(0, size))), ErrorCode::corrupt,
                      "bert.gguf");
  }
}

// The states of a language model: those of its forward pass.
TEST(HiddenStates, OfALanguageModel) {
  const std::shared_ptr<const Model> model = Model::open(tiny_model("gemma3"));
  const auto encoder = TextEncoder::of(model, {.layer = 2, .pooling = Pooling::last});
  EXPECT_EQ(encoder->name(), "Tiny gemma3 L2 last");
  EXPECT_EQ(encoder->hash(), model->base_hash());
  const std::vector<Token> tokens = encoder->encode("the other thing is on");
  EXPECT_EQ(tokens.front(), model->tokenizer().bos());
  const Sequence sequence{.tokens = tokens};
  const Matrix states = model->forward({&sequence, 1}, 0, 2, model->embed({&sequence, 1}));
  EXPECT_TRUE(same_bits(encoder->hidden_states(Texts{tokens}), states));
  const Matrix vector = encoder->embed(std::vector<std::string>{"the other thing is on", "to"});
  EXPECT_TRUE(same_bits(vector.view().row_range(0, 1), states.view().row_range(states.rows() - 1, 1)));
  const auto by_path = TextEncoder::open(tiny_model("gemma3"));
  EXPECT_EQ(by_path->name(), "Tiny gemma3 L5 directions");
  EXPECT_EQ(by_path->options().max_tokens, 512u);
  std::vector<Token> many(600, 262);
  many.back() = 263;
  const std::vector<Token> framed = by_path->frame(many);
  EXPECT_EQ(framed.size(), 512u);
  EXPECT_EQ(framed.back(), 263) << "a text's last tokens are read";
  HONE_EXPECT_ERROR(TextEncoder::of(model, {.layer = 8}), ErrorCode::bad_input, "layer 8");
}

class RealMiniLM : public ::testing::TestWithParam<Precision> {
 protected:
  static std::vector<std::string> golden_lines() {
    std::istringstream file(read_file(golden_directory() / "texts.txt"));
    std::vector<std::string> texts;
    for (std::string line; std::getline(file, line);) texts.push_back(line);
    texts.push_back(read_file(golden_directory() / "text.txt"));  // more than 512 tokens
    return texts;
  }
};

TEST_P(RealMiniLM, EqualsTheReference) {
  HONE_NEED_FILE(minilm());
  const bool fp32 = GetParam() == Precision::fp32;
  const Golden golden("minilm_real");
  const std::vector<std::string> texts = golden_lines();
  const auto encoder = TextEncoder::open(minilm(), {.precision = GetParam()});
  EXPECT_EQ(encoder->name(), "all-MiniLM-L6-v2 L6 mean unit");
  const json tokens = json::parse(read_file(golden_directory() / "tokens.json"));
  for (size_t i = 0; i < texts.size(); ++i)
    EXPECT_EQ(encoder->encode(texts[i]), tokens["minilm"][i].get<std::vector<Token>>()) << texts[i];
  const Matrix expected = golden.matrix("vectors"), vectors = encoder->embed(texts);
  ASSERT_EQ(vectors.rows(), expected.rows());
  for (size_t i = 0; i < texts.size(); ++i) {
    double cosine = 0;
    for (size_t d = 0; d < vectors.cols(); ++d) cosine += vectors.row(i)[d] * expected.row(i)[d];
    EXPECT_GT(cosine, fp32 ? 0.999999 : 0.99) << texts[i];
  }
  if (!fp32) return;
  EXPECT_LT(largest_difference(vectors, expected), 1e-5);
  const auto middle = TextEncoder::open(minilm(), {.layer = 3, .normalize = false});
  EXPECT_LT(largest_difference(middle->embed(texts), golden.matrix("layer 3")), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Precisions, RealMiniLM, ::testing::Values(Precision::fp32, Precision::int8),
                         [](const auto& precision) { return precision.param == Precision::fp32 ? "fp32" : "int8"; });

}  // namespace
}  // namespace hone::test::encoder_test
