// Reads a BERT encoder from a folder as sentence-transformers writes it, or from a GGUF file.
#include <fmt/format.h>

#include <array>
#include <functional>

#include "base/files.h"
#include "model/bert.h"
#include "model/gguf.h"
#include "model/json_file.h"
#include "model/safetensors.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

// A tensor by its GGUF name, [rows, cols]; cols 0 means a vector [1, rows].
using ReadTensor = std::function<Matrix(const std::string& name, size_t rows, size_t cols)>;

constexpr int most_layers = 1000, most_width = 1 << 20, most_positions = 1 << 24, most_tokens = 1 << 30;

void check_config(const BertConfig& config, const std::string& file) {
  if (config.width % config.heads != 0)
    throw Error(ErrorCode::corrupt,
                fmt::format("'{}': {} heads do not divide a width of {}", file, config.heads, config.width));
  if (config.positions < 2)
    throw Error(ErrorCode::corrupt,
                fmt::format("'{}': {} position; two are taken by [CLS] and [SEP]", file, config.positions));
  if (!(config.norm_eps >= 0 && config.norm_eps < 1))
    throw Error(ErrorCode::corrupt, fmt::format("'{}': a layer norm epsilon of {}", file, config.norm_eps));
}

std::vector<float> values_of(const Matrix& matrix) { return {matrix.data(), matrix.data() + matrix.size()}; }

void read_weights(const ReadTensor& read, size_t vocabulary, size_t segments, Precision precision, Bert& bert) {
  const auto width = static_cast<size_t>(bert.config.width), ffn = static_cast<size_t>(bert.config.ffn_width);
  const auto norm = [&](const std::string& name) {
    return BertNorm{values_of(read(name + ".weight", width, 0)), values_of(read(name + ".bias", width, 0))};
  };
  const auto linear = [&](const std::string& name, size_t out, size_t in) {
    return OwnedLinear(read(name + ".weight", out, in), values_of(read(name + ".bias", out, 0)), precision);
  };
  bert.tokens = read("token_embd.weight", vocabulary, width);
  bert.positions = read("position_embd.weight", static_cast<size_t>(bert.config.positions), width);
  const Matrix segment = read("token_types.weight", segments, width);
  for (size_t p = 0; p < bert.positions.rows(); ++p)
    for (size_t d = 0; d < width; ++d) bert.positions.row(p)[d] += segment.row(0)[d];
  bert.embedding_norm = norm("token_embd_norm");
  for (int l = 0; l < bert.config.layers; ++l) {
    const std::string prefix = fmt::format("blk.{}.", l);
    bert.layers.push_back({.q = linear(prefix + "attn_q", width, width),
                           .k = linear(prefix + "attn_k", width, width),
                           .v = linear(prefix + "attn_v", width, width),
                           .o = linear(prefix + "attn_output", width, width),
                           .up = linear(prefix + "ffn_up", ffn, width),
                           .down = linear(prefix + "ffn_down", width, ffn),
                           .attention_norm = norm(prefix + "attn_output_norm"),
                           .ffn_norm = norm(prefix + "layer_output_norm")});
  }
}

// --- Folder ---

struct Renaming {
  std::string_view gguf, published;
};
constexpr std::array<Renaming, 4> embedding_names = {{{"token_embd_norm.", "embeddings.LayerNorm."},
                                                      {"token_embd.", "embeddings.word_embeddings."},
                                                      {"position_embd.", "embeddings.position_embeddings."},
                                                      {"token_types.", "embeddings.token_type_embeddings."}}};
constexpr std::array<Renaming, 8> layer_names = {{{"attn_q.", "attention.self.query."},
                                                  {"attn_k.", "attention.self.key."},
                                                  {"attn_v.", "attention.self.value."},
                                                  {"attn_output.", "attention.output.dense."},
                                                  {"attn_output_norm.", "attention.output.LayerNorm."},
                                                  {"ffn_up.", "intermediate.dense."},
                                                  {"ffn_down.", "output.dense."},
                                                  {"layer_output_norm.", "output.LayerNorm."}}};

// "blk.3.attn_q.bias" is "encoder.layer.3.attention.self.query.bias".
std::string published_name(std::string_view name) {
  for (const auto& [gguf, published] : embedding_names)
    if (name.starts_with(gguf)) return std::string(published) + std::string(name.substr(gguf.size()));
  const std::string_view after_block = name.substr(std::string_view("blk.").size());
  const size_t dot = after_block.find('.');
  const std::string_view layer = after_block.substr(0, dot), rest = after_block.substr(dot + 1);
  for (const auto& [gguf, published] : layer_names)
    if (rest.starts_with(gguf)) return fmt::format("encoder.layer.{}.{}{}", layer, published, rest.substr(gguf.size()));
  return std::string(name);
}

ReadTensor tensors_of(const SafeTensors& file, const std::string& path) {
  const std::string prefix = file.tensors().contains("embeddings.word_embeddings.weight") ? "" : "bert.";
  return [&file, path, prefix](const std::string& gguf_name, size_t rows, size_t cols) {
    const std::string name = prefix + published_name(gguf_name);
    const std::vector<size_t> shape = cols == 0 ? std::vector{rows} : std::vector{rows, cols};
    if (const auto found = file.tensors().find(name); found != file.tensors().end() && found->second.shape != shape)
      throw Error(ErrorCode::corrupt, fmt::format("'{}': tensor '{}' is [{}], not [{}] as config.json says", path, name,
                                                  fmt::join(found->second.shape, ", "), fmt::join(shape, ", ")));
    return file.matrix(name);
  };
}

Gelu activation_named(const JsonFile& config) {
  const std::string name = config.string_or("/hidden_act", "gelu");
  if (name == "gelu") return Gelu::erf;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return Gelu::tanh;
  throw Error(ErrorCode::unsupported,
              fmt::format("'{}': hidden_act is '{}'; hone knows gelu, gelu_new and gelu_pytorch_tanh",
                          config.path().string(), name));
}

void require(const JsonFile& config, const char* field, std::string_view fallback, std::string_view wanted) {
  if (const std::string is = config.string_or(field, std::string(fallback)); is != wanted)
    throw Error(ErrorCode::unsupported,
                fmt::format("'{}': {} is '{}'; hone runs encoders with '{}'", config.path().string(),
                            std::string_view(field).substr(1), is, wanted));
}

Pooling read_pooling(const fs::path& file) {
  const JsonFile config(file);
  constexpr std::array<std::pair<const char*, Pooling>, 3> known = {{{"/pooling_mode_cls_token", Pooling::cls},
                                                                     {"/pooling_mode_mean_tokens", Pooling::mean},
                                                                     {"/pooling_mode_lasttoken", Pooling::last}}};
  std::vector<Pooling> chosen;
  for (const auto& [field, pooling] : known)
    if (config.boolean_or(field, false)) chosen.push_back(pooling);
  for (const char* other :
       {"/pooling_mode_max_tokens", "/pooling_mode_mean_sqrt_len_tokens", "/pooling_mode_weightedmean_tokens"})
    if (config.boolean_or(other, false)) chosen.clear();
  if (chosen.size() != 1)
    throw Error(ErrorCode::unsupported,
                fmt::format("'{}': hone pools by exactly one of pooling_mode_cls_token, pooling_mode_mean_tokens and "
                            "pooling_mode_lasttoken",
                            file.string()));
  return chosen.front();
}

// The modules after the transformer: which folder holds the pooling, and whether vectors are brought to length 1.
void read_modules(const fs::path& folder, std::vector<fs::path>& files, BertConfig& config) {
  fs::path pooling = "1_Pooling";
  if (const fs::path list = folder / "modules.json"; is_there(list)) {
    files.push_back(list);
    const auto modules = nlohmann::json::parse(read_file(list), nullptr, false);
    if (!modules.is_array())
      throw Error(ErrorCode::corrupt, fmt::format("'{}' is not a JSON array; download the model again", list.string()));
    for (const auto& module : modules) {
      const auto text = [&](const char* field) {
        return module.is_object() && module.contains(field) && module[field].is_string()
                   ? module[field].get<std::string>()
                   : std::string();
      };
      const std::string type = text("type");
      if (type.ends_with(".Pooling"))
        pooling = text("path");
      else if (type.ends_with(".Normalize"))
        config.normalize = true;
      else if (!type.ends_with(".Transformer"))
        throw Error(
            ErrorCode::unsupported,
            fmt::format("'{}': module '{}'; hone knows Transformer, Pooling and Normalize", list.string(), type));
    }
  }
  if (const fs::path file = folder / pooling / "config.json"; is_there(file)) {
    files.push_back(file);
    config.pooling = read_pooling(file);
  }
}

}  // namespace

Bert Bert::open_folder(const fs::path& folder, Precision precision) {
  const fs::path weights = folder / "model.safetensors";
  const JsonFile json(folder / "config.json");
  require(json, "/model_type", "bert", "bert");
  require(json, "/position_embedding_type", "absolute", "absolute");
  Bert bert;
  BertConfig& config = bert.config;
  std::error_code unnamed;
  config.name = fs::canonical(folder, unnamed).filename().string();
  config.layers = json.positive("/num_hidden_layers", most_layers);
  config.width = json.positive("/hidden_size", most_width);
  config.heads = json.positive("/num_attention_heads", most_width);
  config.ffn_width = json.positive("/intermediate_size", most_width);
  config.positions = json.positive("/max_position_embeddings", most_positions);
  config.norm_eps = static_cast<float>(json.real_or("/layer_norm_eps", 1e-12));
  config.activation = activation_named(json);
  check_config(config, json.path().string());
  std::vector<fs::path> files = {json.path()};
  read_modules(folder, files, config);

  bert.tokenizer = WordPieceTokenizer::open_folder(folder);
  const SafeTensors tensors = SafeTensors::open(weights);
  const auto vocabulary = static_cast<size_t>(json.positive("/vocab_size", most_tokens));
  if (vocabulary < bert.tokenizer->vocabulary_size())
    json.corrupt("/vocab_size",
                 fmt::format("{}, but there are {} tokens", vocabulary, bert.tokenizer->vocabulary_size()));
  const auto segments = static_cast<size_t>(json.positive("/type_vocab_size", most_width));
  read_weights(tensors_of(tensors, weights.string()), vocabulary, segments, precision, bert);

  for (const char* name : {"vocab.txt", "tokenizer_config.json", "tokenizer.json", "model.safetensors"})
    if (is_there(folder / name)) files.push_back(folder / name);
  std::string hashes;
  for (const fs::path& file : files) hashes += content_hash(MappedFile(file).bytes());
  bert.hash = content_hash(hashes);
  return bert;
}

Bert Bert::open_gguf(const Gguf& file, Precision precision) {
  const std::string path = file.path().string();
  const auto positive = [&](const char* field, int64_t most) {
    const int64_t value = file.integer(std::string("bert.") + field);
    if (value < 1 || value > most)
      throw Error(ErrorCode::corrupt, fmt::format("'{}': bert.{} is {}; expected 1 to {}", path, field, value, most));
    return static_cast<int>(value);
  };
  Bert bert;
  BertConfig& config = bert.config;
  config.name = file.string_or("general.name", file.path().stem().string());
  config.layers = positive("block_count", most_layers);
  config.width = positive("embedding_length", most_width);
  config.heads = positive("attention.head_count", most_width);
  config.ffn_width = positive("feed_forward_length", most_width);
  config.positions = positive("context_length", most_positions);
  config.norm_eps = static_cast<float>(file.real("bert.attention.layer_norm_epsilon"));
  config.normalize = true;
  check_config(config, path);
  if (file.boolean_or("bert.attention.causal", false))
    throw Error(ErrorCode::unsupported, fmt::format("'{}': bert.attention.causal; hone runs encoders without", path));
  constexpr std::array<Pooling, 4> pooling_types = {Pooling::mean, Pooling::mean, Pooling::cls, Pooling::last};
  const int64_t pooling = file.integer_or("bert.pooling_type", 0);
  if (pooling < 0 || pooling >= static_cast<int64_t>(pooling_types.size()))
    throw Error(ErrorCode::unsupported, fmt::format("'{}': bert.pooling_type is {}; hone knows 1 (mean), 2 (cls) and 3 "
                                                    "(last)",
                                                    path, pooling));
  config.pooling = pooling_types[static_cast<size_t>(pooling)];
  bert.tokenizer = std::make_unique<const WordPieceTokenizer>(file);

  const auto rows_of = [&](const char* name) {
    const GgufTensor* tensor = file.find_tensor(name);
    if (!tensor || tensor->rows() < 1)
      throw Error(ErrorCode::corrupt, fmt::format("'{}': tensor '{}' is missing or empty", path, name));
    return tensor->rows();
  };
  const size_t vocabulary = rows_of("token_embd.weight");
  if (vocabulary < bert.tokenizer->vocabulary_size())
    throw Error(ErrorCode::corrupt, fmt::format("'{}': 'token_embd.weight' has {} rows for {} tokens", path, vocabulary,
                                                bert.tokenizer->vocabulary_size()));
  const ReadTensor read = [&](const std::string& name, size_t rows, size_t cols) {
    const std::vector<size_t> shape = cols == 0 ? std::vector{rows} : std::vector{rows, cols};
    const GgufTensor& tensor = file.tensor(name, shape);
    Matrix values = Matrix::uninitialized(cols == 0 ? 1 : rows, cols == 0 ? rows : cols);
    dequantize(tensor.type, tensor.bytes, {values.data(), values.size()});
    return values;
  };
  read_weights(read, vocabulary, rows_of("token_types.weight"), precision, bert);
  bert.hash = content_hash(file.bytes());
  file.drop_pages();
  return bert;
}

}  // namespace hone
