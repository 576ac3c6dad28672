// One function a subcommand; each is in the file of its name and adds itself to the program.
#pragma once

#include "cli/command_line.h"

namespace hone::cli {

void add_classify(Command program);
void add_complete(Command program);
void add_embed(Command program);
void add_eval(Command program);
void add_explain(Command program);
void add_fewshot(Command program);
void add_index(Command program);
void add_lab(Command program);
void add_model(Command program);
void add_sae(Command program);
void add_score(Command program);
void add_search(Command program);
void add_tokenize(Command program);

}  // namespace hone::cli
