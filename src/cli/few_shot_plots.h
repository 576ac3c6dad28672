// What a few-shot decision rests on, drawn.
#pragma once

#include <filesystem>
#include <string>

#include "hone/fewshot.h"

namespace hone::cli {

// Bars and maps of block characters for a terminal.
std::string few_shot_drawing(const FewShotAnswer& answer);

// residuals.svg, spectrum.svg, evidence.svg, filter.svg, blocks.svg and prediction.svg in `directory`, which is made.
// Throws Error{not_found} if gnuplot is not installed, Error{io}.
void write_few_shot_plots(const FewShotAnswer& answer, const std::filesystem::path& directory,
                          const CancelToken& cancel);

}  // namespace hone::cli
