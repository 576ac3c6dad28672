// hone score MODEL FILE: bits per byte of a text under the base.
#include <fmt/format.h>

#include "base/files.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "hone/adapt.h"

namespace hone::cli {
namespace {

struct ScoreArguments {
  ModelArguments model;
  std::string file;
  ScoreOptions score;
  bool json = false;
};

void run_score(const ScoreArguments& arguments) {
  const std::string text = read_file(arguments.file);
  if (text.empty())
    throw Error(ErrorCode::bad_input, fmt::format("'{}' is empty; give a text to score", arguments.file));
  const auto model = arguments.model.open();
  const TextScore result = score(*model, text, arguments.score, terminal_watch(arguments.json));
  if (arguments.json) {
    print_json({{"model", model->name()},
                {"base_hash", model->base_hash()},
                {"precision", arguments.model.precision},
                {"window", arguments.score.window},
                {"stride", arguments.score.second_halves ? arguments.score.window : arguments.score.stride},
                {"second_halves", arguments.score.second_halves},
                {"tokens", result.tokens},
                {"bytes", result.bytes},
                {"bits", result.bits},
                {"bpb", result.bits_per_byte()},
                {"perplexity", result.perplexity()}});
  } else {
    fmt::print("{:.4f} bits per byte, perplexity {:.3f} ({} tokens, {} bytes)\n", result.bits_per_byte(),
               result.perplexity(), result.tokens, result.bytes);
  }
}

}  // namespace

void add_score(Command program) {
  auto arguments = std::make_shared<ScoreArguments>();
  const Command command = program.subcommand("score", "Bits per byte of a text under the unadapted model");
  arguments->model.add_to(command);
  command.option("FILE", arguments->file, "Text to score").required();
  command.option("--window", arguments->score.window, "Tokens the model sees at once").shows_default();
  const Option stride =
      command.option("--stride", arguments->score.stride, "Tokens from one window to the next").shows_default();
  command
      .flag("--second-halves", arguments->score.second_halves,
            "llama.cpp's perplexity: windows side by side, second halves counted")
      .excludes(stride);
  command.option("--max-windows", arguments->score.max_windows, "Stop after so many windows");
  command.flag("--json", arguments->json, "Print one JSON object");
  command.callback([arguments] { run_score(*arguments); });
}

}  // namespace hone::cli
