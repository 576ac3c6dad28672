// Which of the candidate blocks a query adapts.
#pragma once

#include "hone/directions.h"
#include "hone/fewshot.h"

namespace hone {

// What a choice is made from. Several outputs of a query count as one, e.g. the margin between its likeliest classes.
struct BlockCandidates {
  std::span<const BlockId> ids;
  decide::BlockKernels kernels;
  const decide::Spectrum& full;       // of all candidates' kernel
  std::span<const double> residuals;  // r [m]
  double noise = 0;                   // s² in the kernel's units; +inf: no signal
  double query_norm = 0;              // κ_x over all candidates
};

// Scores of all candidates, and `budget` of them chosen as `options` say. ρ is safe for every subset: c/λ_max of all.
// Throws Error{cancelled}.
std::vector<BlockChoice> choose_blocks(const BlockCandidates& candidates, const FewShotOptions& options,
                                       const CancelToken& cancel);

}  // namespace hone
