// Prompts of the Gaussian benchmark ([DTV]): r = f + ε, f ~ GP(0, τ²K), ε ~ N(0, σ²I), with kernels of random features.
#pragma once

#include "base/random.h"
#include "hone/signal.h"
#include "hone/spectrum.h"

namespace hone::lab {

// Features φ of n examples and a query, independent, coordinate j normal with variance ∝ j^{−decay}, E‖φ‖² = 1: τ²/σ²
// is then the signal-to-noise ratio of a residual.
struct GaussianPrompt {
  decide::Matrix64 features;          // Φ [n, d]
  std::vector<double> query_feature;  // φ(x) [d]
  decide::Spectrum spectrum;          // of K = ΦΦᵀ
  std::vector<double> query;          // k̃ = UᵀΦφ(x) [n]
};
GaussianPrompt draw_prompt(RandomStream& random, size_t n, size_t d, double decay);

// K = ΦΦᵀ [n, n] and Φφ [n].
decide::Matrix64 gram(const decide::Matrix64& features);
std::vector<double> product(const decide::Matrix64& features, std::span<const double> feature);

// Coordinates r̃ [n] of residuals: independent, r̃_i ~ N(0, τ²λ_i + σ²).
std::vector<double> draw_residuals(RandomStream& random, const decide::Spectrum& spectrum,
                                   const decide::Signal& signal);

}  // namespace hone::lab
