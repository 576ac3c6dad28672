// hone index MODEL PATH... -o STORE: makes a store of the files below some paths, or brings it up to date.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>

#include "base/files.h"
#include "cli/commands.h"
#include "cli/encoder_options.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/terminal_text.h"
#include "hone/adapt.h"

namespace hone::cli {
namespace {

constexpr size_t skipped_shown = 10;

struct IndexArguments {
  ModelArguments model;
  std::vector<std::filesystem::path> paths;
  std::filesystem::path store;
  IndexOptions options;
  LearnOptions learn;
  bool relearn = false;
  bool vectors = false;
  std::string encoder;  // a path; "own": the model's hidden states; empty: as before
  EncodingArguments encoding;
  bool own_encoding = false;  // some of it was given
  bool gradients = false;
  bool json = false;
  bool quiet = false;
};

// `vectors` (how many were computed) and `gradients`: nothing if none were asked for.
nlohmann::json index_json(const Store& store, const IndexReport& report, std::optional<size_t> vectors,
                          const std::optional<StoredGradients>& gradients) {
  nlohmann::json skipped = nlohmann::json::array();
  for (const auto& [path, reason] : report.skipped) skipped.push_back({{"path", path}, {"reason", reason}});
  return {{"store", store.directory().string()},
          {"model", store.identity().model_name},
          {"base_hash", store.identity().base_hash},
          {"files", report.files_seen},
          {"indexed", report.files_indexed},
          {"unchanged", report.files_unchanged},
          {"removed", report.files_removed},
          {"chunks_added", report.chunks_added},
          {"chunks_duplicate", report.chunks_duplicate},
          {"chunks", report.chunks_total},
          {"vectors_computed", vectors.value_or(0)},
          {"gradients_computed", gradients ? gradients->computed : 0},
          {"chunks_with_gradient", gradients ? nlohmann::json(gradients->chunks) : nlohmann::json()},
          {"skipped", skipped}};
}

void print_index(const Store& store, const IndexReport& report, std::optional<size_t> vectors,
                 const std::optional<StoredGradients>& gradients) {
  fmt::print("{}: {} files indexed, {} unchanged, {} removed; {} chunks added, {} duplicates dropped, {} in all\n",
             store.directory().string(), report.files_indexed, report.files_unchanged, report.files_removed,
             report.chunks_added, report.chunks_duplicate, report.chunks_total);
  if (vectors) fmt::print("vectors of all chunks are kept, {} computed now\n", *vectors);
  if (gradients)
    fmt::print("gradients of {} of {} chunks are kept, {} computed now{}\n", gradients->chunks, report.chunks_total,
               gradients->computed,
               gradients->chunks < report.chunks_total ? "; --gradient-budget has no room for more" : "");
  for (size_t i = 0; i < std::min(report.skipped.size(), skipped_shown); ++i)
    fmt::print("skipped {}: {}\n", one_line(report.skipped[i].path), one_line(report.skipped[i].reason));
  if (report.skipped.size() > skipped_shown)
    fmt::print("skipped {} more; --json lists them all\n", report.skipped.size() - skipped_shown);
}

// Learning reads a chunk and its successor at once.
void require_room_for_chunks(const Model& model, size_t chunk_tokens) {
  const size_t most = room_for_text(model) / 2;
  if (chunk_tokens > most)
    throw Error(ErrorCode::bad_input,
                fmt::format("--chunk-tokens is {}; two chunks must fit the model's context of {}, give at most {}",
                            chunk_tokens, model.config().context, most));
}

// Before a store is made; one that is there may know of paths that are gone.
void require_paths(const std::filesystem::path& store, std::span<const std::filesystem::path> paths) {
  std::error_code unknown;
  if (is_there(store) && !std::filesystem::is_empty(store, unknown)) return;
  for (const std::filesystem::path& path : paths)
    if (!is_there(path))
      throw Error(ErrorCode::not_found,
                  fmt::format("cannot index '{}': there is no such file or folder; check the path", path.string()));
}

size_t compute_vectors(const IndexArguments& arguments, const Model& model, Store& store, const Watch& watch) {
  std::shared_ptr<const TextEncoder> encoder;
  if (arguments.encoder.empty()) {
    encoder = open_encoder(store);
  } else {
    if (arguments.encoder != "own") encoder = open_text_encoder(arguments.encoder, arguments.encoding.options);
    // The one it had, perhaps elsewhere now, goes on as it was asked.
    if (encoder && !arguments.own_encoding && remembers(store, *encoder))
      encoder = open_encoder(store, arguments.encoder);
    remember_encoder(store, encoder.get(), arguments.encoder);
  }
  return encoder ? store_vectors(*encoder, store, watch) : store_vectors(model, store, watch);
}

void run_index(const IndexArguments& arguments) {
  require_paths(arguments.store, arguments.paths);
  const auto model = arguments.model.open();
  if (arguments.learn.first_layer >= model->config().layers)
    throw Error(ErrorCode::bad_input, fmt::format("--first-layer is {}; the model has layers 0 to {}",
                                                  arguments.learn.first_layer, model->config().layers - 1));
  require_room_for_chunks(*model, arguments.options.chunk_tokens);
  Store store = Store::create(arguments.store, {model->name(), model->base_hash()});
  if (arguments.learn.gradient_budget) remember_gradient_budget(store, *arguments.learn.gradient_budget);
  IndexReport report;
  std::optional<size_t> vectors;
  std::optional<StoredGradients> gradients;
  {
    const Watch watch = terminal_watch(arguments.quiet);
    report = store.index(arguments.paths, model->tokenizer(), arguments.options, watch);
    CorpusStatistics statistics;
    if (arguments.relearn || !has_statistics(*model, store, arguments.learn.first_layer))
      statistics = learn_statistics(*model, store, arguments.learn, watch);
    else
      statistics = load_statistics(*model, store, arguments.learn.first_layer);
    if (arguments.vectors) vectors = compute_vectors(arguments, *model, store, watch);
    if (arguments.gradients)
      gradients = store_gradients(*model, store, statistics, arguments.learn.gradient_budget, watch);
  }
  if (arguments.json)
    print_json(index_json(store, report, vectors, gradients));
  else if (!arguments.quiet)
    print_index(store, report, vectors, gradients);
}

}  // namespace

void add_index(Command program) {
  auto arguments = std::make_shared<IndexArguments>();
  const Command command = program.subcommand("index", "Make a store of your files, or bring it up to date");
  arguments->model.add_to(command);
  command.option("PATH", arguments->paths, "Files and folders: text, Markdown, source, JSONL").required();
  command.option("-o,--output", arguments->store, "The store, a folder").required();
  command.option("--chunk-tokens", arguments->options.chunk_tokens, "Most tokens in a chunk").shows_default();
  command.option("--first-layer", arguments->learn.first_layer, "Lowest layer that adapts (default: top quarter)")
      .not_negative();
  command.flag("--relearn", arguments->relearn, "Learn preconditioner and step sizes again");
  const Option vectors = command.flag("--vectors", arguments->vectors, "Compute the dense vectors of all chunks now");
  const Option encoder =
      command
          .option("--encoder", arguments->encoder,
                  "Vectors from this encoder, a folder or GGUF file (`hone model get minilm`), instead of the model's "
                  "own hidden states; the store remembers it and how it was asked; own: the model's again")
          .needs(vectors);
  const std::array<Option, 4> encoding = arguments->encoding.add_to(command);
  for (const Option& option : encoding) option.needs(encoder);
  command.flag("--gradients", arguments->gradients,
               "Compute the gradient rows of all chunks now, as far as --gradient-budget goes");
  add_gradient_budget(command, arguments->learn.gradient_budget);
  command.flag("--json", arguments->json, "Print one JSON object");
  command.flag("--quiet", arguments->quiet, "Print nothing but errors");
  command.callback([arguments, encoding] {
    arguments->own_encoding = std::ranges::any_of(encoding, &Option::given);
    if (arguments->encoder == "own" && arguments->own_encoding)
      refuse_usage(
          "--layer, --pooling, --normalize and --max-tokens are for an encoder; leave them out with --encoder own");
    run_index(*arguments);
  });
}

}  // namespace hone::cli
