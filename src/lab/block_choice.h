// Ways to choose blocks within a budget, and what each is worth on one prompt ([DTV] experiment 2).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lab/prompt_kernels.h"

namespace hone::lab {

// What T steps inside the chosen blocks do, at every budget. T is options.steps for all but "Exact", which chooses it
// with the blocks, from 1 to options.steps.
struct MethodErrors {
  std::string method;
  std::vector<double> query;  // [budgets]: squared error at the query
  std::vector<double> fit;    // [budgets]: (1/n)‖r − K_S q_T(K_S) r‖², what is left of the prompt's residuals
};

// "Random" first: everything is measured against it. "All" uses every block at any budget.
std::span<const std::string_view> block_methods();

struct BlockChoiceOptions {
  double c = 0.1;  // ρ = c/λ_max(K) over all candidates, which is safe for every subset
  size_t steps = 8;
  std::vector<size_t> budgets = {1, 2, 4, 8, 16, 32};
  size_t random_draws = 5;  // whose mean Random is
  std::string stream;       // the name of Random's stream
  uint64_t seed = 0;
};

// All of block_methods() on one prompt: `blocks` with their `layers` [B], residuals r [n], κ_x, the in-context answer
// and the truth. Trace and Query-Aware take s² = ‖r‖²/n, as fixed σ does; the exact criterion takes s² = λ* of the
// marginal likelihood, or ‖r‖²/n where that finds no signal. Throws Error{bad_input} as hone/directions.h does.
std::vector<MethodErrors> compare_block_methods(const PromptKernels& kernels, std::span<const int> layers,
                                                std::span<const double> residuals, double truth,
                                                const BlockChoiceOptions& options);

}  // namespace hone::lab
