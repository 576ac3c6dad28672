// Runs another program and waits for it. Arguments are passed as they are: there is no shell.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "hone/base.h"

namespace hone {

struct ProcessOptions {
  bool quiet = false;                                 // discard what it prints; otherwise stdout goes to stderr
  std::map<std::string, std::string> variables = {};  // set in its environment, besides the caller's
};

// Looks command[0] up in PATH. Returns the exit status, 128 + n if signal n ended it, 127 if it cannot be started.
// When cancelled, ends the program and throws Error{cancelled}.
int run_process(const std::vector<std::string>& command, const ProcessOptions& options = {},
                const CancelToken& cancel = {});

}  // namespace hone
