// hone sae train|eval|report: sparse autoencoders of activations, out of a file or of a language model.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>

#include "base/files.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/progress.h"
#include "hone/data.h"
#include "hone/sae.h"

namespace hone::cli {
namespace {

// Activations from DATA, or from a model's layer over texts.
struct Source {
  std::filesystem::path data;
  std::filesystem::path model;
  std::filesystem::path store;
  std::vector<std::filesystem::path> texts;
  int layer = 0;
  size_t window = 256;
  int threads = 0;

  void add_to(CLI::App& command);
  void open(uint64_t seed, const Watch& watch);

  std::shared_ptr<const Model> language_model;
  std::vector<std::vector<Token>> windows;
  std::unique_ptr<ActivationBatches> batches;
};

void Source::add_to(CLI::App& command) {
  CLI::Option* file = command.add_option("DATA", data, "Activations [rows, width], a .npy file");
  CLI::Option* gguf = command.add_option("--model", model, "Instead: a GGUF file whose residual stream is read");
  command.add_option("--layer", layer, "With --model: after so many layers")->needs(gguf);
  command.add_option("--store", store, "With --model: the texts of a store made by `hone index`")->needs(gguf);
  CLI::Option* files = command.add_option("--text", texts, "With --model: text files")->needs(gguf);
  command.add_option("--window", window, "With --text: tokens that are read at once; a store has its chunks")
      ->needs(files)
      ->capture_default_str();
  command.add_option("--threads", threads, "Threads (default: all cores)")->check(CLI::PositiveNumber);
  file->excludes(gguf);
}

void Source::open(uint64_t seed, const Watch& watch) {
  if (threads > 0) set_threads(threads);
  if (model.empty()) {
    if (data.empty()) throw Error(ErrorCode::bad_input, "give a .npy file of activations, or --model and --layer");
    batches = open_activations(data, seed);
    return;
  }
  if (store.empty() && texts.empty()) throw Error(ErrorCode::bad_input, "--model reads texts; give --store or --text");
  language_model = read_model([&] { return Model::open(model); });
  if (!store.empty()) {
    const Store opened = Store::open(store, {language_model->name(), language_model->base_hash()});
    const std::vector<int64_t> ids = opened.chunk_ids();
    for (size_t i = 0; i < ids.size(); ++i) {
      if (i % 256 == 0) watch.report("texts", i, ids.size());
      windows.push_back(opened.chunk(ids[i]).tokens);
    }
  }
  std::vector<std::string> contents;
  for (const std::filesystem::path& path : texts) contents.push_back(read_file(path));
  std::ranges::move(token_windows(*language_model, contents, window), std::back_inserter(windows));
  batches = stream_activations(language_model, layer, windows, seed);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

nlohmann::json as_json(const SaeConfig& config) {
  return {{"inputs", config.inputs},           {"features", config.features}, {"active", config.active},
          {"unit_inputs", config.unit_inputs}, {"pre_bias", config.pre_bias}, {"relu", config.relu}};
}

nlohmann::json as_json(const SaeEvaluation& evaluation) {
  return {{"rows", evaluation.rows},
          {"explained_variance", evaluation.explained_variance},
          {"loss", evaluation.loss},
          {"l0", evaluation.l0},
          {"dead_share", evaluation.dead_share}};
}

void print_text(const SaeEvaluation& evaluation) {
  fmt::print("{} rows: explained variance {:.4f}, loss {:.3e}, {:.2f} features a row, {:.2f} % dead\n", evaluation.rows,
             evaluation.explained_variance, evaluation.loss, evaluation.l0, 100 * evaluation.dead_share);
}

// ---- train ----------------------------------------------------------------------------------------------------------

struct TrainArguments {
  Source source;
  std::filesystem::path output;
  SaeConfig config;
  SaeTraining training;
  uint64_t every = 1000;
  bool raw_inputs = false;
  bool json = false;
};

SaeTrainer start_or_go_on(const TrainArguments& arguments, const std::filesystem::path& checkpoint) {
  if (!is_there(checkpoint)) return {Sae::create(arguments.config, arguments.training.seed), arguments.training};
  SaeTrainer trainer = SaeTrainer::load(checkpoint, arguments.source.batches->identity());
  if (trainer.steps_done() > arguments.training.steps)
    throw Error(ErrorCode::bad_input,
                fmt::format("'{}' has done {} steps; give --steps of at least so many, or another --output",
                            checkpoint.string(), trainer.steps_done()));
  trainer.set_steps(arguments.training.steps);
  if (trainer.sae().config != arguments.config || trainer.training() != arguments.training)
    throw Error(ErrorCode::bad_input,
                fmt::format("'{}' is of a run with other options; repeat those (only --steps may differ) or give "
                            "another --output",
                            checkpoint.string()));
  return trainer;
}

void train(TrainArguments& arguments) {
  require_writable_folder(arguments.output);
  double seconds = 0;
  const std::filesystem::path checkpoint = arguments.output / "checkpoint.safetensors";
  std::vector<SaeStep> shown;
  uint64_t resumed = 0;
  SaeEvaluation evaluation;
  SaeConfig config;
  {
    const Watch watch = terminal_watch(arguments.json);
    arguments.source.open(arguments.training.seed, watch);
    ActivationBatches& batches = *arguments.source.batches;
    make_folder(arguments.output);
    arguments.config.inputs = batches.width();
    if (arguments.config.features == 0) arguments.config.features = 8 * batches.width();
    arguments.config.unit_inputs = !arguments.raw_inputs;
    SaeTrainer trainer = start_or_go_on(arguments, checkpoint);
    resumed = trainer.steps_done();
    const auto seen = [&](const SaeStep& step) {
      if (step.step % 100 == 0 || step.step == 1) shown.push_back(step);
    };
    const auto start = std::chrono::steady_clock::now();
    trainer.run(batches, checkpoint, arguments.every, seen, watch);
    seconds = seconds_since(start);
    trainer.sae().save(arguments.output);
    evaluation = evaluate(trainer.sae(), batches, 100000, arguments.training.dead_below, watch);
    config = trainer.sae().config;
  }
  const uint64_t steps = arguments.training.steps - resumed;
  const double rows_per_second =
      seconds > 0 ? static_cast<double>(steps) * static_cast<double>(arguments.training.batch) / seconds : 0;
  if (arguments.json) {
    nlohmann::json curve = nlohmann::json::array();
    for (const SaeStep& step : shown)
      curve.push_back({{"step", step.step},
                       {"loss", step.loss},
                       {"revival_loss", step.revival_loss},
                       {"gradient_norm", step.gradient_norm},
                       {"active", step.active},
                       {"dead", step.dead}});
    print_json({{"output", arguments.output.string()},
                {"config", as_json(config)},
                {"steps", arguments.training.steps},
                {"resumed", resumed},
                {"curve", curve},
                {"evaluation", as_json(evaluation)},
                {"rows_per_second", rows_per_second},
                {"seconds", seconds}});
    return;
  }
  if (resumed > 0) fmt::print("went on after step {}\n", resumed);
  fmt::print("{} steps in {}, {:.0f} rows a second; {} to {} features, {} active\n", steps, duration_text(seconds),
             rows_per_second, config.inputs, config.features, config.active);
  print_text(evaluation);
  fmt::print("the autoencoder is in {}\n", arguments.output.string());
}

void add_train(CLI::App& parent) {
  const auto arguments = std::make_shared<TrainArguments>();
  SaeConfig& config = arguments->config;
  SaeTraining& training = arguments->training;
  CLI::App* command =
      parent.add_subcommand("train", "Train one; the same command goes on with a run that was interrupted");
  arguments->source.add_to(*command);
  command->add_option("-o,--output", arguments->output, "Folder of the autoencoder and its checkpoint")->required();
  command->add_option("--features", config.features, "Features (default: 8 times the width)");
  command->add_option("-k,--active", config.active, "Features that a row keeps")->capture_default_str();
  command->add_flag("--pre-bias", config.pre_bias, "Subtract the decoder's bias before encoding");
  command->add_flag("--relu", config.relu, "Kept values below 0 count as 0");
  command->add_flag("--raw-inputs", arguments->raw_inputs, "Do not divide rows by their L2 norm");
  command->add_option("--steps", training.steps, "Steps")->capture_default_str();
  command->add_option("--batch", training.batch, "Rows a step")->capture_default_str();
  command->add_option("--initial-active", training.initial_active, "k at the first step")->capture_default_str();
  command->add_option("--annealing", training.annealing_steps, "Steps until k is what --active says")
      ->capture_default_str();
  command->add_option("--learning-rate", training.learning_rate, "Adam's")->capture_default_str();
  command->add_option("--warmup", training.warmup_steps, "Steps until the learning rate is reached")
      ->capture_default_str();
  command->add_option("--dropout", training.dropout, "Share of pre-activations")->capture_default_str();
  command->add_option("--clip", training.clip, "Largest norm of a gradient; 0: none")->capture_default_str();
  command
      ->add_option_function<std::string>(
          "--revival",
          [&training](const std::string& name) {
            training.revival = name == "none"          ? Revival::none
                               : name == "auxiliary-k" ? Revival::auxiliary_k
                                                       : Revival::ghost;
          },
          "What brings dead features back: ghost (gradients, the default), auxiliary-k or none")
      ->check(CLI::IsMember({"ghost", "auxiliary-k", "none"}));
  command->add_option("--auxiliary-active", training.auxiliary_active, "Dead features that auxiliary-k keeps")
      ->capture_default_str();
  command->add_option("--auxiliary-weight", training.auxiliary_weight, "Weight of auxiliary-k's loss")
      ->capture_default_str();
  command->add_option("--dead-below", training.dead_below, "Share of rows below which a feature is dead")
      ->capture_default_str();
  command->add_option("--checkpoint-every", arguments->every, "Steps between checkpoints")->capture_default_str();
  command->add_option("--seed", training.seed, "Seed of every random choice")->capture_default_str();
  command->add_flag("--json", arguments->json, "Print one JSON object");
  command->callback([arguments] { train(*arguments); });
}

// ---- eval -----------------------------------------------------------------------------------------------------------

struct EvalArguments {
  Source source;
  std::filesystem::path sae;
  size_t rows = 0;
  double dead_below = 1e-4;
  bool json = false;
};

void evaluate_command(EvalArguments& arguments) {
  const Sae sae = Sae::open(arguments.sae);
  SaeEvaluation evaluation;
  SpliceEvaluation spliced;
  {
    const Watch watch = terminal_watch(arguments.json);
    arguments.source.open(0, watch);
    evaluation = evaluate(sae, *arguments.source.batches, arguments.rows, arguments.dead_below, watch);
    if (arguments.source.language_model)
      spliced = evaluate_spliced(sae, *arguments.source.language_model, arguments.source.layer,
                                 arguments.source.windows, watch);
  }
  if (arguments.json) {
    nlohmann::json object = {{"config", as_json(sae.config)}, {"evaluation", as_json(evaluation)}};
    if (spliced.tokens > 0)
      object["downstream"] = {{"tokens", spliced.tokens},
                              {"loss", spliced.loss},
                              {"spliced", spliced.spliced},
                              {"ablated", spliced.ablated},
                              {"recovered", spliced.recovered}};
    return print_json(object);
  }
  print_text(evaluation);
  if (spliced.tokens > 0)
    fmt::print(
        "{} tokens, nats a token: {:.4f} by the model, {:.4f} with the autoencoder at layer {}, {:.4f} with "
        "zeros; {:.1f} % recovered\n",
        spliced.tokens, spliced.loss, spliced.spliced, arguments.source.layer, spliced.ablated,
        100 * spliced.recovered);
}

void add_eval_of_sae(CLI::App& parent) {
  const auto arguments = std::make_shared<EvalArguments>();
  CLI::App* command = parent.add_subcommand("eval", "How well one describes activations");
  command->add_option("SAE", arguments->sae, "Its folder: cfg.json and sae_weights.safetensors")->required();
  arguments->source.add_to(*command);
  command->add_option("--rows", arguments->rows, "Rows that are read (default: all)");
  command->add_option("--dead-below", arguments->dead_below, "Share of rows below which a feature is dead")
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "Print one JSON object");
  command->callback([arguments] { evaluate_command(*arguments); });
}

// ---- report ---------------------------------------------------------------------------------------------------------

struct ReportArguments {
  Source source;
  std::filesystem::path sae;
  std::filesystem::path output = "features.html";
  std::filesystem::path lines;
  std::filesystem::path images;
  ReportOptions options;
  bool json = false;
};

// Without their ends; empty lines count.
std::vector<std::string> text_lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

void require_rows(const std::filesystem::path& path, size_t found, size_t needed) {
  if (found != needed)
    throw Error(ErrorCode::bad_input,
                fmt::format("'{}' shows {} rows; there are {} rows of activations", path.string(), found, needed));
}

void report(ReportArguments& arguments) {
  require_writable_file(arguments.output);
  const Sae sae = Sae::open(arguments.sae);
  ReportOptions& options = arguments.options;
  if (options.title.empty()) options.title = arguments.sae.filename().string();
  {
    const Watch watch = terminal_watch(arguments.json);
    arguments.source.open(0, watch);
    ActivationBatches& batches = *arguments.source.batches;
    options.lens = arguments.source.language_model.get();
    if (!arguments.lines.empty()) {
      const auto texts = std::make_shared<std::vector<std::string>>(text_lines(read_file(arguments.lines)));
      require_rows(arguments.lines, texts->size(), batches.rows());
      options.show = [texts](size_t row) { return escape_html((*texts)[row]); };
    }
    if (!arguments.images.empty()) {
      const auto pixels = std::make_shared<Matrix>(read_idx_images(arguments.images));
      require_rows(arguments.images, pixels->rows(), batches.rows());
      const auto side = static_cast<size_t>(std::lround(std::sqrt(static_cast<double>(pixels->cols()))));
      if (side * side != pixels->cols())
        throw Error(ErrorCode::unsupported, fmt::format("'{}': its images are not square", arguments.images.string()));
      options.show = [pixels, side](size_t row) { return image_html(pixels->row(row), side, side); };
    }
    write_file_atomically(arguments.output, feature_report(sae, batches, options, watch));
  }
  if (arguments.json)
    print_json({{"config", as_json(sae.config)}, {"page", arguments.output.string()}});
  else
    fmt::print("the page is {}\n", arguments.output.string());
}

void add_report(CLI::App& parent) {
  const auto arguments = std::make_shared<ReportArguments>();
  CLI::App* command = parent.add_subcommand("report", "A page that shows what features respond to");
  command->add_option("SAE", arguments->sae, "Its folder: cfg.json and sae_weights.safetensors")->required();
  arguments->source.add_to(*command);
  command->add_option("-o,--output", arguments->output, "The page, one HTML file")->capture_default_str();
  CLI::Option* lines = command->add_option("--lines", arguments->lines, "What rows show: a text file, one line a row");
  command->add_option("--images", arguments->images, "What rows show: IDX images")->excludes(lines);
  command->add_option("--features", arguments->options.features, "Features shown")->capture_default_str();
  command->add_option("--examples", arguments->options.examples, "Examples a feature")->capture_default_str();
  command->add_option("--title", arguments->options.title, "Title of the page");
  command->add_flag("--json", arguments->json, "Print one JSON object");
  command->callback([arguments] { report(*arguments); });
}

}  // namespace

void add_sae(CLI::App& program) {
  CLI::App* command = program.add_subcommand("sae", "Sparse autoencoders of activations");
  command->require_subcommand(1);
  add_train(*command);
  add_eval_of_sae(*command);
  add_report(*command);
}

}  // namespace hone::cli
