// hone search STORE TEXT: the chunks of a store that are most similar to a text.
#include <fmt/format.h>

#include <filesystem>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/streams.h"
#include "cli/terminal_text.h"
#include "data/lines.h"
#include "hone/adapt.h"

namespace hone::cli {
namespace {

constexpr size_t lines_shown = 2;
constexpr size_t bytes_shown = 110;

struct SearchArguments {
  std::filesystem::path store;
  std::string text;
  std::string model;
  std::filesystem::path encoder;
  Retrieval retrieval = Retrieval::bm25;
  size_t count = 10;
  bool json = false;
};

void print_start(std::string_view text) {
  size_t lines = 0;
  for_each_line(text, [&](size_t, std::string_view line) {
    if (lines == lines_shown || line.find_first_not_of(" \t\r") == std::string_view::npos) return;
    fmt::print("    {}\n", one_line(line, bytes_shown));
    ++lines;
  });
}

std::vector<Neighbour> search(const SearchArguments& arguments, const Store& store) {
  if (arguments.text.empty()) throw Error(ErrorCode::bad_input, "TEXT is empty; say what to look for");
  if (arguments.retrieval == Retrieval::bm25) return store.neighbours(arguments.text, arguments.count);
  if (const auto encoder = encoder_for(store, arguments.retrieval, arguments.encoder)) {
    if (!arguments.model.empty())
      refuse_usage(fmt::format("--model is for vectors of a model's own states; those of '{}' are by {}",
                               store.directory().string(), one_line(encoder->name())));
    return find_neighbours(*encoder, store, arguments.retrieval, arguments.text, arguments.count);
  }
  if (arguments.model.empty())
    throw Error(ErrorCode::bad_input, fmt::format("--retrieval {} reads the text with the model that the store was "
                                                  "built with, {}; give its file with --model",
                                                  name(arguments.retrieval), store.identity().model_name));
  const auto model = read_model([&] { return Model::open(arguments.model); });
  const Store checked = Store::open(arguments.store, {model->name(), model->base_hash()});
  return find_neighbours(*model, checked, arguments.retrieval, model->tokenizer().encode(arguments.text),
                         arguments.count);
}

void run_search(const SearchArguments& arguments) {
  const Store store = Store::open(arguments.store);
  nlohmann::json found = nlohmann::json::array();
  const std::vector<Neighbour> neighbours = search(arguments, store);
  if (neighbours.empty())
    remark("'{}' {}\n", arguments.store.string(),
           store.chunk_count() == 0 ? "is empty; `hone index` fills it" : "holds none of these words");
  for (const auto& [id, score] : neighbours) {
    const Chunk chunk = store.chunk(id);
    if (arguments.json) {
      found.push_back({{"chunk", id},
                       {"score", score},
                       {"path", chunk.path},
                       {"ordinal", chunk.ordinal},
                       {"hash", chunk.hash},
                       {"text", chunk.text}});
    } else {
      fmt::print("{}  {}  #{}\n", score_text(arguments.retrieval, score), one_line(chunk.path), chunk.ordinal);
      print_start(chunk.text);
    }
  }
  if (arguments.json)
    print_json(
        {{"store", store.directory().string()}, {"retrieval", name(arguments.retrieval)}, {"neighbours", found}});
}

}  // namespace

void add_search(Command program) {
  auto arguments = std::make_shared<SearchArguments>();
  const Command command = program.subcommand("search", "Show the chunks of a store that are most similar to a text");
  command.option("STORE", arguments->store, "A store made by `hone index`").required();
  command.option("TEXT", arguments->text, "What to look for").required();
  command.option("-k,--neighbours", arguments->count, "How many to show").positive().shows_default();
  add_retrieval(command, arguments->retrieval, arguments->encoder);
  command.option("--model", arguments->model, "The model that the store was built with, for vectors of its own states");
  command.flag("--json", arguments->json, "Print one JSON object");
  command.callback([arguments] {
    require_vectors_for_encoder(arguments->retrieval, arguments->encoder);
    if (arguments->retrieval == Retrieval::bm25 && !arguments->model.empty())
      refuse_usage("--model requires --retrieval vectors, fused or sift");
    run_search(*arguments);
  });
}

}  // namespace hone::cli
