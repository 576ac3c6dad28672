// Parts of `hone sae`: one file a subcommand, and what they print alike.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "hone/sae.h"

namespace hone::cli {

void add_sae_train(CLI::App& parent);
void add_sae_eval(CLI::App& parent);
void add_sae_report(CLI::App& parent);

nlohmann::json as_json(const SaeConfig& config);
nlohmann::json as_json(const SaeEvaluation& evaluation);
void print_text(const SaeEvaluation& evaluation);

}  // namespace hone::cli
