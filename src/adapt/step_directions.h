// The few directions of the weights in which all of gradient descent's steps lie.
#pragma once

#include "hone/spectrum.h"

namespace hone {

// T steps move the weights by Σ_i (q_T(K) r)_i ∇f_i. With these examples' weights w_T = Σ_j coefficients(T, j)
// vectors[j], up to a length of tolerance · the longest update's, √(w_Tᵀ K w_T): a bound on what is missing of any
// correction at a query x, relative to ‖∇f(x)‖. Each direction Σ_i vectors[j]_i ∇f_i has length 1, and they are
// orthogonal.
struct StepDirections {
  std::vector<std::vector<double>> vectors;  // [R][m]
  decide::Matrix64 coefficients;             // [|T|, R]
};

// From the residuals' coordinates along the spectrum [m]. R = 0 where no step moves. R is small: q_T(λ)√λ is a smooth
// function of λ for every T. Throws Error{cancelled}.
StepDirections step_directions(const decide::Spectrum& spectrum, std::span<const double> residuals, double rho,
                               std::span<const double> steps, double tolerance, const CancelToken& cancel = {});

}  // namespace hone
