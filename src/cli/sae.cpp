// hone sae train|eval|report: sparse autoencoders of activations, out of a file or of a language model.
#include "cli/sae.h"

#include <fmt/format.h>

#include "cli/commands.h"

namespace hone::cli {

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

void add_sae(Command program) {
  const Command command = program.subcommand("sae", "Sparse autoencoders of activations");
  command.require_subcommand();
  add_sae_train(command);
  add_sae_eval(command);
  add_sae_report(command);
}

}  // namespace hone::cli
