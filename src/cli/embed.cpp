// hone embed MODEL FILE... -o OUT.npy: the vectors of texts.
#include <fmt/format.h>

#include <chrono>
#include <filesystem>

#include "cli/commands.h"
#include "cli/encoder_options.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/progress.h"
#include "cli/terminal_text.h"
#include "cli/texts.h"
#include "hone/data.h"
#include "hone/encoder.h"

namespace hone::cli {
namespace {

struct EmbedArguments {
  std::string model;
  TextSource texts;
  std::filesystem::path output;
  std::string precision = "fp32";
  EncodingArguments encoding;
  EmbedOptions embed;
  int threads = 0;
  bool json = false;
  bool quiet = false;
};

void run_embed(const EmbedArguments& arguments) {
  require_writable_file(arguments.output);
  if (arguments.threads > 0) set_threads(arguments.threads);
  EncoderOptions options = arguments.encoding.options;
  options.precision = precision_named(arguments.precision);
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
               vectors.cols(), one_line(encoder->name()),
               static_cast<double>(vectors.rows()) / std::max(seconds, 1e-9));
}

}  // namespace

void add_embed(Command program) {
  auto arguments = std::make_shared<EmbedArguments>();
  const Command command = program.subcommand("embed", "Write the vectors of texts, one row a text, to an .npy file");
  command.option("MODEL", arguments->model, "An encoder's folder (`hone model get minilm`) or a GGUF file").required();
  arguments->texts.add_to(command);
  command.option("-o,--output", arguments->output, "The .npy file, float32 [texts, dimension]").required();
  command.option("--precision", arguments->precision, "Products in fp32 or int8")
      .one_of({"fp32", "int8"})
      .shows_default();
  arguments->encoding.add_to(command);
  command.option("--batch", arguments->embed.batch, "Texts computed together").positive().shows_default();
  command.option("--threads", arguments->threads, "Threads of the kernels (default: all cores)")
      .in_range(1, most_threads);
  command.flag("--json", arguments->json, "Print one JSON object");
  command.flag("--quiet", arguments->quiet, "Print nothing but errors");
  command.callback([arguments] { run_embed(*arguments); });
}

}  // namespace hone::cli
