// The command line: hone SUBCOMMAND. Exit codes: 0 done, 1 failed, 2 bad usage.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <new>

#include "cli/commands.h"
#include "cli/streams.h"
#include "hone/base.h"

namespace {

int run(int argc, char** argv) {
  CLI::App program("hone: test-time training for language models on your own machine", "hone");
  program.require_subcommand(1);
  program.set_version_flag("--version", HONE_VERSION);
  hone::cli::add_classify(program);
  hone::cli::add_complete(program);
  hone::cli::add_embed(program);
  hone::cli::add_eval(program);
  hone::cli::add_explain(program);
  hone::cli::add_fewshot(program);
  hone::cli::add_index(program);
  hone::cli::add_lab(program);
  hone::cli::add_model(program);
  hone::cli::add_sae(program);
  hone::cli::add_score(program);
  hone::cli::add_search(program);
  hone::cli::add_tokenize(program);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (program.exit(error) != 0) return 2;
  }
  hone::cli::flush_standard_output();
  return 0;
}

// libgomp's threads spin for some ten milliseconds before they sleep, so that on a machine with other work every
// product waits for a thread that is not running. It reads the time from the environment before main: set it, and start
// anew.
void wait_briefly(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) return;
  if (::setenv("GOMP_SPINCOUNT", "20000", 0) == 0) ::execv("/proc/self/exe", argv);
}

}  // namespace

int main(int argc, char** argv) {
  hone::cli::reserve_standard_streams();
  wait_briefly(argv);
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "hone: out of memory\n");
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hone: %s\n", error.what());
    return 1;
  }
}
