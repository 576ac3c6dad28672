// hone sae train: training that goes on where it was interrupted.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "base/files.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/progress.h"
#include "cli/sae.h"
#include "cli/sae_source.h"

namespace hone::cli {
namespace {

struct TrainArguments {
  ActivationSource source;
  std::filesystem::path output;
  SaeConfig config;
  SaeTraining training;
  std::optional<uint64_t> annealing, warmup;  // see fill_defaults()
  uint64_t every = 1000;
  size_t initial_active = 0;  // 0: see fill_defaults()
  bool raw_inputs = false;
  bool json = false;
};

// What follows from other options where it is not given: k has fallen and the learning rate has risen before the end.
void fill_defaults(TrainArguments& arguments, size_t width) {
  SaeConfig& config = arguments.config;
  SaeTraining& training = arguments.training;
  config.inputs = width;
  if (config.features == 0) config.features = 8 * width;
  training.initial_active = arguments.initial_active > 0
                                ? arguments.initial_active
                                : std::max(config.active, std::min(training.initial_active, config.features));
  training.annealing_steps = arguments.annealing.value_or(std::min(training.annealing_steps, training.steps / 2));
  training.warmup_steps = arguments.warmup.value_or(std::min(training.warmup_steps, training.steps / 4));
}

SaeTrainer start_or_go_on(const TrainArguments& arguments, const std::filesystem::path& checkpoint) {
  if (!is_there(checkpoint)) return {Sae::create(arguments.config, arguments.training.seed), arguments.training};
  SaeTrainer trainer = SaeTrainer::load(checkpoint, arguments.source.batches->identity());
  if (trainer.steps_done() > arguments.training.steps)
    throw Error(ErrorCode::bad_input,
                fmt::format("'{}' has done {} steps; give --steps of at least so many, or another --output",
                            checkpoint.string(), trainer.steps_done()));
  trainer.set_steps(arguments.training.steps);
  SaeTraining expected = arguments.training;
  if (!arguments.annealing) expected.annealing_steps = trainer.training().annealing_steps;
  if (!arguments.warmup) expected.warmup_steps = trainer.training().warmup_steps;
  if (trainer.sae().config != arguments.config || trainer.training() != expected)
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
    arguments.config.unit_inputs = !arguments.raw_inputs;
    fill_defaults(arguments, batches.width());
    SaeTrainer trainer = start_or_go_on(arguments, checkpoint);
    make_folder(arguments.output);
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

}  // namespace

void add_sae_train(Command parent) {
  const auto arguments = std::make_shared<TrainArguments>();
  SaeConfig& config = arguments->config;
  SaeTraining& training = arguments->training;
  const Command command =
      parent.subcommand("train", "Train one; the same command goes on with a run that was interrupted");
  arguments->source.add_to(command);
  command.option("-o,--output", arguments->output, "Folder of the autoencoder and its checkpoint").required();
  command.option("--features", config.features, "Features (default: 8 times the width)");
  command.option("-k,--active", config.active, "Features that a row keeps").shows_default();
  command.flag("--pre-bias", config.pre_bias, "Subtract the decoder's bias before encoding");
  command.flag("--relu", config.relu, "Kept values below 0 count as 0");
  command.flag("--raw-inputs", arguments->raw_inputs, "Do not divide rows by their L2 norm");
  command.option("--steps", training.steps, "Steps").shows_default();
  command.option("--batch", training.batch, "Rows a step").shows_default();
  command
      .option("--initial-active", arguments->initial_active,
              fmt::format("k at the first step (default: {}, at most all features and at least --active)",
                          training.initial_active))
      .positive();
  command.option("--annealing", arguments->annealing,
                 fmt::format("Steps until k is what --active says (default: {}, at most half of --steps)",
                             training.annealing_steps));
  command.option("--learning-rate", training.learning_rate, "Adam's").shows_default();
  command.option("--warmup", arguments->warmup,
                 fmt::format("Steps until the learning rate is reached (default: {}, at most a quarter of --steps)",
                             training.warmup_steps));
  command.option("--dropout", training.dropout, "Share of pre-activations").shows_default();
  command.option("--clip", training.clip, "Largest norm of a gradient; 0: none").shows_default();
  command
      .option(
          "--revival",
          [&training](const std::string& name) {
            training.revival = name == "none"          ? Revival::none
                               : name == "auxiliary-k" ? Revival::auxiliary_k
                                                       : Revival::ghost;
          },
          "What brings dead features back: ghost (gradients, the default), auxiliary-k or none")
      .one_of({"ghost", "auxiliary-k", "none"});
  const Option auxiliary_active =
      command.option("--auxiliary-active", training.auxiliary_active, "Dead features that auxiliary-k keeps")
          .shows_default();
  const Option auxiliary_weight =
      command.option("--auxiliary-weight", training.auxiliary_weight, "Weight of auxiliary-k's loss").shows_default();
  command.option("--dead-below", training.dead_below, "Share of rows below which a feature is dead").shows_default();
  command.option("--checkpoint-every", arguments->every, "Steps between checkpoints").shows_default();
  command.option("--seed", training.seed, "Seed of every random choice").shows_default();
  command.flag("--json", arguments->json, "Print one JSON object");
  command.callback([arguments, auxiliary_active, auxiliary_weight] {
    if (arguments->training.revival != Revival::auxiliary_k && (auxiliary_active.given() || auxiliary_weight.given()))
      refuse_usage("--auxiliary-active and --auxiliary-weight require --revival auxiliary-k");
    train(*arguments);
  });
}

}  // namespace hone::cli
