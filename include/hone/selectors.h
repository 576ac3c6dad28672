// selectors: other ways to choose a number of steps. Leave-one-out on one prompt, a prior learned from earlier prompts
// of a stream, and a mixture over selectors with a bound on its squared error. None is from [DTV].
// Functions throw Error{bad_input} for sizes that do not fit, values that are not finite, and where there is nothing to
// choose from. Leave-one-out uses the one thread pool: one thread calls it at a time. The others only read what they
// are given: any number of threads may call them.
#pragma once

#include <span>
#include <vector>

#include "hone/decide.h"
#include "hone/spectrum.h"
#include "hone/steps.h"

namespace hone::decide {

// Each residual minus its prediction from the other examples.
struct LeaveOneOut {
  Matrix64 errors;             // [choices, m]
  std::vector<double> scores;  // mean squared error per choice
  size_t best = 0;             // the first of the smallest scores, up to rounding
};

// Of gradient descent, for every T of `steps`, run again on what is left of the kernel without the `outputs` rows of
// each example (rows i · outputs and on are example i's): by T products for whole steps up to 12 m, all examples at
// once, O(m²nT); else, and for real T, by an eigendecomposition an example, O(nm³). ρ < 1/λ_max(K) is below 1/λ_max of
// every submatrix; `spectrum` is K's. A single example is predicted by nothing. `residuals` [m] are r itself, not
// coordinates. Throws Error{bad_input, cancelled}. Uses all threads.
LeaveOneOut leave_one_out_descent(const Matrix64& kernel, const Spectrum& spectrum, std::span<const double> residuals,
                                  double rho, std::span<const double> steps, size_t outputs = 1,
                                  const CancelToken& cancel = {});
// Of ridge regression (the Bayes filter), for every λ* > 0 of `lambda_stars`; +inf means no correction. Closed form,
// exact: r_i − f̂_{−i} = [(K + λ*I)^{-1}r]_i / [(K + λ*I)^{-1}]_ii. O(n²) per λ*. `residuals` [n] are r itself.
LeaveOneOut leave_one_out_ridge(const Spectrum& spectrum, std::span<const double> residuals,
                                std::span<const double> lambda_stars);

// π(T) for the next prompt of a stream, learned from the evidence of the earlier ones (empirical Bayes): the maximum a
// posteriori of mixing proportions under a Dirichlet of `strength` pseudo-prompts spread as the initial prior, where
// π = (strength · π_0 + Σ_prompts posterior)/(strength + prompts); by Newton's method. It sees labelled examples
// only, never a query's answer. One object belongs to one stream; not thread-safe.
class StepPrior {
 public:
  // π_0 = `initial` [|T|], positive, normalised here; strength > 0. Throws Error{bad_input}.
  explicit StepPrior(std::vector<double> initial, double strength = 10);

  // ℓ_T [|T|] of one prompt with n examples. Throws Error{bad_input}.
  void observe(std::span<const double> scores, size_t examples);

  const std::vector<double>& prior() const { return prior_; }  // [|T|], positive, sums to 1
  size_t prompts() const { return evidence_.size() / initial_.size(); }

 private:
  std::vector<double> initial_;
  double strength_;
  std::vector<double> prior_;
  std::vector<double> evidence_;  // exp(−nℓ_T) [prompts, |T|], each prompt's largest is 1
};

// Predicts a stream of numbers in [low, high] with experts that each name a number; expert 0 is the base. Squared loss
// is mixable (Vovk 2001): with η = 2/(high − low)² and g(y) = −(1/η) log Σ w_j exp(−η(y − ŷ_j)²), the prediction m +
// (g(low) − g(high)) / (2(high − low)), m the range's middle, has a loss of at most g(y) for every y. Therefore, for
// EVERY stream, Σ(y − ŷ)² ≤ Σ(y − ŷ_0)² + bound(). Weights move as `sharing` says; see Mixture.
// One object belongs to one stream; not thread-safe.
class SelectorMixture {
 public:
  // prior [experts], see Mixture. Throws Error{bad_input} unless low < high, both finite.
  SelectorMixture(std::vector<double> prior, double low, double high, Sharing sharing = Sharing::bayes);

  // The prediction, in [low, high]. What an expert says beyond the range is clamped to it, which never raises its loss.
  // Throws Error{bad_input} for a number that is not finite.
  double predict(std::span<const double> experts) const;
  // The truth for these experts' predictions: moves the weights. Throws Error{bad_input} for a truth outside
  // [low, high], and as predict().
  void observe(std::span<const double> experts, double truth);

  std::vector<double> weights() const { return mixture_.weights(); }
  // How much larger the sum of squared errors of `predictions` predictions can be than the base's: with Bayes weights
  // ½ (high − low)² ln(1/w_0), whatever their number.
  double bound(size_t predictions) const;

 private:
  std::vector<double> log_probs(std::span<const double> experts, double truth) const;

  Mixture mixture_;
  double low_;
  double high_;
  double rate_;  // η
};

}  // namespace hone::decide
