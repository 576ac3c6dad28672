// hone sae eval: how well an autoencoder describes activations, and what a language model loses by it.
#include <fmt/format.h>

#include "cli/options.h"
#include "cli/progress.h"
#include "cli/sae.h"
#include "cli/sae_source.h"

namespace hone::cli {
namespace {

struct EvalArguments {
  ActivationSource source;
  std::filesystem::path sae;
  size_t rows = 0;
  double dead_below = 1e-4;
  bool json = false;
};

// Whole windows, until they have so many tokens.
void keep_first_tokens(std::vector<std::vector<Token>>& windows, size_t wanted) {
  size_t kept = 0;
  for (size_t tokens = 0; kept < windows.size() && tokens < wanted; ++kept) tokens += windows[kept].size();
  windows.resize(kept);
}

void evaluate_command(EvalArguments& arguments) {
  const Sae sae = Sae::open(arguments.sae);
  SaeEvaluation evaluation;
  SpliceEvaluation spliced;
  {
    const Watch watch = terminal_watch(arguments.json);
    arguments.source.open(0, watch);
    evaluation = evaluate(sae, *arguments.source.batches, arguments.rows, arguments.dead_below, watch);
    if (arguments.rows > 0) keep_first_tokens(arguments.source.windows, arguments.rows);
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

}  // namespace

void add_sae_eval(Command parent) {
  const auto arguments = std::make_shared<EvalArguments>();
  const Command command = parent.subcommand("eval", "How well one describes activations");
  command.option("SAE", arguments->sae, "Its folder: cfg.json and sae_weights.safetensors").required();
  arguments->source.add_to(command);
  command.option("--rows", arguments->rows, "Rows that are read (default: all)");
  command.option("--dead-below", arguments->dead_below, "Share of rows below which a feature is dead").shows_default();
  command.flag("--json", arguments->json, "Print one JSON object");
  command.callback([arguments] { evaluate_command(*arguments); });
}

}  // namespace hone::cli
