// How an encoder makes vectors: what `hone embed`, `hone index --encoder` and `hone classify --encoder` are told alike.
#pragma once

#include <array>

#include "cli/command_line.h"
#include "hone/encoder.h"

namespace hone::cli {

struct EncodingArguments {
  EncoderOptions options;  // its precision is not among what follows

  // --layer, --pooling, --normalize or --no-normalize, and --max-tokens.
  std::array<Option, 4> add_to(Command command);
};

}  // namespace hone::cli
