#include "cli/encoder_options.h"

namespace hone::cli {

std::array<Option, 4> EncodingArguments::add_to(Command command) {
  const Option layer = command.option("--layer", options.layer,
                                      "Hidden states after so many layers (default: all, of a language model four "
                                      "fifths)");
  const Option pooling =
      command
          .option(
              "--pooling", [this](const std::string& wanted) { options.pooling = pooling_named(wanted); },
              "mean, cls, last or directions (default: as the model's files say, of a language model directions)")
          .one_of({"mean", "cls", "last", "directions"});
  const Option normalize = command.flag(
      "--normalize,!--no-normalize", [this](bool on) { options.normalize = on; },
      "Vectors at length 1, or not (default: as the model's files say)");
  const Option tokens = command
                            .option("--max-tokens", options.max_tokens,
                                    "Read at most so many tokens of a text (default: the model's positions)")
                            .positive();
  return {layer, pooling, normalize, tokens};
}

}  // namespace hone::cli
