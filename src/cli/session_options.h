// The options of a request that `complete` and `eval` share.
#pragma once

#include "cli/options.h"
#include "hone/adapt.h"

namespace hone::cli {

void add_session_options(CLI::App& command, SessionOptions& options);

}  // namespace hone::cli
