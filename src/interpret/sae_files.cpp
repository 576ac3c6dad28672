// Autoencoders in the layout of public libraries: cfg.json beside sae_weights.safetensors.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "hone/sae.h"
#include "interpret/encode.h"
#include "interpret/matrices.h"
#include "model/safetensors.h"

namespace hone {
namespace {

using nlohmann::json;

constexpr std::string_view settings_file = "cfg.json";
constexpr std::string_view weights_file = "sae_weights.safetensors";
constexpr std::string_view unit_inputs = "constant_norm_rescale";  // rows of norm √d

[[noreturn]] void fail(const std::filesystem::path& path, std::string_view field, std::string_view problem,
                       ErrorCode code = ErrorCode::corrupt) {
  throw Error(code, fmt::format("'{}': {}: {}", path.string(), field, problem));
}

json read_settings(const std::filesystem::path& path) {
  try {
    json settings = json::parse(read_file(path));
    if (settings.is_object()) return settings;
  } catch (const json::exception&) {
  }
  fail(path, "file", "not a JSON object");
}

size_t size_field(const std::filesystem::path& path, const json& settings, const char* key) {
  const auto found = settings.find(key);
  if (found == settings.end() || !found->is_number_unsigned()) fail(path, key, "a size is missing");
  return found->get<size_t>();
}

std::string text_field(const std::filesystem::path& path, const json& settings, const char* key, const char* absent) {
  const auto found = settings.find(key);
  if (found == settings.end() || found->is_null()) return absent;
  if (!found->is_string()) fail(path, key, "not a string");
  return found->get<std::string>();
}

bool flag_field(const std::filesystem::path& path, const json& settings, const char* key, bool absent) {
  const auto found = settings.find(key);
  if (found == settings.end() || found->is_null()) return absent;
  if (!found->is_boolean()) fail(path, key, "not true or false");
  return found->get<bool>();
}

SaeConfig read_config(const std::filesystem::path& path, const json& settings) {
  SaeConfig config{.inputs = size_field(path, settings, "d_in"), .features = size_field(path, settings, "d_sae")};
  const std::string architecture = text_field(path, settings, "architecture", "standard");
  // Older files: a standard architecture, whose activation is the k largest.
  const std::string activation =
      text_field(path, settings, "activation_fn_str", text_field(path, settings, "activation_fn", "relu").c_str());
  if (architecture == "topk" || (architecture == "standard" && activation == "topk")) {
    const auto arguments = settings.find("activation_fn_kwargs");
    const bool nested = !settings.contains("k") && arguments != settings.end() && arguments->is_object();
    config.active = size_field(path, nested ? *arguments : settings, "k");
  } else if (architecture == "standard" && activation == "relu") {
    config.active = config.features;
  } else if (architecture == "standard") {
    fail(path, "activation_fn_str", fmt::format("{:?} cannot be read; relu and topk can", activation.substr(0, 40)),
         ErrorCode::unsupported);
  } else {
    fail(path, "architecture", fmt::format("{:?} cannot be read; topk and standard can", architecture.substr(0, 40)),
         ErrorCode::unsupported);
  }
  config.relu = flag_field(path, settings, "hone_relu", true);
  config.pre_bias = flag_field(path, settings, "apply_b_dec_to_input", true);
  if (flag_field(path, settings, "finetuning_scaling_factor", false))
    fail(path, "finetuning_scaling_factor", "features that are scaled once more cannot be read",
         ErrorCode::unsupported);
  const auto normalized = settings.find("normalize_activations");
  const bool off = normalized != settings.end() && *normalized == false;  // older files
  const std::string normalization = off ? "none" : text_field(path, settings, "normalize_activations", "none");
  config.unit_inputs = normalization == unit_inputs;
  if (!config.unit_inputs && normalization != "none")
    fail(path, "normalize_activations",
         fmt::format("{:?} cannot be read; none and {} can", normalization.substr(0, 40), unit_inputs),
         ErrorCode::unsupported);
  try {
    check_config(config);
  } catch (const Error& error) {
    fail(path, "sizes", error.message);
  }
  return config;
}

std::vector<float> scaled(std::span<const float> values, double factor) {
  std::vector<float> result(values.begin(), values.end());
  for (float& value : result) value = static_cast<float>(value * factor);
  return result;
}

double bias_scale(const SaeConfig& config) {
  return config.unit_inputs ? std::sqrt(static_cast<double>(config.inputs)) : 1.0;
}

double norm(std::span<const float> x) {
  double sum = 0;
  for (const float value : x) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

bool rows_are_unit(const Matrix& rows) {
  for (size_t f = 0; f < rows.rows(); ++f)
    if (std::abs(norm(rows.row(f)) - 1) > 1e-4) return false;
  return true;
}

// Where activations are ranked by what they contribute, norms of decoder rows move to the encoder.
void take_norms_of_rows(Sae& sae) {
  for (size_t f = 0; f < sae.config.features; ++f) {
    const double factor = norm(sae.decoder.row(f));
    for (float& value : sae.encoder.row(f)) value = static_cast<float>(value * factor);
    sae.encoder_bias[f] = static_cast<float>(sae.encoder_bias[f] * factor);
  }
  sae.config.unit_rows = true;
}

}  // namespace

Sae Sae::open(const std::filesystem::path& folder) {
  const std::filesystem::path settings = folder / settings_file, weights = folder / weights_file;
  const json fields = read_settings(settings);
  Sae sae;
  sae.config = read_config(settings, fields);
  const SafeTensors file = SafeTensors::open(weights);
  const size_t d = sae.config.inputs, features = sae.config.features;
  sae.encoder = transposed(read_matrix(file, weights, "W_enc", d, features));
  sae.decoder = read_matrix(file, weights, "W_dec", features, d);
  const double factor = 1 / bias_scale(sae.config);
  sae.encoder_bias = scaled(read_vector(file, weights, "b_enc", features), factor);
  sae.decoder_bias = scaled(read_vector(file, weights, "b_dec", d), factor);
  if (file.tensors().contains("threshold") || file.tensors().contains("W_gate") || file.tensors().contains("b_gate"))
    fail(weights, "tensors", "thresholds or gates cannot be read; topk and standard autoencoders can",
         ErrorCode::unsupported);
  if (flag_field(settings, fields, "rescale_acts_by_decoder_norm", false))
    take_norms_of_rows(sae);
  else
    sae.config.unit_rows = rows_are_unit(sae.decoder);
  return sae;
}

void Sae::save(const std::filesystem::path& folder) const {
  make_folder(folder);
  const Matrix weights = transposed(encoder), rows = directions();
  const std::vector<float> in = scaled(encoder_bias, bias_scale(config)),
                           out = scaled(decoder_bias, bias_scale(config));
  const std::vector<NamedMatrix> tensors = {{"W_enc", weights},
                                            {"b_enc", {in.data(), 1, in.size()}, {in.size()}},
                                            {"W_dec", rows},
                                            {"b_dec", {out.data(), 1, out.size()}, {out.size()}}};
  write_safetensors(folder / weights_file, tensors);
  const json settings = {{"architecture", "topk"},
                         {"d_in", config.inputs},
                         {"d_sae", config.features},
                         {"k", config.active},
                         {"activation_fn_str", "topk"},
                         {"activation_fn_kwargs", {{"k", config.active}}},
                         {"apply_b_dec_to_input", config.pre_bias},
                         {"normalize_activations", config.unit_inputs ? unit_inputs : "none"},
                         {"dtype", "float32"},
                         {"device", "cpu"},
                         {"finetuning_scaling_factor", false},
                         {"hone_relu", config.relu}};
  write_file_atomically(folder / settings_file, settings.dump(2) + "\n");
}

}  // namespace hone
