// hone embed MODEL FILE... -o OUT.npy: the vectors of texts.
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <optional>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/progress.h"
#include "cli/texts.h"
#include "hone/data.h"
#include "hone/encoder.h"

namespace hone::cli {
namespace {

struct Arguments {
  std::string model;
  TextSource texts;
  std::filesystem::path output;
  std::string precision = "fp32";
  std::string pooling;
  EncoderOptions options;
  EmbedOptions embed;
  int threads = 0;
  bool json = false;
  bool quiet = false;
};

void run(const Arguments& arguments) {
  require_writable_file(arguments.output);
  if (arguments.threads > 0) set_threads(arguments.threads);
  EncoderOptions options = arguments.options;
  options.precision = arguments.precision == "int8" ? Precision::int8 : Precision::fp32;
  if (!arguments.pooling.empty()) options.pooling = pooling_named(arguments.pooling);
  const std::vector<std::string> texts = arguments.texts.read();
  if (texts.empty()) throw Error(ErrorCode::bad_input, "there is no text to embed: the files are empty");
  const auto encoder = open_text_encoder(arguments.model, options);

  const auto start = std::chrono::steady_clock::now();
  const Matrix vectors = [&] {
    const Watch watch = terminal_watch(arguments.quiet || arguments.json);
    return encoder->embed(texts, arguments.embed, watch);
  }();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  write_npy(arguments.output, vectors);
  if (arguments.json)
    print_json({{"output", arguments.output.string()},
                {"encoder", encoder->name()},
                {"hash", encoder->hash()},
                {"precision", arguments.precision},
                {"texts", vectors.rows()},
                {"dimension", vectors.cols()},
                {"seconds", seconds}});
  else if (!arguments.quiet)
    fmt::print("{}: {} vectors of {} values by {}, {:.0f} texts/s\n", arguments.output.string(), vectors.rows(),
               vectors.cols(), encoder->name(), static_cast<double>(vectors.rows()) / std::max(seconds, 1e-9));
}

}  // namespace

void add_embed(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = program.add_subcommand("embed", "Write the vectors of texts, one row a text, to an .npy file");
  command->add_option("MODEL", arguments->model, "An encoder's folder (`hone model get minilm`) or a GGUF file")
      ->required();
  arguments->texts.add_to(*command);
  command->add_option("-o,--output", arguments->output, "The .npy file, float32 [texts, dimension]")->required();
  command->add_option("--precision", arguments->precision, "Products in fp32 or int8")
      ->check(CLI::IsMember({"fp32", "int8"}))
      ->capture_default_str();
  command->add_option("--layer", arguments->options.layer,
                      "Hidden states after so many layers (default: all, of a language model four fifths)");
  command->add_option(
      "--pooling", arguments->pooling,
      "mean, cls, last or directions (default: as the model's files say, of a language model directions)");
  command->add_flag_function(
      "--normalize,!--no-normalize", [arguments](int64_t count) { arguments->options.normalize = count > 0; },
      "Vectors at length 1, or not (default: as the model's files say)");
  command
      ->add_option("--max-tokens", arguments->options.max_tokens,
                   "Read at most so many tokens of a text (default: the model's positions)")
      ->check(CLI::PositiveNumber);
  command->add_option("--batch", arguments->embed.batch, "Texts computed together")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "Threads of the kernels (default: all cores)")
      ->check(CLI::PositiveNumber);
  command->add_flag("--json", arguments->json, "Print one JSON object");
  command->add_flag("--quiet", arguments->quiet, "Print nothing but errors");
  command->callback([arguments] { run(*arguments); });
}

}  // namespace hone::cli
