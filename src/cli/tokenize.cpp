// hone tokenize MODEL: the token ids of standard input.
#include <fmt/format.h>

#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/streams.h"
#include "hone/tokenizer.h"

namespace hone::cli {
namespace {

struct TokenizeArguments {
  std::string model;
  bool special = false;
  bool json = false;
};

void run_tokenize(const TokenizeArguments& options) {
  const auto tokenizer = read_model([&] { return Tokenizer::open(options.model); });
  const std::vector<Token> tokens = tokenizer->encode(read_standard_input(), options.special);
  const std::string ids = fmt::format("{}", fmt::join(tokens, options.json ? ", " : " "));
  if (options.json)
    fmt::print("{{\"tokens\": {}, \"ids\": [{}]}}\n", tokens.size(), ids);
  else
    fmt::print("{}\n", ids);
}

}  // namespace

void add_tokenize(Command program) {
  const auto options = std::make_shared<TokenizeArguments>();
  const Command command = program.subcommand("tokenize", "Print the token ids of standard input, without BOS");
  command.option("MODEL", options->model, "GGUF file").required();
  command.flag("--special", options->special, "Control tokens written out in the text become their ids");
  command.flag("--json", options->json, "Print {\"tokens\": n, \"ids\": [...]}");
  command.callback([options] { run_tokenize(*options); });
}

}  // namespace hone::cli
