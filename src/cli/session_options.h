// The options of a request that `complete` and `eval` share.
#pragma once

#include "cli/options.h"
#include "hone/adapt.h"

namespace hone::cli {

// `encoder` is what encoder_for() is given once the store is open.
void add_session_options(Command command, SessionOptions& options, std::filesystem::path& encoder);

}  // namespace hone::cli
