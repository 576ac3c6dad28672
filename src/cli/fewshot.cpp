// hone fewshot MODEL --examples F --query "…": labels for queries, from a few labelled examples.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/files.h"
#include "cli/commands.h"
#include "cli/examples.h"
#include "cli/few_shot_options.h"
#include "cli/progress.h"
#include "cli/streams.h"
#include "cli/terminal_text.h"

namespace hone::cli {
namespace {

struct QueryArguments : FewShotArguments {
  std::filesystem::path query_file;
  bool bayes_gap = false;
  bool quiet = false;
};

// A pass that many queries share costs about as much as two queries' gradients.
FewShotOptions::QueryPass pass_for(const FewShotOptions& options, size_t queries, bool bayes_gap) {
  constexpr size_t enough = 3;
  return chosen_by_query(options.subspace) || bayes_gap || queries < enough ? FewShotOptions::QueryPass::gradient
                                                                            : FewShotOptions::QueryPass::tangent;
}

std::vector<std::string> queries_of(const QueryArguments& arguments) {
  std::vector<std::string> queries;
  for (const std::string& query : arguments.queries) {
    if (query.empty()) throw Error(ErrorCode::bad_input, "--query is empty; give the text to label");
    if (query != "-") {
      queries.push_back(query);
      continue;
    }
    const std::vector<std::string> lines = lines_of(read_standard_input());
    queries.insert(queries.end(), lines.begin(), lines.end());
  }
  if (!arguments.query_file.empty()) {
    const std::vector<std::string> lines = lines_of(read_file(arguments.query_file));
    queries.insert(queries.end(), lines.begin(), lines.end());
  }
  if (queries.empty()) throw Error(ErrorCode::bad_input, "there is no query: the texts to label are empty");
  return queries;
}

// Before the first is answered: what many answers cost is not lost to one query that is too long.
void check_queries(const FewShot& few_shot, std::span<const std::string> queries) {
  constexpr size_t shown = 40;
  for (size_t i = 0; i < queries.size(); ++i) {
    try {
      few_shot.check_query(queries[i]);
    } catch (const Error& error) {
      throw Error(error.code, fmt::format("query {} ('{}'): {}", i + 1, one_line(queries[i], shown), error.message));
    }
  }
}

void print_answer(const std::string& query, const FewShotAnswer& answer, bool quiet) {
  constexpr size_t query_width = 72, label_width = 40;
  if (answer.classes.empty()) {
    fmt::print("{}  ± {:.3g}  in-context {:.6g}  {}\n", answer.label, answer.deviation, answer.in_context_value,
               one_line(query, query_width));
  } else {
    const ClassProbability& best = *std::ranges::find(answer.classes, answer.label, &ClassProbability::label);
    fmt::print("{}  {:.2f}  in-context {:.2f}  {}\n", one_line(answer.label, label_width), best.answer, best.in_context,
               one_line(query, query_width));
  }
  if (!quiet) fmt::print("    {}\n", decision_sentence(answer));
  const FewShotReport& report = answer.report;
  if (!quiet && !report.linearised.empty()) {
    fmt::print("    linearised {:.4f}", fmt::join(report.linearised, " "));
    if (!report.updated.empty()) fmt::print(", updated weights {:.4f}", fmt::join(report.updated, " "));
    if (!report.descended.empty()) fmt::print(", gradient descent {:.4f}", fmt::join(report.descended, " "));
    fmt::print("\n");
  }
  flush_standard_output();
}

void run_fewshot(const QueryArguments& arguments) {
  const std::vector<LabelledText> examples = read_examples(arguments.examples);
  const std::vector<std::string> queries = queries_of(arguments);
  const auto model = arguments.model.open();
  std::optional<FewShot> few_shot;
  Watch quiet;
  {
    const Watch watch = terminal_watch(arguments.json || arguments.quiet);
    FewShotOptions options = arguments.options_for(model, watch);
    options.query_pass = pass_for(options, queries.size(), arguments.bayes_gap);
    few_shot = few_shot_of(arguments.examples, model, examples, std::move(options), watch);
    quiet.cancel = watch.cancel;
  }
  check_queries(*few_shot, queries);
  nlohmann::json answers = nlohmann::json::array();
  double seconds = 0;
  for (const std::string& query : queries) {
    const FewShotAnswer answer = few_shot->answer(query, quiet);
    for (const auto& [stage, value] : answer.report.seconds) seconds += value;
    if (arguments.json)
      answers.push_back(answer_json(query, answer));
    else
      print_answer(query, answer, arguments.quiet);
  }
  if (arguments.json)
    return print_json({{"model", model->name()},
                       {"base_hash", model->base_hash()},
                       {"precision", arguments.model.precision},
                       {"task", arguments.regression ? "regression" : "classification"},
                       {"labels", few_shot->labels()},
                       {"examples", examples.size()},
                       {"subspace", arguments.subspace},
                       {"steps", arguments.steps},
                       {"seconds", seconds_json(few_shot->seconds())},
                       {"answers", answers}});
  if (arguments.quiet) return;
  double shared = 0;
  for (const auto& [stage, value] : few_shot->seconds()) shared += value;
  remark("{} examples in {:.2f} s, then {:.2f} s a query\n", examples.size(), shared,
         seconds / static_cast<double>(queries.size()));
}

}  // namespace

void add_fewshot(Command program) {
  auto arguments = std::make_shared<QueryArguments>();
  const Command command =
      program.subcommand("fewshot", "Label texts by a few labelled examples, with the model adapted to them");
  arguments->add_to(command);
  command.option("--query", arguments->queries, "A text to label (repeatable); - reads one a line from standard input")
      .one_value_each();
  command.option("--queries", arguments->query_file, "A file with one text a line");
  command.flag("--bayes-gap", arguments->bayes_gap,
               "Every query's own Bayes gap, also of three queries or more: a gradient pass for each");
  command.flag("--quiet", arguments->quiet, "Leave the decision out");
  command.callback([arguments] {
    if (arguments->queries.empty() && arguments->query_file.empty()) refuse_usage("--query or --queries is required");
    arguments->check();
    run_fewshot(*arguments);
  });
}

}  // namespace hone::cli
