// certificate: a PAC-Bayes bound on the evidence of a chosen number of steps. [DTV] Thm 7.2.
// Every function throws Error{bad_input} for sizes that do not fit, variances that are negative or not finite, δ
// outside (0, 1) or steps that are no number of steps. They only read what they are given: any number of threads may
// call them.
#pragma once

#include <span>

#include "hone/spectrum.h"

namespace hone::decide {

class StepEvidence;
struct Signal;
struct StepPosterior;

// With probability 1 − δ over residuals r ~ N(0, Σ*): population score ≤ `score` + `slack` = `bound`. The population
// score L(T) = (1/2n)(log det Σ_T + tr Σ_T^{-1}Σ*) is the mean negative log-evidence under the true covariance Σ*: the
// certificate says nothing about the error at the query. It holds for σ², ρ, the steps, π and β fixed before r was
// seen.
struct Certificate {
  double score = 0;  // ℓ_{T_MAP}, or E_ν ℓ of the mixture
  double slack = 0;
  double bound = 0;
  double delta = 0;
  bool vacuous = false;  // slack exceeds ℓ_0 − score: the bound does not tell T from not adapting
  bool assumed = false;  // σ² or Σ* was estimated from the same residuals, so the probability is a plug-in, not a proof
};

// v̄ = sup_T tr(A_T²)/n, A_T = Σ*^{1/2} Σ_T^{-1} Σ*^{1/2}. A_T falls with T and T = 0 is always in the set, so this is
// tr(Σ*²)/(nσ⁴). Throws Error{bad_input} for profiled σ or σ² = 0, which the theorem does not cover.
// For the plug-in Σ* = τ²K + σ*²I:
double certificate_variance(const StepEvidence& evidence, const Spectrum& spectrum, const Signal& signal);
// For a known, symmetric Σ* [n, n]:
double certificate_variance(const StepEvidence& evidence, const Matrix64& covariance);

// L(T_MAP) ≤ ℓ + sqrt(v̄ (log|T| + log 1/δ)/n); `variance` is v̄. π is uniform in the theorem: another prior's log 1/π(T)
// stands in for log|T|. `known` says that v̄ came from the true Σ*. Throws Error{bad_input}.
Certificate certify_map(const StepEvidence& evidence, const StepPosterior& posterior, double variance, double delta,
                        bool known);
// E_ν L ≤ E_ν ℓ + (KL(ν‖π) + log 1/δ)/(βn) + βv̄/4 with the posterior's β > 0.
Certificate certify_mixture(const StepEvidence& evidence, const StepPosterior& posterior, double variance, double delta,
                            bool known);

// L(T) for Σ* = τ²K + σ*²I, which has K's eigenvectors. O(n).
double population_score(const StepEvidence& evidence, const Spectrum& spectrum, const Signal& signal, double steps);
// For a known, symmetric Σ* [n, n]. O(n³).
double population_score(const StepEvidence& evidence, const Spectrum& spectrum, const Matrix64& covariance,
                        double steps);

// Transfer at the prompt's points: (1/n) E‖f̂_T − f_Bayes‖² ≤ 4σ²(L(T) − L_true), L_true = (log det Σ* + n)/(2n).
// Returns the right side for Σ* = τ²K + σ²I with the evidence's fixed σ².
double transfer_bound(const StepEvidence& evidence, const Spectrum& spectrum, double signal_variance, double steps);

}  // namespace hone::decide
