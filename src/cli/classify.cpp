// hone classify --train FILE --test FILE: what local heads are worth on one's own data.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "cli/classify_report.h"
#include "cli/commands.h"
#include "cli/encoder_options.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/progress.h"
#include "cli/streams.h"
#include "data/delimited.h"
#include "hone/classify.h"
#include "hone/data.h"
#include "hone/encoder.h"

namespace hone::cli {
namespace {

struct ClassifyArguments {
  std::filesystem::path train, train_labels, test, test_labels, encoder, predictions, save_experts, experts_file;
  LabelledOptions table;  // how one is laid out
  std::string kind = "flat", metric, solver = "adam", head = "lbfgs", precision = "fp32";
  EncodingArguments encoding;
  ClassifyOptions options;
  int threads = 0;
  bool no_header = false, ignore_unseen = false, as_json = false, quiet = false;
};

// How to read one of both files. Where only one is a table, what is said of tables is for that one; where neither is,
// read_labelled() refuses it.
LabelledOptions options_of(const ClassifyArguments& arguments, const std::filesystem::path& file,
                           const std::filesystem::path& labels) {
  const bool any_table = separator_of(arguments.train) || separator_of(arguments.test);
  LabelledOptions options = separator_of(file) || !any_table ? arguments.table : LabelledOptions{};
  options.label_file = labels;
  return options;
}

// Features of both, by the encoder where they are texts.
void embed_texts(const ClassifyArguments& arguments, LabelledData& train, LabelledData& test, const Watch& watch) {
  if (train.texts.empty() != test.texts.empty())
    throw Error(ErrorCode::bad_input, fmt::format("one of '{}' and '{}' holds texts, the other features",
                                                  arguments.train.string(), arguments.test.string()));
  if (train.texts.empty() && !arguments.encoder.empty())
    throw Error(ErrorCode::bad_input,
                fmt::format("'{}' holds numbers; --encoder is for texts, leave it out", arguments.train.string()));
  if (train.texts.empty()) return;
  if (arguments.encoder.empty())
    throw Error(ErrorCode::bad_input, fmt::format("'{}' holds texts; say what turns them into features with --encoder, "
                                                  "e.g. the folder that `hone model get minilm` prints",
                                                  arguments.train.string()));
  EncoderOptions options = arguments.encoding.options;
  options.precision = precision_named(arguments.precision);
  const auto encoder = open_text_encoder(arguments.encoder, options);
  train.x = encoder->embed(train.texts, {}, watch);
  test.x = encoder->embed(test.texts, {}, watch);
}

// A label that no training row has cannot be answered: it is an error unless such rows are to be left out.
Queries queries_of(const ClassifyArguments& arguments, std::span<const std::string> labels, LabelledData& test) {
  Queries queries;
  const size_t rows = test.size();
  if (arguments.ignore_unseen) queries.rows = keep_labels(labels, test);
  queries.ignored = arguments.ignore_unseen ? rows - test.size() : 0;
  if (test.size() == 0)
    throw Error(ErrorCode::bad_input,
                fmt::format("'{}': no row has a label of '{}'", arguments.test.string(), arguments.train.string()));
  if (!arguments.ignore_unseen)
    for (size_t i = 0; i < rows; ++i) queries.rows.push_back(i);
  try {
    queries.truth = labels_as(labels, test, fmt::format("'{}'", arguments.test.string()));
  } catch (const Error& error) {
    throw Error(error.code, error.message + "; --ignore-unseen leaves them out");
  }
  return queries;
}

// Experts that were kept, for the same labels.
std::optional<Experts> kept_experts(const ClassifyArguments& arguments, std::span<const std::string> labels) {
  if (arguments.experts_file.empty()) return std::nullopt;
  Experts experts = Experts::open(arguments.experts_file);
  if (!std::ranges::equal(experts.labels(), labels))
    throw Error(ErrorCode::bad_input, fmt::format("'{}': these experts know other labels than '{}' has; make new ones "
                                                  "with --experts and --save-experts",
                                                  arguments.experts_file.string(), arguments.train.string()));
  return experts;
}

void run_classify(ClassifyArguments& arguments) {
  require_writable_file(arguments.predictions);
  require_writable_file(arguments.save_experts);
  if (arguments.threads > 0) set_threads(arguments.threads);
  ClassifyOptions& options = arguments.options;
  options.index.kind = index_kind_named(arguments.kind);
  options.training.solver = arguments.solver == "lbfgs" ? LocalSolver::lbfgs : LocalSolver::adam;
  options.published_head = arguments.head == "adam";
  options.index.seed = options.adam.seed = options.seed;
  arguments.table.header = !arguments.no_header;
  LabelledData train = read_labelled(arguments.train, options_of(arguments, arguments.train, arguments.train_labels));
  LabelledData test = read_labelled(arguments.test, options_of(arguments, arguments.test, arguments.test_labels));
  if (train.labels.size() < 2)
    throw Error(ErrorCode::bad_input,
                fmt::format("'{}': every row has the label '{}'; with one label there is nothing to decide",
                            arguments.train.string(), train.labels.front()));
  const Queries queries = queries_of(arguments, train.labels, test);
  const std::optional<Experts> experts = kept_experts(arguments, train.labels);
  options.known_experts = experts ? &*experts : nullptr;
  // Embeddings of texts are compared by direction, as they were trained to be.
  options.index.metric =
      arguments.metric.empty() ? (train.texts.empty() ? Metric::l2 : Metric::cosine) : metric_named(arguments.metric);

  Classification result;
  std::vector<ClassifyScore> scores;
  {
    const Watch watch = terminal_watch(arguments.quiet || arguments.as_json);
    embed_texts(arguments, train, test, watch);
    if (test.x.cols() != train.x.cols())
      throw Error(ErrorCode::bad_input,
                  fmt::format("'{}' has {} features, '{}' has {}; both need the same", arguments.test.string(),
                              test.x.cols(), arguments.train.string(), train.x.cols()));
    result = classify(train.x, train.y, train.labels.size(), test.x, queries.truth, options, watch);
    scores = score_answers(result.answers, queries.truth, options.seed, watch);
  }
  if (arguments.as_json)
    print_json(classify_json(result, scores, queries));
  else
    print_classify_table(options, result, scores, queries);
  flush_standard_output();
  if (!arguments.predictions.empty()) write_predictions(arguments.predictions, result, queries, train.labels);
  if (!arguments.save_experts.empty()) result.experts->save(arguments.save_experts, train.labels);
}

using Check = std::function<void()>;  // for callbacks: refuses options that could not matter together

void add_classify_data(Command command, ClassifyArguments& arguments) {
  command.option("--train", arguments.train, "Labelled points: .npz (X, y), .npy, .csv, .tsv, IDX images").required();
  command.option("--test", arguments.test, "Labelled queries").required();
  command.option("--train-labels", arguments.train_labels, "Labels of .npy or IDX points");
  command.option("--test-labels", arguments.test_labels, "Labels of .npy or IDX queries");
  command.option("--label-column", arguments.table.label_column, "Of tables (default: the last)");
  command.option("--text-column", arguments.table.text_column, "Of tables that hold texts");
  command.flag("--ignore-unseen", arguments.ignore_unseen,
               "Leave out queries whose label no training point has, which is an error otherwise");
  command.flag("--no-header", arguments.no_header, "Tables begin with their first row");
  const Option encoder =
      command.option("--encoder", arguments.encoder, "What turns texts into features: see `hone embed`");
  command.option("--precision", arguments.precision, "Of the encoder")
      .needs(encoder)
      .one_of({"fp32", "int8"})
      .shows_default();
  for (const Option& option : arguments.encoding.add_to(command)) option.needs(encoder);
}

Check add_classify_heads(Command command, ClassifyArguments& arguments) {
  ClassifyOptions& options = arguments.options;
  command.option("--head", arguments.head, "Fit of the global head: lbfgs, or the published adam")
      .one_of({"lbfgs", "adam"})
      .shows_default();
  command
      .option("--ridge", options.ridges,
              "Of the global head; of several the one that predicts a held-out fifth of the points best")
      .not_negative()
      .shows_default();
  command.option("--neighbours", options.neighbours, "Neighbours that a local head is trained on")
      .positive()
      .shows_default();
  command
      .option("--votes", options.votes,
              "Neighbours that vote (default: of 1, 5, 10, 20, 50, 100 what is right about most of a sample of "
              "training points)")
      .positive();
  command.option("--solver", arguments.solver, "Of local heads: adam (published) or lbfgs (second order)")
      .one_of({"adam", "lbfgs"})
      .shows_default();
  command.option("--steps", options.training.steps, "Epochs of Adam, or iterations at most").positive().shows_default();
  const Option rate =
      command.option("--learning-rate", options.training.learning_rate, "Of Adam").positive().shows_default();
  const Option ridge =
      command.option("--local-ridge", options.training.ridge, "Of --solver lbfgs: keeps a local head near the start")
          .not_negative()
          .shows_default();
  return [&arguments, rate, ridge] {
    if (rate.given() && arguments.solver == "lbfgs") refuse_usage("--learning-rate excludes --solver lbfgs");
    if (ridge.given() && arguments.solver == "adam") refuse_usage("--local-ridge requires --solver lbfgs");
  };
}

Check add_classify_search(Command command, ClassifyArguments& arguments) {
  ClassifyOptions& options = arguments.options;
  command.option("--index", arguments.kind, "Search: flat (exact), ivf, hnsw")
      .one_of({"flat", "ivf", "hnsw"})
      .shows_default();
  const Option recall = command
                            .option("--recall", options.index.recall,
                                    "Of ivf and hnsw: share of a sample's nearest points that a search shall find")
                            .in_range(1e-6, 1.0)
                            .shows_default();
  const Option lists =
      command.option("--lists", options.index.lists, "Of ivf: inverted lists; 0: about 4·√rows").shows_default();
  const Option links =
      command.option("--links", options.index.links, "Of hnsw: links of a row").positive().shows_default();
  command.option("--metric", arguments.metric, "l2 or cosine (default: cosine for texts, l2 otherwise)")
      .one_of({"l2", "cosine"});
  const Option sift =
      command.option("--sift", options.sift_pool, "Re-choose the neighbours among so many nearest by SIFT; 0: do not")
          .shows_default();
  command.option("--sift-noise", options.sift_noise, "Its λ").needs(sift).positive().shows_default();
  return [&arguments, recall, lists, links] {
    if (recall.given() && arguments.kind == "flat") refuse_usage("--recall requires --index ivf or hnsw");
    if (lists.given() && arguments.kind != "ivf") refuse_usage("--lists requires --index ivf");
    if (links.given() && arguments.kind != "hnsw") refuse_usage("--links requires --index hnsw");
  };
}

}  // namespace

void add_classify(Command program) {
  auto arguments = std::make_shared<ClassifyArguments>();
  ClassifyOptions& options = arguments->options;
  const Command command = program.subcommand("classify", "Answer every query with a head trained on its neighbours");
  add_classify_data(command, *arguments);
  const Check check_heads = add_classify_heads(command, *arguments);
  const Check check_search = add_classify_search(command, *arguments);
  const Option experts =
      command.option("--experts", options.experts, "Also so many experts, one head a centroid").positive();
  command.option("--save-experts", arguments->save_experts, "Keep them in this file").needs(experts);
  command.option("--experts-file", arguments->experts_file, "Experts that were kept, instead of new ones")
      .excludes(experts);
  command.option("--floor", options.floor, "The global head's least weight in hone's answer")
      .in_range(1e-6, 1.0)
      .shows_default();
  command
      .option("--locality", options.locality_queries,
              "Queries, drawn at random, whose local heads are also asked about other points")
      .positive()
      .shows_default();
  command.option("--seed", options.seed, "Seed of every random choice").shows_default();
  command.option("--predictions", arguments->predictions,
                 "Write every way's choice and hone's probabilities to this CSV file");
  command.option("--threads", arguments->threads, "Threads of the kernels (default: all cores)")
      .in_range(1, most_threads);
  command.flag("--json", arguments->as_json, "Print one JSON object");
  command.flag("--quiet", arguments->quiet, "No progress");
  command.callback([arguments, check_heads, check_search] {
    check_heads();
    check_search();
    run_classify(*arguments);
  });
}

}  // namespace hone::cli
