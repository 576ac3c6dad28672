#include "cli/options.h"

#include <fmt/format.h>

#include "cli/progress.h"
#include "hone/adapt.h"

namespace hone::cli {

void ModelArguments::add_to(Command command) {
  command.option("MODEL", path, "A GGUF file; `hone model get` fetches one").required();
  command.option("--precision", precision, "Frozen products in fp32 or int8").one_of({"fp32", "int8"}).shows_default();
  command.option("--threads", threads, "Threads of the kernels (default: all cores)").in_range(1, most_threads);
}

Precision precision_named(std::string_view name) { return name == "int8" ? Precision::int8 : Precision::fp32; }

std::shared_ptr<const Model> ModelArguments::open() const {
  if (threads > 0) set_threads(threads);
  const CancelToken& cancel = cancel_on_interrupt();
  auto model = read_model([&] { return Model::open(path, {.precision = precision_named(precision)}); });
  cancel.check();
  return model;
}

size_t room_for_text(const Model& model) {
  return static_cast<size_t>(model.config().context) - model.encode("").size();
}

Error with_advice(const Error& about_model) {
  const auto advice = [&]() -> std::string_view {
    switch (about_model.code) {
      case ErrorCode::corrupt: return "; get the file again, or another one with `hone model get smollm2`";
      case ErrorCode::unsupported:
      case ErrorCode::not_found: return "; `hone model get smollm2` fetches one that hone runs";
      case ErrorCode::bad_input: return "; a model is a GGUF file, `hone model get smollm2` fetches one";
      default: return "";
    }
  };
  return {about_model.code, about_model.message + std::string(advice())};
}

std::shared_ptr<const TextEncoder> open_text_encoder(const std::filesystem::path& path, const EncoderOptions& options) {
  try {
    return TextEncoder::open(path, options);
  } catch (const Error& error) {
    if (error.code == ErrorCode::bad_input) throw;
    throw Error(error.code, error.message + "; `hone model get minilm` fetches an encoder");
  }
}

Option add_gradient_budget(Command command, std::optional<uint64_t>& budget) {
  return command
      .option("--gradient-budget", budget,
              "Most bytes of gradient rows that the store keeps, e.g. 512MiB (default: what `hone index` was "
              "last given, else 2GiB)")
      .as_size();
}

std::array<Option, 2> add_retrieval(Command command, Retrieval& retrieval, std::filesystem::path& encoder) {
  const Option by =
      command
          .option(
              "--retrieval",
              [&retrieval](const std::string& wanted) {
                for (const Retrieval one : {Retrieval::bm25, Retrieval::vectors, Retrieval::fused, Retrieval::sift})
                  if (name(one) == wanted) retrieval = one;
              },
              "Neighbours by words (bm25, the default), by dense vectors (vectors; `hone index --vectors` makes them), "
              "by both (fused), or by vectors without near duplicates of each other (sift)")
          .one_of({"bm25", "vectors", "fused", "sift"});
  return {by, command.option("--encoder", encoder, "Where the encoder of the store's vectors is now, if it was moved")};
}

void require_vectors_for_encoder(Retrieval retrieval, const std::filesystem::path& encoder) {
  if (retrieval == Retrieval::bm25 && !encoder.empty())
    refuse_usage("--encoder requires --retrieval vectors, fused or sift");
}

std::shared_ptr<const TextEncoder> encoder_for(const Store& store, Retrieval retrieval,
                                               const std::filesystem::path& encoder) {
  return retrieval == Retrieval::bm25 ? nullptr : open_encoder(store, encoder);
}

std::string score_text(Retrieval retrieval, double score) {
  return fmt::format("{:.{}f}", score, retrieval == Retrieval::bm25 ? 2 : retrieval == Retrieval::fused ? 4 : 3);
}

nlohmann::json seconds_json(const StageSeconds& stages) {
  nlohmann::json object = nlohmann::json::object();
  for (const auto& [stage, seconds] : stages) object[stage] = seconds;
  return object;
}

void print_json(const nlohmann::json& object) {
  fmt::print("{}\n", object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace hone::cli
