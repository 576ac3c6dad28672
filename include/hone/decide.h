// decide: pure mathematics; no model, no files. Here the no-harm mixture and how sure a mean is; spectrum.h, steps.h,
// signal.h, certificate.h, selectors.h, directions.h and subspace.h hold the decisions for labelled prompts.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "hone/base.h"

namespace hone::decide {

// How mixture weights move after each token.
enum class Sharing {
  bayes,  // w_j(t) ∝ w_j Π_{u<t} p_j(x_u | x_<u)
  fixed_share,  // then w ← (1 − α_t)·posterior + α_t·prior with α_t = 1/(t + 1), t = 1, 2, … (Herbster & Warmuth 1998)
};

// The no-harm mixture of experts: predicts with p(x_t) = Σ_j w_j(t) p_j(x_t), weights moved by evidence.
// Expert 0 is the base. For EVERY text, whatever the experts say, −log2 p(x) ≤ −log2 p_0(x) + bound_bits(t).
// One object belongs to one request; not thread-safe.
class Mixture {
 public:
  // `prior` [experts] is positive and sums to 1 (to 1e-9); prior[0] belongs to the base.
  // `floor` in [0, 1): weights used for predicting are floor·e_0 + (1 − floor)·w, so that every single prediction keeps
  // at least floor × the base's probability. Throws Error{bad_input}.
  Mixture(std::vector<double> prior, Sharing sharing, double floor = 0);

  // The weights [experts] that the next prediction uses: the floor is applied, they sum to 1.
  std::vector<double> weights() const;

  // log p(x_t) of the mixture, natural logarithm; log_probs[j] = log p_j(x_t) with finite log_probs[0].
  // An expert that says NaN, +inf or a positive log-probability counts as probability 0 for that token; −inf is
  // allowed. Throws Error{bad_input} unless there is one log-probability per expert and log_probs[0] is finite and at
  // most 0.
  double log_prob(std::span<const double> log_probs) const;

  // log_prob(log_probs), then moves the weights by this token's evidence. Throws as log_prob does; the weights are then
  // as before.
  double update(std::span<const double> log_probs);

  size_t experts() const;
  size_t updates() const;  // t: tokens seen so far

  // Bits that the mixture's text of `tokens` tokens can be longer than the base's, at most, for every text.
  // B = log2(1/w_0) for Bayes, plus Σ_{t=1}^{tokens−1} −log2(1 − α_t(1 − w_0)) for fixed share; with a floor,
  // −n·log2(floor + (1 − floor)·2^(−B/n)) for n tokens, at most (1 − floor)·B and n·log2(1/floor).
  // Proofs: docs/mixture.md. O(tokens).
  double bound_bits(size_t tokens) const;
  // The same against expert j; a floor adds tokens·log2(1/(1 − floor)) for j ≠ 0. Throws Error{bad_input} for an expert
  // that does not exist.
  double bound_bits(size_t tokens, size_t expert) const;

 private:
  std::vector<double> prior_;
  std::vector<double> log_weights_;
  Sharing sharing_;
  double floor_;
  size_t updates_ = 0;
};

// A mean or a share with its 95 % interval.
struct Interval {
  double mean = 0;
  double low = 0;
  double high = 0;
};

// Percentile bootstrap of the mean, 2.5 % to 97.5 %: `draws` resamples with replacement from the stream (seed,
// "bootstrap"). Pass differences of pairs for a paired interval. Throws Error{bad_input} for none, or one not finite.
Interval bootstrap_mean(std::span<const double> values, uint64_t seed = 0, size_t draws = 10000);
// count/total and its Wilson score interval (Wilson 1927), which unlike a bootstrap has a width at 0 and at 1. Throws
// Error{bad_input} unless count ≤ total, total > 0.
Interval share_interval(size_t count, size_t total);
double median(std::vector<double> values);  // throws Error{bad_input} for none, or one that is not finite

}  // namespace hone::decide
