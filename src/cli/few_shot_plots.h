// What a few-shot decision rests on, drawn.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "hone/fewshot.h"

namespace hone::cli {

// How much of the residuals' squared length, and of the query's over all outputs, lies along each mode [m]: shares of
// 1, or 0 throughout where there is nothing to share.
struct ModeShares {
  std::vector<double> residuals, query;
};
ModeShares mode_shares(const FewShotReport& report);

// Bars and maps of block characters for a terminal.
std::string few_shot_drawing(const FewShotAnswer& answer);

// residuals.svg, spectrum.svg, evidence.svg, filter.svg, blocks.svg and prediction.svg in `directory`, which is made.
// Throws Error{not_found} if gnuplot is not installed, Error{io}.
void write_few_shot_plots(const FewShotAnswer& answer, const std::filesystem::path& directory,
                          const CancelToken& cancel);

}  // namespace hone::cli
