// steps: how far to adapt. Evidence of a number of steps, its posterior, and what the decision is worth ([DTV]).
// Functions and const methods only read what they are given: any number of threads may call them.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "hone/certificate.h"
#include "hone/signal.h"
#include "hone/spectrum.h"

namespace hone::decide {

enum class Noise {
  fixed,     // σ² = ‖r‖²/n, the same for every T
  profiled,  // σ̂_T² = (1/n) Σ (1 − ρλ_i)^T r̃_i², the best for each T
};

// Negative log-evidence per example of T steps, r ~ N(0, σ²(I − ρK)^{−T}), without ½ log 2π:
//   ℓ_T = (1/2n) [n log σ² − T Σ log(1 − ρλ_i) + σ^{−2} Σ (1 − ρλ_i)^T r̃_i²],
// with profiled σ: ℓ_T = ½ [log σ̂_T² + 1 − (T/n) Σ log(1 − ρλ_i)]. Both are convex in real T ≥ 0.
// Limit cases: r = 0 leaves the terms that hold σ² out, so that T = 0 is best; with one example the profiled score is
// the same for every T. O(n) per call; const after construction.
class StepEvidence {
 public:
  // `residuals` are the coordinates r̃ = Uᵀr [n]; 0 ≤ ρ < 1/λ_max. Throws Error{bad_input}.
  StepEvidence(const Spectrum& spectrum, std::span<const double> residuals, double rho, Noise noise);
  // σ² > 0 chosen before the residuals were seen, as the certificate wants it.
  StepEvidence(const Spectrum& spectrum, std::span<const double> residuals, double rho, double noise_variance);

  double score(double steps) const;           // ℓ_T
  double slope(double steps) const;           // dℓ_T/dT
  double curvature(double steps) const;       // d²ℓ_T/dT² ≥ 0
  double noise_variance(double steps) const;  // σ² at T
  // The real T in [0, limit] of the smallest score, by Newton's method kept inside a bracket; 0 where the score is
  // flat.
  double best_steps(double limit) const;

  size_t size() const { return decay_.size(); }  // n
  Noise noise() const { return noise_; }
  bool noise_given() const { return noise_given_; }
  // log(1 − ρλ_i) [n]: Σ_T^{-1} has the eigenvalues e^{T·decay_i}/σ².
  std::span<const double> decay() const { return decay_; }

 private:
  struct Moments;
  Moments moments(double steps) const;

  std::vector<double> decay_;
  std::vector<double> squares_;  // r̃_i²
  double total_decay_ = 0;
  double noise_variance_ = 0;  // of Noise::fixed
  Noise noise_;
  bool noise_given_ = false;
};

// A distribution over numbers of steps: weights ∝ π(T) exp(−β n ℓ_T).
struct StepPosterior {
  std::vector<double> steps;    // T, ascending from 0 (not adapting is always a choice)
  std::vector<double> prior;    // π(T), sums to 1
  std::vector<double> scores;   // ℓ_T
  std::vector<double> weights;  // sum to 1
  double beta = 1;              // 1 is the exact posterior
  size_t best = 0;              // index of T_MAP; the smallest T among equals

  double map_steps() const { return steps[best]; }
  double mean_steps() const;
  double mean_score() const;  // E_ν ℓ
  double divergence() const;  // KL(ν‖π), nats
};

// 0, 1, …, last.
std::vector<double> whole_steps(size_t last);
// `steps` ascend from 0; `prior` [|T|] is not negative and is normalised, empty means uniform; β ≥ 0.
// Throws Error{bad_input}.
StepPosterior step_posterior(const StepEvidence& evidence, std::vector<double> steps, std::vector<double> prior = {},
                             double beta = 1);
// P(T) = (1 − p) p^T, p = 1/(1 + ρλ*), on 0 … last, normalised: over all T the mixture of filters would be the Bayes
// filter 1/(λ + λ*) exactly. ρ, λ* > 0. Throws Error{bad_input}.
std::vector<double> geometric_step_prior(double rho, double lambda_star, size_t last);
// The posterior's mixture of filters, Σ_T ν(T) q_T(λ_i), at the eigenvalues [n].
std::vector<double> mixture_filter(const Spectrum& spectrum, double rho, const StepPosterior& posterior);

struct StepOptions {
  double step = 0.2;                            // c in ρ = c/λ_max
  std::vector<double> steps = whole_steps(30);  // T
  std::vector<double> prior = {};               // π(T); empty means uniform
  double beta = 1;                              // temperature of the Gibbs posterior
  Noise noise = Noise::fixed;
  double real_limit = 300;  // real T is searched in [0, the largest of this and all `steps`]
  double delta = 0.05;      // the certificate fails with at most this probability
};

// A prediction's filter, what it adds at the query, and its excess risk under the fitted signal.
struct StepChoice {
  std::vector<double> filter;  // q at the eigenvalues [n]
  double correction = 0;       // k_xᵀ q(K) r
  BayesGap gap;
};

// One prompt's decision, with all that it rests on.
struct StepDecision {
  double rho = 0;
  std::vector<double> residuals;  // r̃ = Uᵀr [n]
  std::vector<double> query;      // k̃ = Uᵀk_x [n]
  StepPosterior posterior;
  double real_steps = 0;  // the best real T
  Signal signal;
  StepChoice map;      // T_MAP
  StepChoice mixture;  // the Gibbs mixture of filters
  StepChoice real;     // the best real T
  StepChoice bayes;    // the Bayes filter of the fitted signal
  // With Σ* = τ̂²K + σ̂²I put in for the true covariance; absent for profiled σ, which the theorem does not cover, and
  // for r = 0.
  std::optional<Certificate> map_certificate;
  std::optional<Certificate> mixture_certificate;
};

// Everything above for residuals r [n] and the query's kernel row k_x [n]. O(|T| n) after the spectrum. A kernel of
// zeros and r = 0 end with correction 0. Throws Error{bad_input}.
StepDecision decide_steps(const Spectrum& spectrum, std::span<const double> residuals, std::span<const double> query,
                          const StepOptions& options = {});

}  // namespace hone::decide
