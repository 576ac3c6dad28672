// What a run's folder shows of its report: summary.json, the figures and report.md.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lab/experiment.h"

namespace hone::lab {

// Writes them to `folder` and appends their paths to `files`. If gnuplot is absent or fails, the figures' scripts are
// still written, the page says which figures are missing, and `warnings` say why. Throws Error{io, cancelled}.
void write_report(const Experiment& experiment, const Json& config, const Report& report,
                  const std::filesystem::path& folder, const Watch& watch, std::vector<std::filesystem::path>& files,
                  std::vector<std::string>& warnings);

}  // namespace hone::lab
