// What each number of steps predicts for an example from the others, and the mixture that this evidence makes.
#pragma once

#include "hone/spectrum.h"

namespace hone {

// k_iᵀ q_T(K_−i) r_−i for every example i, without its own `outputs` rows: what the linearised prediction adds to each
// output [|T|, m]. One eigendecomposition an example; ρ < 1/λ_max(K) is safe for every submatrix. Throws
// Error{cancelled}.
decide::Matrix64 leave_out_corrections(const decide::Matrix64& kernel, std::span<const double> residuals,
                                       size_t outputs, double rho, std::span<const double> steps,
                                       const CancelToken& cancel = {});

// Weights over T [|T|]: prior ½ on T = 0 and ½ `trusted`, moved by log p(y_i) of every example under every T
// [|T|, n], then floored.
std::vector<double> weigh_steps(std::span<const double> trusted, const decide::Matrix64& log_p, double floor);

}  // namespace hone
