// hone eval MODEL --store S FILE…: would adapting have helped, and by how much?
#include <fmt/format.h>

#include "base/rounding.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/session_options.h"
#include "cli/terminal_text.h"

namespace hone::cli {
namespace {

struct EvaluateArguments {
  ModelArguments model;
  std::filesystem::path store, encoder;
  std::vector<std::filesystem::path> files;
  EvaluationOptions options;
  bool no_published = false;
  bool json = false;
};

bool has_context_rows(const EvaluationTable& table) { return table.rows.size() > 3; }

nlohmann::json evaluation_json(const EvaluateArguments& arguments, const Model& model, const Evaluation& evaluation) {
  nlohmann::json tables = nlohmann::json::array();
  for (const EvaluationTable& table : evaluation.tables) {
    nlohmann::json rows = nlohmann::json::array();
    for (const EvaluationRow& row : table.rows) {
      rows.push_back({{"name", row.name},
                      {"settings", row.settings},
                      {"bpb", row.bpb},
                      {"gain", row.gain.mean},
                      {"gain_ci", {row.gain.low, row.gain.high}},
                      {"gain_median", row.gain_median},
                      {"gain_corpus", row.gain_corpus},
                      {"worse", row.worse},
                      {"harm_bits_max", row.harm_bits_max},
                      {"bound_bits", row.bound_bits < 0 ? nlohmann::json() : nlohmann::json(row.bound_bits)},
                      {"bits", row.bits},
                      {"seconds", seconds_json(row.seconds)}});
    }
    const decide::Interval& difference = table.with_context_minus_context_only;
    tables.push_back({{"neighbours", table.neighbours},
                      {"removed", table.removed},
                      {"without_neighbours", table.without_neighbours},
                      {"without_context", table.without_context},
                      {"rows", rows},
                      {"with_context_minus_context_only",
                       has_context_rows(table)
                           ? nlohmann::json{{"gain", difference.mean}, {"gain_ci", {difference.low, difference.high}}}
                           : nlohmann::json()}});
  }
  const EvaluationOptions& options = arguments.options;
  return {{"protocol", evaluation.protocol},
          {"windows", evaluation.windows},
          {"tokens", evaluation.tokens},
          {"offset", options.offset},
          {"prefix", options.prefix},
          {"continuation", options.continuation},
          {"precision", arguments.model.precision},
          {"retrieval", name(options.session.retrieval)},
          {"tables", tables},
          {"skipped", evaluation.skipped},
          {"peak_rss_mb", peak_rss_mb()},
          {"model", model.name()},
          {"base_hash", model.base_hash()}};
}

void print_table(const EvaluationTable& table, size_t windows) {
  fmt::print("\nneighbours: {} ({} near-duplicate{} {})\n", table.neighbours, table.removed,
             table.removed == 1 ? "" : "s", table.neighbours == "all" ? "among them" : "passed over");
  fmt::print("{:<22} {:>7} {:>8} {:>18} {:>8} {:>8} {:>9} {:>9} {:>7} {:>9}\n", "", "bpb", "gain %", "95 %", "median",
             "corpus", "worse", "max harm", "bound", "s/window");
  for (const EvaluationRow& row : table.rows) {
    double seconds = 0;
    for (const auto& [stage, value] : row.seconds) seconds += value;
    fmt::print("{:<22} {:>7.4f} {:>8.2f} {:>18} {:>8.2f} {:>8.2f} {:>9} {:>9.2f} {:>7} {:>9}\n", row.name, row.bpb,
               100 * row.gain.mean, fmt::format("[{:.2f}, {:.2f}]", 100 * row.gain.low, 100 * row.gain.high),
               100 * row.gain_median, 100 * row.gain_corpus, fmt::format("{} of {}", row.worse, windows),
               row.harm_bits_max, row.bound_bits < 0 ? "-" : rounded_up(row.bound_bits, 2),
               seconds > 0 ? fmt::format("{:.2f}", seconds) : "");
  }
  if (table.without_neighbours > 0)
    fmt::print("{} of {} windows found no neighbour; what needs one is the base there\n", table.without_neighbours,
               windows);
  if (table.without_context > 0)
    fmt::print(
        "with their neighbours {} of {} windows do not fit the model's context; what reads them is the base "
        "there\n",
        table.without_context, windows);
  const decide::Interval& difference = table.with_context_minus_context_only;
  if (has_context_rows(table))
    fmt::print("mixture-with-context minus mixture-context-only: {:+.2f} points [{:.2f}, {:.2f}]\n",
               100 * difference.mean, 100 * difference.low, 100 * difference.high);
}

void print_evaluation(const EvaluateArguments& arguments, const Model& model, const Evaluation& evaluation) {
  fmt::print("{}, {}, protocol {}: {} windows, {} tokens scored\n", one_line(model.name()), arguments.model.precision,
             evaluation.protocol, evaluation.windows, evaluation.tokens);
  if (arguments.options.session.retrieval != Retrieval::bm25)
    fmt::print("neighbours are found by retrieval {}\n", name(arguments.options.session.retrieval));
  for (const std::string& reason : evaluation.skipped) fmt::print("skipped {}\n", one_line(reason));
  for (const EvaluationTable& table : evaluation.tables) print_table(table, evaluation.windows);
  fmt::print("\n");
  for (const EvaluationRow& row : evaluation.tables.front().rows) fmt::print("{:<22} {}\n", row.name, row.settings);
  fmt::print(
      "gain: mean over windows of 1 - bits/base bits, in percent; corpus: of the sums over windows; max harm and "
      "bound: bits per window\n");
  if (evaluation.protocol == "score")
    fmt::print(
        "in this protocol retrieval has seen the scored text: the mixtures' bounds hold, their gains are not "
        "evidence\n");
}

// In every protocol a window is a prefix and a continuation.
void require_room_for_windows(const Model& model, const EvaluationOptions& options) {
  const size_t room = room_for_text(model);
  if (options.prefix > room || options.continuation > room - options.prefix)
    throw Error(ErrorCode::bad_input,
                fmt::format("windows of {} and {} tokens do not fit the model's context of {}; lower --prefix or "
                            "--continuation",
                            options.prefix, options.continuation, model.config().context));
}

void run_eval(EvaluateArguments& arguments) {
  arguments.options.run_published = !arguments.no_published;
  const auto model = arguments.model.open();
  require_room_for_windows(*model, arguments.options);
  const Store store = Store::open(arguments.store, {model->name(), model->base_hash()});
  SessionOptions& session = arguments.options.session;
  session.encoder = encoder_for(store, session.retrieval, arguments.encoder);
  Evaluation evaluation;
  {
    const Watch watch = terminal_watch(arguments.json);
    evaluation = evaluate(model, store, arguments.files, arguments.options, watch);
  }
  if (arguments.json)
    print_json(evaluation_json(arguments, *model, evaluation));
  else
    print_evaluation(arguments, *model, evaluation);
}

}  // namespace

void add_eval(Command program) {
  auto arguments = std::make_shared<EvaluateArguments>();
  EvaluationOptions& options = arguments->options;
  const Command command = program.subcommand("eval", "What adapting is worth on texts of your own");
  arguments->model.add_to(command);
  command.option("FILE", arguments->files, "Texts that are not in the store").required();
  command.option("--store", arguments->store, "A store made by `hone index`").required();
  command
      .option(
          "--protocol",
          [&options](const std::string& name) {
            options.protocol = name == "score"      ? Protocol::score
                               : name == "complete" ? Protocol::complete
                                                    : Protocol::continuation;
          },
          "continue (the default): retrieval sees a prefix, what follows is scored; score: as published; complete: "
          "what "
          "`hone complete` does")
      .one_of({"continue", "score", "complete"});
  command.option("--offset", options.offset, "First token of a file's first window").shows_default();
  command.option("--prefix", options.prefix, "Tokens that retrieval sees").shows_default();
  command.option("--continuation", options.continuation, "Tokens that are scored").shows_default();
  command.option("--windows", options.windows, "Windows per file").shows_default();
  command.flag("--no-published", arguments->no_published, "Leave out the published protocol, the slowest row");
  const std::vector<Option> published = {
      command.option("--published-rank", options.published.rank, "LoRA rank").shows_default(),
      command.option("--published-rate", options.published.learning_rate, "Adam's learning rate").shows_default(),
      command.option("--published-neighbours", options.published_neighbours,
                     "Neighbours, one step each; 0, the default: --neighbours, with --protocol score 50"),
      command.option("--published-first-layer", options.published.first_layer, "Lowest layer with LoRA")
          .shows_default()};
  const SessionOptionGroups groups = add_session_options(command, options.session, arguments->encoder);
  command.flag("--json", arguments->json, "Print one JSON object");
  command.callback([arguments, groups, published] {
    require_vectors_for_encoder(arguments->options.session.retrieval, arguments->encoder);
    require_what_steps_need(arguments->options.session, groups.steps);
    if (arguments->no_published && any_given(published)) refuse_usage("--published-… excludes --no-published");
    if (arguments->options.protocol == Protocol::complete && (arguments->no_published || any_given(published)))
      refuse_usage("--published-… and --no-published exclude --protocol complete, which has no such row");
    if (arguments->options.protocol == Protocol::score && groups.steps.prompt.given())
      refuse_usage("--prompt-steps excludes --protocol score, where no prompt stands before the scored text");
    if (arguments->options.protocol != Protocol::complete && any_given(groups.of_answer))
      refuse_usage(
          "--floor, --block-tokens, --judged-blocks, --answering-experts and --learn-from-answer require --protocol "
          "complete");
    run_eval(*arguments);
  });
}

}  // namespace hone::cli
