// Which encoder makes a store's dense vectors: remembered in the store, opened again where it is needed.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "hone/adapt.h"

namespace hone {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* encoder_name = "encoder";

std::string advice(const Store& store) {
  return fmt::format(
      "give its place with --encoder, or make the vectors anew with `hone index MODEL PATH... -o {} "
      "--vectors --encoder ENCODER`",
      store.directory().string());
}

bool is_utf8(const std::string& text) {
  try {
    return !json(text).dump().empty();
  } catch (const json::exception&) {
    return false;
  }
}

struct Remembered {
  std::string name, hash, path;
  EncoderOptions options;
};

// null: the model's own hidden states.
std::optional<Remembered> read(const Store& store) {
  const auto value = store.value(encoder_name);
  if (!value) return std::nullopt;
  try {
    const json object = json::parse(std::string_view(reinterpret_cast<const char*>(value->data()), value->size()));
    if (object.is_null()) return std::nullopt;
    Remembered encoder{object.at("name"), object.at("hash"), object.at("path"), {}};
    encoder.options.layer = object.at("layer").get<int>();
    encoder.options.pooling = pooling_named(object.at("pooling").get<std::string>());
    encoder.options.normalize = object.at("normalize").get<bool>();
    encoder.options.max_tokens = object.at("max_tokens").get<size_t>();
    return encoder;
  } catch (const json::exception&) {
    throw Error(ErrorCode::corrupt, fmt::format("store '{}' does not say which encoder made its vectors; {}",
                                                store.directory().string(), advice(store)));
  }
}

}  // namespace

bool remembers(const Store& store, const TextEncoder& encoder) {
  const std::optional<Remembered> remembered = read(store);
  return remembered && remembered->hash == encoder.hash();
}

void remember_encoder(Store& store, const TextEncoder* encoder, const fs::path& path) {
  json object;
  if (encoder) {
    const std::string place = path.empty() ? "" : fs::absolute(path).lexically_normal().string();
    if (place.empty() || !is_utf8(place))
      throw Error(ErrorCode::bad_input,
                  fmt::format("a store remembers an encoder by its path, in UTF-8; '{}' is none", place));
    const EncoderOptions& options = encoder->options();
    object = {{"name", encoder->name()},         {"hash", encoder->hash()},           {"path", place},
              {"layer", *options.layer},         {"pooling", name(*options.pooling)}, {"normalize", *options.normalize},
              {"max_tokens", options.max_tokens}};
  }
  const std::string text = object.dump(-1, ' ', false, json::error_handler_t::replace);
  store.set_value(encoder_name, std::as_bytes(std::span(text)));
}

std::shared_ptr<const TextEncoder> open_encoder(const Store& store, const fs::path& elsewhere) {
  const std::optional<Remembered> remembered = read(store);
  if (!remembered) {
    if (elsewhere.empty()) return nullptr;
    throw Error(ErrorCode::bad_input,
                fmt::format("the vectors of store '{}' are not those of an encoder but of its model; leave out "
                            "--encoder, or run `hone index MODEL PATH... -o {} --vectors --encoder {}`",
                            store.directory().string(), store.directory().string(), elsewhere.string()));
  }
  const fs::path path = elsewhere.empty() ? fs::path(remembered->path) : elsewhere;
  std::shared_ptr<const TextEncoder> encoder;
  try {
    encoder = TextEncoder::open(path, remembered->options);
  } catch (const Error& error) {
    throw Error(error.code, fmt::format("{}; the vectors of store '{}' are those of {}: {}", error.message,
                                        store.directory().string(), remembered->name, advice(store)));
  }
  if (encoder->hash() != remembered->hash)
    throw Error(ErrorCode::bad_input,
                fmt::format("the vectors of store '{}' are those of {} ({}); '{}' is another encoder ({}): {}",
                            store.directory().string(), remembered->name, remembered->hash, path.string(),
                            encoder->hash(), advice(store)));
  return encoder;
}

}  // namespace hone
