// True gradient descent on a prompt's leave-one-out loss, the predictor that [DTV]'s experiments report.
#pragma once

#include <span>
#include <vector>

#include "lab/prompt_kernels.h"

namespace hone::lab {

// The answer to the query after 0, 1, …, `steps` steps θ ← θ + ρ Σ_i (y_i − ŷ_i(θ)) ∇ŷ_i(θ) on the weights of `blocks`,
// from the model's own weights, for every ρ of `rates`: [|rates|][steps + 1]. Nothing is linearised: all outputs and
// gradients are taken at θ. The model is not changed. `targets` [n] are y. Activations below the lowest block are
// computed once; all rates go through the upper layers in one batch. Throws Error{bad_input} for shapes that do not fit
// or a step that leaves the finite numbers, naming ρ; Error{cancelled}.
std::vector<std::vector<double>> weight_descent(const Model& model, const LabelledPrompt& prompt,
                                                std::span<const double> targets, std::span<const BlockId> blocks,
                                                const Readout& readout, std::span<const double> rates, size_t steps,
                                                const CancelToken& cancel = {});

}  // namespace hone::lab
