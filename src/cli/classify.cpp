// hone classify --train FILE --test FILE: what local heads are worth on one's own data.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/files.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/progress.h"
#include "hone/classify.h"
#include "hone/data.h"
#include "hone/encoder.h"

namespace hone::cli {
namespace {

using nlohmann::json;

struct Arguments {
  std::filesystem::path train, test, encoder, predictions, save_experts, experts_file;
  LabelledOptions train_files, test_files;
  std::string kind = "flat", metric, solver = "adam", head = "lbfgs", precision = "fp32";
  ClassifyOptions options;
  int threads = 0;
  bool no_header = false, ignore_unseen = false, as_json = false, quiet = false;
};

// Features of both, by the encoder where they are texts.
void embed_texts(const Arguments& arguments, LabelledData& train, LabelledData& test, const Watch& watch) {
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
  EncoderOptions options;
  options.precision = arguments.precision == "int8" ? Precision::int8 : Precision::fp32;
  const auto encoder = read_model([&] { return TextEncoder::open(arguments.encoder, options); });
  train.x = encoder->embed(train.texts, {}, watch);
  test.x = encoder->embed(test.texts, {}, watch);
}

json to_json(const decide::Interval& interval) { return json::array({interval.mean, interval.low, interval.high}); }

// What is asked, and what the answers are held against.
struct Queries {
  std::vector<size_t> rows;  // of the test file
  std::vector<int> truth;    // by the training data's labels
  size_t ignored = 0;        // test rows of other labels
};

// A label that no training row has cannot be answered: it is an error unless such rows are to be left out.
Queries queries_of(const Arguments& arguments, std::span<const std::string> labels, LabelledData& test) {
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
std::optional<Experts> kept_experts(const Arguments& arguments, std::span<const std::string> labels) {
  if (arguments.experts_file.empty()) return std::nullopt;
  Experts experts = Experts::open(arguments.experts_file);
  if (!std::ranges::equal(experts.labels(), labels))
    throw Error(ErrorCode::bad_input, fmt::format("'{}': these experts know other labels than '{}' has; make new ones "
                                                  "with --experts and --save-experts",
                                                  arguments.experts_file.string(), arguments.train.string()));
  return experts;
}

json report(const Classification& result, const std::vector<ClassifyScore>& scores, const Queries& queries) {
  const auto locality = [](const decide::Interval& accuracy, const decide::Interval& log_loss) {
    return json{{"accuracy", accuracy.mean},
                {"accuracy_interval", {accuracy.low, accuracy.high}},
                {"log_loss", log_loss.mean},
                {"log_loss_interval", {log_loss.low, log_loss.high}}};
  };
  json rows = json::array();
  for (const ClassifyScore& score : scores)
    rows.push_back({{"name", score.name},
                    {"accuracy", score.accuracy.mean},
                    {"accuracy_interval", {score.accuracy.low, score.accuracy.high}},
                    {"log_loss", score.log_loss.mean},
                    {"log_loss_interval", {score.log_loss.low, score.log_loss.high}},
                    {"ece", score.calibration_error},
                    {"accuracy_gain", to_json(score.accuracy_gain)},
                    {"log_loss_gain", to_json(score.log_loss_gain)},
                    {"worst_bits", std::isfinite(score.worst_bits) ? json(score.worst_bits) : json(nullptr)},
                    {"queries_per_s", score.queries_per_second}});
  return {{"rows", rows},
          {"queries", queries.truth.size()},
          {"ignored", queries.ignored},
          {"locality",
           {{"own_neighbourhood", locality(result.own_accuracy, result.own_log_loss)},
            {"used_globally", locality(result.elsewhere_accuracy, result.elsewhere_log_loss)}}},
          {"votes", {{"majority", result.majority_votes}, {"by_distance", result.distance_votes}}},
          {"bound_bits", result.prior.bound_bits()},
          {"checkpoints", result.checkpoints},
          {"prior", result.prior.weights},
          {"trust", result.prior.trust},
          {"pseudo_queries", result.prior.pseudo_queries},
          {"ridge", result.ridge},
          {"fit_seconds", result.fit_seconds}};
}

void print_table(const Arguments& arguments, const Classification& result, const std::vector<ClassifyScore>& scores,
                 const Queries& queries) {
  const auto percent = [](const decide::Interval& share) {
    return fmt::format("{:.2f} [{:.2f}, {:.2f}]", 100 * share.mean, 100 * share.low, 100 * share.high);
  };
  const auto nats = [](const decide::Interval& loss) {
    return fmt::format("{:.4f} [{:.4f}, {:.4f}]", loss.mean, loss.low, loss.high);
  };
  fmt::print("{:<32} {:>24} {:>24} {:>6} {:>10}\n", "", "accuracy, %", "log-loss, nats", "ECE", "queries/s");
  for (const ClassifyScore& score : scores)
    fmt::print("{:<32} {:>24} {:>24} {:>6.3f} {:>10.0f}\n", score.name, percent(score.accuracy), nats(score.log_loss),
               score.calibration_error, score.queries_per_second);
  fmt::print("{:<32} {:>24} {:>24}\n", "local, own neighbourhood", percent(result.own_accuracy),
             nats(result.own_log_loss));
  fmt::print("{:<32} {:>24} {:>24}\n", "local, used globally", percent(result.elsewhere_accuracy),
             nats(result.elsewhere_log_loss));
  fmt::print("\nminus global, paired\n");
  for (size_t i = 1; i < scores.size(); ++i)
    fmt::print("{:<32} {:>24} {:>24}   worst answer {:+.2f} bits\n", scores[i].name,
               fmt::format("{:+.2f} [{:+.2f}, {:+.2f}]", 100 * scores[i].accuracy_gain.mean,
                           100 * scores[i].accuracy_gain.low, 100 * scores[i].accuracy_gain.high),
               fmt::format("{:+.4f} [{:+.4f}, {:+.4f}]", scores[i].log_loss_gain.mean, scores[i].log_loss_gain.low,
                           scores[i].log_loss_gain.high),
               scores[i].worst_bits);
  fmt::print(
      "\nhone: steps {} weighed {}, neighbours trusted {}; no answer costs more than {:.2f} bits over global\n",
      fmt::join(result.checkpoints, " "),
      [&] {
        std::string text;
        for (const double weight : result.prior.weights)
          text += fmt::format("{}{:.2f}", text.empty() ? "" : " ", weight);
        return text;
      }(),
      result.prior.trust, result.prior.bound_bits());
  for (const ClassifyScore& score : scores)
    if (std::isinf(score.log_loss.mean))
      fmt::print("{}: heads diverged, and are counted as wrong; give a smaller --learning-rate or fewer --steps\n",
                 score.name);
  if (queries.ignored > 0) fmt::print("{} test rows were left out: no training row has their label\n", queries.ignored);
  fmt::print("{} queries, {} neighbours ({}, {}), {} steps, {} and {} votes, ridge {:g}; {:.1f} s beforehand\n",
             queries.truth.size(), arguments.options.neighbours, name(arguments.options.index.metric),
             name(arguments.options.index.kind), arguments.options.training.steps, result.majority_votes,
             result.distance_votes, result.ridge, result.fit_seconds);
}

// A line a query: its row in the test file, from 0, its label, then every way's choice, which is empty for a head that
// diverged, then hone's probabilities.
void write_predictions(const std::filesystem::path& path, const Classification& result, const Queries& queries,
                       std::span<const std::string> labels) {
  const auto quoted = [](const std::string& text) {
    std::string field = "\"";
    for (const char c : text) field += c == '"' ? std::string("\"\"") : std::string(1, c);
    return field + '"';
  };
  std::string lines = "row,label";
  for (const Answers& way : result.answers)
    lines += "," + (way.name.find(',') == std::string::npos ? way.name : quoted(way.name));
  const Answers* hone = nullptr;
  for (const Answers& way : result.answers)
    if (way.name == "hone") hone = &way;
  for (const std::string& label : labels) lines += "," + quoted("p(" + label + ")");
  lines += '\n';
  for (size_t q = 0; q < queries.rows.size(); ++q) {
    lines += fmt::format("{},{}", queries.rows[q], quoted(labels[static_cast<size_t>(queries.truth[q])]));
    for (const Answers& way : result.answers) {
      const auto row = way.log_probabilities.row(q);
      const bool sound = std::ranges::all_of(row, [](float log_p) { return std::isfinite(log_p); });
      lines += "," + (sound ? quoted(labels[static_cast<size_t>(std::ranges::max_element(row) - row.begin())]) : "");
    }
    for (const float log_p : hone->log_probabilities.row(q)) lines += fmt::format(",{:.6g}", std::exp(log_p));
    lines += '\n';
  }
  write_file_atomically(path, lines);
}

void run(Arguments& arguments) {
  require_writable_file(arguments.predictions);
  require_writable_file(arguments.save_experts);
  if (arguments.threads > 0) set_threads(arguments.threads);
  ClassifyOptions& options = arguments.options;
  options.index.kind = index_kind_named(arguments.kind);
  options.training.solver = arguments.solver == "lbfgs" ? LocalSolver::lbfgs : LocalSolver::adam;
  options.published_head = arguments.head == "adam";
  options.index.seed = options.adam.seed = options.seed;
  arguments.train_files.header = arguments.test_files.header = !arguments.no_header;
  arguments.test_files.label_column = arguments.train_files.label_column;
  arguments.test_files.text_column = arguments.train_files.text_column;
  LabelledData train = read_labelled(arguments.train, arguments.train_files);
  LabelledData test = read_labelled(arguments.test, arguments.test_files);
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

  const Classification result = [&] {
    const Watch watch = terminal_watch(arguments.quiet || arguments.as_json);
    embed_texts(arguments, train, test, watch);
    if (test.x.cols() != train.x.cols())
      throw Error(ErrorCode::bad_input,
                  fmt::format("'{}' has {} features, '{}' has {}; both need the same", arguments.test.string(),
                              test.x.cols(), arguments.train.string(), train.x.cols()));
    return classify(train.x, train.y, train.labels.size(), test.x, queries.truth, options, watch);
  }();
  const std::vector<ClassifyScore> scores = score_answers(result.answers, queries.truth, options.seed);
  if (!arguments.save_experts.empty()) result.experts->save(arguments.save_experts, train.labels);
  if (!arguments.predictions.empty()) write_predictions(arguments.predictions, result, queries, train.labels);
  if (arguments.as_json)
    print_json(report(result, scores, queries));
  else
    print_table(arguments, result, scores, queries);
}

}  // namespace

void add_classify(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  ClassifyOptions& options = arguments->options;
  CLI::App* command = program.add_subcommand("classify", "Answer every query with a head trained on its neighbours");
  command->add_option("--train", arguments->train, "Labelled points: .npz (X, y), .npy, .csv, .tsv, IDX images")
      ->required();
  command->add_option("--test", arguments->test, "Labelled queries")->required();
  command->add_option("--train-labels", arguments->train_files.label_file, "Labels of .npy or IDX points");
  command->add_option("--test-labels", arguments->test_files.label_file, "Labels of .npy or IDX queries");
  command->add_option("--label-column", arguments->train_files.label_column, "Of tables (default: the last)");
  command->add_option("--text-column", arguments->train_files.text_column, "Of tables that hold texts");
  command->add_flag("--ignore-unseen", arguments->ignore_unseen,
                    "Leave out queries whose label no training point has, which is an error otherwise");
  command->add_flag("--no-header", arguments->no_header, "Tables begin with their first row");
  CLI::Option* encoder =
      command->add_option("--encoder", arguments->encoder, "What turns texts into features: see `hone embed`");
  command->add_option("--precision", arguments->precision, "Of the encoder")
      ->needs(encoder)
      ->check(CLI::IsMember({"fp32", "int8"}))
      ->capture_default_str();
  command->add_option("--head", arguments->head, "Fit of the global head: lbfgs, or the published adam")
      ->check(CLI::IsMember({"lbfgs", "adam"}))
      ->capture_default_str();
  command
      ->add_option("--ridge", options.ridges,
                   "Of the global head; of several the one that predicts a held-out fifth of the points best")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--neighbours", options.neighbours, "Neighbours that a local head is trained on")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--votes", options.votes,
                   "Neighbours that vote (default: of 1, 5, 10, 20, 50, 100 what is right about most training points)")
      ->check(CLI::PositiveNumber);
  command->add_option("--solver", arguments->solver, "Of local heads: adam (published) or lbfgs (second order)")
      ->check(CLI::IsMember({"adam", "lbfgs"}))
      ->capture_default_str();
  command->add_option("--steps", options.training.steps, "Epochs of Adam, or iterations at most")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  CLI::Option* rate = command->add_option("--learning-rate", options.training.learning_rate, "Of Adam")
                          ->check(CLI::PositiveNumber)
                          ->capture_default_str();
  CLI::Option* ridge =
      command
          ->add_option("--local-ridge", options.training.ridge, "Of --solver lbfgs: keeps a local head near the start")
          ->check(CLI::NonNegativeNumber)
          ->capture_default_str();
  command->add_option("--index", arguments->kind, "Search: flat (exact), ivf, hnsw")
      ->check(CLI::IsMember({"flat", "ivf", "hnsw"}))
      ->capture_default_str();
  CLI::Option* recall = command
                            ->add_option("--recall", options.index.recall,
                                         "Of ivf and hnsw: share of a sample's nearest points that a search shall find")
                            ->check(CLI::Range(1e-6, 1.0))
                            ->capture_default_str();
  command->add_option("--metric", arguments->metric, "l2 or cosine (default: cosine for texts, l2 otherwise)")
      ->check(CLI::IsMember({"l2", "cosine"}));
  CLI::Option* sift =
      command
          ->add_option("--sift", options.sift_pool, "Re-choose the neighbours among so many nearest by SIFT; 0: do not")
          ->capture_default_str();
  command->add_option("--sift-noise", options.sift_noise, "Its λ")
      ->needs(sift)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  CLI::Option* experts = command->add_option("--experts", options.experts, "Also so many experts, one head a centroid")
                             ->check(CLI::PositiveNumber);
  command->add_option("--save-experts", arguments->save_experts, "Keep them in this file")->needs(experts);
  command->add_option("--experts-file", arguments->experts_file, "Experts that were kept, instead of new ones")
      ->excludes(experts);
  command->add_option("--floor", options.floor, "The global head's least weight in hone's answer")
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
  command
      ->add_option("--locality", options.locality_queries,
                   "Queries, drawn at random, whose local heads are also asked about other points")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--seed", options.seed)->capture_default_str();
  command->add_option("--predictions", arguments->predictions,
                      "Write every way's choice and hone's probabilities to this CSV file");
  command->add_option("--threads", arguments->threads, "Threads of the kernels (default: all cores)")
      ->check(CLI::PositiveNumber);
  command->add_flag("--json", arguments->as_json, "Print one JSON object");
  command->add_flag("--quiet", arguments->quiet, "No progress");
  command->callback([arguments, rate, ridge, recall] {
    if (rate->count() > 0 && arguments->solver == "lbfgs")
      throw CLI::ExcludesError("--learning-rate", "--solver lbfgs");
    if (ridge->count() > 0 && arguments->solver == "adam") throw CLI::RequiresError("--local-ridge", "--solver lbfgs");
    if (recall->count() > 0 && arguments->kind == "flat") throw CLI::RequiresError("--recall", "--index ivf or hnsw");
    run(*arguments);
  });
}

}  // namespace hone::cli
