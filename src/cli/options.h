// Options that several subcommands share.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/command_line.h"
#include "hone/adapt.h"
#include "hone/encoder.h"
#include "hone/model.h"

namespace hone::cli {

// MODEL, --precision fp32|int8 and --threads N.
struct ModelArguments {
  std::string path;
  std::string precision = "fp32";
  int threads = 0;

  void add_to(Command command);
  std::shared_ptr<const Model> open() const;
};

// Tokens of a text that the model can read at once, BOS apart.
size_t room_for_text(const Model& model);

// An error about a model file, and what to do about it.
Error with_advice(const Error& about_model);

// read(), which opens a model file.
template <class Read>
auto read_model(const Read& read) {
  try {
    return read();
  } catch (const Error& error) {
    throw with_advice(error);
  }
}

// TextEncoder::open; an error about its files says what to do about it.
std::shared_ptr<const TextEncoder> open_text_encoder(const std::filesystem::path& path, const EncoderOptions& options);

// Of "fp32" and "int8".
Precision precision_named(std::string_view name);

// --gradient-budget BYTES, with KiB, MiB, GiB.
Option add_gradient_budget(Command command, std::optional<uint64_t>& budget);

// --retrieval bm25|vectors|fused|sift and --encoder.
std::array<Option, 2> add_retrieval(Command command, Retrieval& retrieval, std::filesystem::path& encoder);
// For callbacks: refuses an encoder that no vectors are asked of.
void require_vectors_for_encoder(Retrieval retrieval, const std::filesystem::path& encoder);
// Who made the vectors that `retrieval` needs: the store's own encoder, from where --encoder says if it does, or
// nullptr for the model itself or if no vectors are needed. See open_encoder().
std::shared_ptr<const TextEncoder> encoder_for(const Store& store, Retrieval retrieval,
                                               const std::filesystem::path& encoder);
// A neighbour's score with the digits that tell neighbours apart.
std::string score_text(Retrieval retrieval, double score);

nlohmann::json seconds_json(const StageSeconds& stages);
// One object on one line on stdout. Text that is not UTF-8 is replaced character by character.
void print_json(const nlohmann::json& object);

}  // namespace hone::cli
