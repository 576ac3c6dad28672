// A trainer in one file: all that the next step depends on.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "interpret/matrices.h"
#include "interpret/trainer.h"

namespace hone {
namespace {

using nlohmann::json;

constexpr std::string_view settings_key = "hone.sae_training";
constexpr std::string_view hash_key = "hone.hash";
constexpr uint64_t count_split = 1 << 24;  // fp32 holds integers up to here

ConstMatrixView row(const std::vector<float>& values) { return {values.data(), 1, values.size()}; }

json settings_of(const SaeTrainer::Impl& state, const std::string& source) {
  const SaeConfig& config = state.sae.config;
  const SaeTraining& training = state.training;
  return {{"inputs", config.inputs},
          {"features", config.features},
          {"active", config.active},
          {"unit_inputs", config.unit_inputs},
          {"unit_rows", config.unit_rows},
          {"pre_bias", config.pre_bias},
          {"relu", config.relu},
          {"steps", training.steps},
          {"batch", training.batch},
          {"initial_active", training.initial_active},
          {"annealing_steps", training.annealing_steps},
          {"learning_rate", training.learning_rate},
          {"warmup_steps", training.warmup_steps},
          {"dropout", training.dropout},
          {"clip", training.clip},
          {"revival", static_cast<int>(training.revival)},
          {"dead_below", training.dead_below},
          {"auxiliary_active", training.auxiliary_active},
          {"auxiliary_weight", training.auxiliary_weight},
          {"seed", training.seed},
          {"steps_done", state.steps},
          {"rows_seen", state.rows_seen},
          {"source", source}};
}

[[noreturn]] void damaged(const std::filesystem::path& path, std::string_view problem) {
  throw Error(ErrorCode::corrupt, fmt::format("'{}': {}; start the training anew or go on from another checkpoint",
                                              path.string(), problem));
}

// Throws json::exception for anything but a whole number of at least 0.
uint64_t whole(const json& from, const char* key) { return from.at(key).get_ref<const json::number_unsigned_t&>(); }

void read_settings(const std::filesystem::path& path, const json& from, SaeConfig& config, SaeTraining& training) {
  config.inputs = whole(from, "inputs");
  config.features = whole(from, "features");
  config.active = whole(from, "active");
  from.at("unit_inputs").get_to(config.unit_inputs);
  from.at("unit_rows").get_to(config.unit_rows);
  from.at("pre_bias").get_to(config.pre_bias);
  from.at("relu").get_to(config.relu);
  training.steps = whole(from, "steps");
  training.batch = whole(from, "batch");
  training.initial_active = whole(from, "initial_active");
  training.annealing_steps = whole(from, "annealing_steps");
  from.at("learning_rate").get_to(training.learning_rate);
  training.warmup_steps = whole(from, "warmup_steps");
  from.at("dropout").get_to(training.dropout);
  from.at("clip").get_to(training.clip);
  const size_t revival = whole(from, "revival");
  if (revival > static_cast<size_t>(Revival::auxiliary_k)) damaged(path, "its way of revival is unknown");
  training.revival = static_cast<Revival>(revival);
  from.at("dead_below").get_to(training.dead_below);
  training.auxiliary_active = whole(from, "auxiliary_active");
  from.at("auxiliary_weight").get_to(training.auxiliary_weight);
  training.seed = whole(from, "seed");
}

// Of the settings and of every tensor, in the order of their names.
std::string hash_of(const std::string& settings, const std::map<std::string, std::string>& tensor_hashes) {
  std::string text = settings;
  for (const auto& [name, hash] : tensor_hashes) text += name + hash;
  return content_hash(text);
}

// Counts as two rows of fp32: the part above 2²⁴, and the rest.
Matrix split_counts(std::span<const uint64_t> counts) {
  Matrix rows(2, counts.size());
  for (size_t f = 0; f < counts.size(); ++f) {
    const uint64_t above = counts[f] / count_split;
    rows.row(0)[f] = static_cast<float>(above);
    rows.row(1)[f] = static_cast<float>(counts[f] % count_split);
  }
  return rows;
}

// One of the two parts of a count.
uint64_t count_part(const std::filesystem::path& path, float value) {
  if (!(value >= 0 && value <= static_cast<float>(count_split) && value == std::trunc(value)))
    damaged(path, "a number of firings is not a count");
  return static_cast<uint64_t>(value);
}

}  // namespace

void SaeTrainer::save(const std::filesystem::path& path, const std::string& source) const {
  const Impl& state = *impl_;
  const Matrix counts = split_counts(state.firings);
  std::vector<NamedMatrix> tensors = {{"firings", counts},
                                      {"W_enc_rows", state.sae.encoder},
                                      {"b_enc", row(state.sae.encoder_bias)},
                                      {"W_dec", state.sae.decoder},
                                      {"b_dec", row(state.sae.decoder_bias)}};
  for (const auto& [name, moments] : {std::pair("first.", &state.first), std::pair("second.", &state.second)}) {
    tensors.push_back({fmt::format("{}W_enc_rows", name), moments->encoder});
    tensors.push_back({fmt::format("{}b_enc", name), row(moments->encoder_bias)});
    tensors.push_back({fmt::format("{}W_dec", name), moments->decoder});
    tensors.push_back({fmt::format("{}b_dec", name), row(moments->decoder_bias)});
  }
  const std::string settings = settings_of(state, source).dump();
  std::map<std::string, std::string> hashes;
  for (const NamedMatrix& tensor : tensors)
    hashes[tensor.name] =
        content_hash(std::as_bytes(std::span(tensor.values.data, tensor.values.rows * tensor.values.cols)));
  write_safetensors(path, tensors,
                    {{std::string(settings_key), settings}, {std::string(hash_key), hash_of(settings, hashes)}});
}

SaeTrainer SaeTrainer::load(const std::filesystem::path& path, const std::string& source) {
  const SafeTensors file = SafeTensors::open(path);
  const auto settings = file.metadata().find(std::string(settings_key)),
             hash = file.metadata().find(std::string(hash_key));
  if (settings == file.metadata().end() || hash == file.metadata().end())
    damaged(path, "it is not a checkpoint of `hone sae train`");
  std::map<std::string, std::string> hashes;
  for (const auto& [name, tensor] : file.tensors()) hashes[name] = content_hash(tensor.bytes);
  if (hash_of(settings->second, hashes) != hash->second) damaged(path, "its contents are damaged");
  try {
    const json fields = json::parse(settings->second);
    if (fields.at("source").get<std::string>() != source)
      throw Error(ErrorCode::bad_input,
                  fmt::format("'{}' was trained on other activations; give the same ones, or start anew with another "
                              "output folder",
                              path.string()));
    SaeConfig config;
    SaeTraining training;
    read_settings(path, fields, config, training);
    const size_t d = config.inputs, features = config.features;
    const auto read = [&](const std::string& prefix) {
      return SaeGradients{read_matrix(file, path, prefix + "W_enc_rows", features, d),
                          read_vector(file, path, prefix + "b_enc", features),
                          read_matrix(file, path, prefix + "W_dec", features, d),
                          read_vector(file, path, prefix + "b_dec", d)};
    };
    SaeGradients values = read("");
    auto state = std::make_unique<Impl>(Sae{config, std::move(values.encoder), std::move(values.encoder_bias),
                                            std::move(values.decoder), std::move(values.decoder_bias)},
                                        training);
    state->first = read("first.");
    state->second = read("second.");
    state->steps = whole(fields, "steps_done");
    state->rows_seen = whole(fields, "rows_seen");
    const Matrix counts = read_matrix(file, path, "firings", 2, features);
    for (size_t f = 0; f < features; ++f)
      state->firings[f] = count_part(path, counts.row(0)[f]) * count_split + count_part(path, counts.row(1)[f]);
    return SaeTrainer(std::move(state));
  } catch (const json::exception& error) {
    damaged(path, error.what());
  }
}

}  // namespace hone
