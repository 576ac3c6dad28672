// Parts of `hone sae`: one file a subcommand, and what they print alike.
#pragma once

#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "hone/sae.h"

namespace hone::cli {

void add_sae_train(Command parent);
void add_sae_eval(Command parent);
void add_sae_report(Command parent);

nlohmann::json as_json(const SaeConfig& config);
nlohmann::json as_json(const SaeEvaluation& evaluation);
void print_text(const SaeEvaluation& evaluation);

}  // namespace hone::cli
