// signal: the Gaussian benchmark of the residuals, what adapting risks against it, and whether to adapt ([DTV]).
// Every function throws Error{bad_input} for sizes that do not fit and variances that are negative or not finite.
// They only read what they are given: any number of threads may call them.
#pragma once

#include <span>

#include "hone/spectrum.h"

namespace hone::decide {

// Where the likelihood's optimum stopped.
enum class SignalBoundary {
  none,
  no_signal,  // τ² = 0: the residuals look like noise alone
  no_noise,   // λ* at the lower end of its range, 1e-8 λ_max: the kernel explains the residuals down to that
};

// r = f + ε, f ~ GP(0, τ²K), ε ~ N(0, σ²I).
struct Signal {
  double signal_variance = 0;  // τ², in the kernel's units
  double noise_variance = 0;   // σ²
  double log_likelihood = 0;   // log p(r | τ², σ²) − (n/2)·log(1/2π); +inf for r = 0
  SignalBoundary boundary = SignalBoundary::none;

  double lambda_star() const;  // λ* = σ²/τ²; +inf for τ² = 0
};

// The maximum of the marginal likelihood over (σ², τ²). [DTV] estimates no τ²; this is ours: with λ* fixed the best τ²
// is τ̂² = (1/n) Σ r̃_i²/(λ_i + λ*), so log λ* is searched on a grid over [1e-8, 1e8] λ_max, which finds the right one of
// several maxima, and refined by golden section. Ends of the range are reported; beyond the upper one τ² = 0 exactly.
// `residuals` are the coordinates r̃ = Uᵀr [n]. O(n) per value of λ*. Throws Error{bad_input}.
Signal fit_signal(const Spectrum& spectrum, std::span<const double> residuals);

// log N(r; 0, τ²K + σ²I) without its −(n/2) log 2π: −½ Σ [log s_i + r̃_i²/s_i], s_i = τ²λ_i + σ².
double log_likelihood(const Spectrum& spectrum, std::span<const double> residuals, double signal_variance,
                      double noise_variance);

// E[(k_xᵀq(K)r − k_xᵀq*(K)r)² | K] = Σ_i a_i (q(λ_i) − q*(λ_i))², a_i = (τ²λ_i + σ²) k̃_i², q* the Bayes filter: what
// the filter q [n] risks at the query beyond the unavoidable. `query` are the coordinates k̃ = Uᵀk_x [n].
double excess_risk(const Spectrum& spectrum, std::span<const double> query, const Signal& signal,
                   std::span<const double> filter);

// "Adapt iff Σ a_i (q − q*)² < Σ a_i q*²".
struct BayesGap {
  double adapted = 0;  // excess risk of the filter
  double base = 0;     // excess risk of not adapting: Σ a_i q*_i² = τ² k_xᵀ(K + λ*I)^{-1} k_x
  bool adapt = false;  // adapted < base
};
BayesGap bayes_gap(const Spectrum& spectrum, std::span<const double> query, const Signal& signal,
                   std::span<const double> filter);

}  // namespace hone::decide
