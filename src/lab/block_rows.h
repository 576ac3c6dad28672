// Raw rows of experiments that choose blocks, and the tables of what each choice is worth.
#pragma once

#include "lab/block_choice.h"
#include "lab/experiment.h"
#include "lab/step_rules.h"

namespace hone::lab {

// Columns that rows of both kinds share; the other kind's are empty. "number" counts the stream's tasks.
//   kind "kernel", one a task: residuals r, K and k_x over all candidates
//   kind "blocks", one a task, c and method: squared errors at every budget
std::vector<std::string> block_columns();
// `kind` other than "kernel" keeps a second readout's rows apart.
Row kernel_row(size_t number, double target, const PromptKernels& kernels, std::span<const double> residuals,
               std::string kind = "kernel");
std::vector<Row> block_rows(size_t number, double target, const PromptKernels& kernels,
                            std::span<const double> residuals, std::span<const int> layers, std::span<const double> c,
                            const BlockChoiceOptions& options);

// The tasks of kernel rows, in their order. Throws Error{corrupt}.
std::vector<StepTask> read_kernel_rows(const Table& all, std::string_view kind = "kernel");

// What is published of a choice: improvements of the query error over Random, a budget each.
struct PublishedGain {
  std::string_view method;
  std::vector<double> gains;
};

// Adds, for every c of config, a section, a figure, findings beside `published` (with its `source`) and the summary:
// improvement over Random of the query's error and of the prompt's fit, and which differences from Random were found.
void add_block_report(Report& report, const Json& config, const Table& rows, std::span<const PublishedGain> published,
                      std::string_view source);

}  // namespace hone::lab
