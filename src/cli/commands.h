// One function a subcommand; each is in the file of its name and adds itself to the program.
#pragma once

#include <CLI/CLI.hpp>

namespace hone::cli {

void add_classify(CLI::App& program);
void add_complete(CLI::App& program);
void add_embed(CLI::App& program);
void add_eval(CLI::App& program);
void add_explain(CLI::App& program);
void add_fewshot(CLI::App& program);
void add_index(CLI::App& program);
void add_lab(CLI::App& program);
void add_model(CLI::App& program);
void add_sae(CLI::App& program);
void add_score(CLI::App& program);
void add_search(CLI::App& program);
void add_tokenize(CLI::App& program);

}  // namespace hone::cli
