// Runs an experiment in a folder: config.json, rows.csv, summary.json, figures/ and report.md. A run can be killed at
// any moment; the same command goes on where rows.csv ends, and ends with the same bytes.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lab/experiment.h"

namespace hone::lab {

std::string_view name(Size size);  // "quick", "standard", "full"

// config.json of a run. `model` is empty exactly if the experiment needs none. Throws Error{bad_input} if not,
// Error{not_found, io} for a file that cannot be read.
Json make_config(const Experiment& experiment, Size size, uint64_t seed, const std::filesystem::path& model = {},
                 Precision precision = Precision::fp32);

// Sets one of the experiment's adjustable() numbers in its config. Throws Error{bad_input} for another name, or a
// number out of range, that says which there are.
void adjust(const Experiment& experiment, std::string_view name, uint64_t value, Json& config);

struct Run {
  size_t tasks = 0;
  size_t resumed = 0;  // tasks that were in the folder before
  Report report;
  std::vector<std::filesystem::path> files;  // that the folder holds now
  std::vector<std::string> warnings;         // what is missing, and why
};

// Runs the tasks that `folder` does not hold yet, then writes the report. Without a gnuplot the figures are left out,
// with a warning. Throws Error{bad_input} for a folder of another config or of other things, Error{busy} while another
// process runs in it, Error{corrupt, io, cancelled}.
Run run(const Experiment& experiment, const Json& config, const std::filesystem::path& model,
        const std::filesystem::path& folder, const Watch& watch = {});

}  // namespace hone::lab
