// The command line: hone SUBCOMMAND. Exit codes: 0 done, 1 failed, 2 bad usage.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <new>

#include "base/heap.h"
#include "cli/commands.h"
#include "cli/streams.h"
#include "cli/terminal_text.h"
#include "hone/base.h"

namespace {

int run(int argc, char** argv) {
  hone::cli::Program program("hone", "hone: test-time training for language models on your own machine", HONE_VERSION);
  const hone::cli::Command root = program.root();
  root.require_subcommand();
  hone::cli::add_classify(root);
  hone::cli::add_complete(root);
  hone::cli::add_embed(root);
  hone::cli::add_eval(root);
  hone::cli::add_explain(root);
  hone::cli::add_fewshot(root);
  hone::cli::add_index(root);
  hone::cli::add_lab(root);
  hone::cli::add_model(root);
  hone::cli::add_sae(root);
  hone::cli::add_score(root);
  hone::cli::add_search(root);
  hone::cli::add_tokenize(root);
  const int code = program.run(argc, argv);
  if (code == 0) hone::cli::flush_standard_output();
  return code;
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
  hone::keep_freed_memory();
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "hone: out of memory\n");
    return 1;
  } catch (const std::exception& error) {
    constexpr size_t most_shown = 10000;  // a message may quote what a stranger's file says
    hone::cli::remark("hone: {}\n", hone::cli::one_line(error.what(), most_shown));
    return 1;
  }
}
