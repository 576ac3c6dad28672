// hone tokenize MODEL: the token ids of standard input.
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "hone/base.h"
#include "hone/tokenizer.h"
#include "model/gguf.h"

namespace hone::cli {
namespace {

struct Options {
  std::string model;
  bool special = false;
  bool json = false;
};

[[noreturn]] void fail(std::string_view action) {
  throw Error(ErrorCode::io, fmt::format("cannot {}: {}", action, std::strerror(errno)));
}

std::string read_standard_input() {
  std::string text;
  constexpr size_t step = 1 << 20;
  for (size_t got = step; got > 0;) {
    const size_t size = text.size();
    text.resize(size + step);
    got = std::fread(text.data() + size, 1, step, stdin);
    text.resize(size + got);
  }
  if (std::ferror(stdin)) fail("read standard input");
  return text;
}

void run(const Options& options) {
  const auto tokenizer = Tokenizer::from_gguf(Gguf::open(options.model));
  const std::vector<Token> tokens = tokenizer->encode(read_standard_input(), options.special);
  const std::string ids = fmt::format("{}", fmt::join(tokens, options.json ? ", " : " "));
  const std::string line =
      options.json ? fmt::format("{{\"tokens\": {}, \"ids\": [{}]}}\n", tokens.size(), ids) : ids + "\n";
  if (std::fwrite(line.data(), 1, line.size(), stdout) != line.size() || std::fflush(stdout) != 0)
    fail("write standard output");
}

}  // namespace

void add_tokenize(CLI::App& program) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("tokenize", "Print the token ids of standard input, without BOS");
  command->add_option("MODEL", options->model, "GGUF file")->required();
  command->add_flag("--special", options->special, "Control tokens written out in the text become their ids");
  command->add_flag("--json", options->json, "Print {\"tokens\": n, \"ids\": [...]}");
  command->callback([options] { run(*options); });
}

}  // namespace hone::cli
