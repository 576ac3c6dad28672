// spectrum: a kernel's eigendecomposition, and gradient descent as a filter on it. docs/decide.md holds the formulas.
// [DTV] is Wakayama, A Decision-Theoretic View of Test-Time Training, arXiv 2606.15569 (2026).
// Functions only read what they are given: any number of threads may call them.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "hone/base.h"

namespace hone::decide {

// A row-major double matrix [rows, cols]: kernels and what is computed from them.
struct Matrix64 {
  Matrix64() = default;
  // Zero-filled.
  Matrix64(size_t row_count, size_t col_count) : rows(row_count), cols(col_count), values(row_count * col_count) {}
  explicit Matrix64(ConstMatrixView from);

  double& operator()(size_t i, size_t j) { return values[i * cols + j]; }
  double operator()(size_t i, size_t j) const { return values[i * cols + j]; }
  std::span<double> row(size_t i) { return {values.data() + i * cols, cols}; }
  std::span<const double> row(size_t i) const { return {values.data() + i * cols, cols}; }

  size_t rows = 0;
  size_t cols = 0;
  std::vector<double> values;
};

// K = Σ_i λ_i u_i u_iᵀ for a kernel K [n, n] of n ≥ 1 examples; λ_1 ≥ … ≥ λ_n ≥ 0. The only O(n³) step of a decision.
// Const after construction: any number of threads may read one Spectrum.
class Spectrum {
 public:
  // Throws Error{bad_input} if K has no rows, is not square, holds a number that is not finite, |K_ij − K_ji| exceeds
  // tolerance · max |K|, or an eigenvalue lies below −tolerance · λ_1. K is made symmetric; other negative
  // eigenvalues are clipped to 0, and so are positive ones below n · 2⁻⁵² · λ_1: rounding errors of a null mode.
  explicit Spectrum(const Matrix64& kernel, double tolerance = 1e-4);

  size_t size() const { return eigenvalues_.size(); }                   // n
  std::span<const double> eigenvalues() const { return eigenvalues_; }  // [n], descending
  double largest() const { return eigenvalues_.front(); }               // λ_max; 0 for a kernel of zeros
  size_t rank() const;                                                  // how many λ_i > 0
  std::span<const double> eigenvector(size_t i) const { return eigenvectors_.row(i); }  // u_i [n]
  double most_negative() const { return most_negative_; }  // the lowest eigenvalue before clipping, at most 0

  // Uᵀv: coordinates of v [n] along the eigenvectors. Throws Error{bad_input} for another size or values that are not
  // finite; `what` names v in the message.
  std::vector<double> coordinates(std::span<const double> v, std::string_view what) const;
  // U c, the inverse of coordinates(). Throws Error{bad_input} for another size.
  std::vector<double> combination(std::span<const double> c) const;
  // f(K) = U diag(f) Uᵀ [n, n] for f given at the eigenvalues [n]. O(n³). Throws Error{bad_input} for another size.
  Matrix64 function(std::span<const double> f) const;

 private:
  std::vector<double> eigenvalues_;
  Matrix64 eigenvectors_;  // row i is u_i
  double most_negative_ = 0;
};

// ρ = c / λ_max for c in (0, 1), so that ρ < 1/λ_max; 0 for a kernel of zeros, where no step moves. Throws
// Error{bad_input} for another c.
double step_size(const Spectrum& spectrum, double c);

// What T steps of gradient descent on (1/2σ²)‖r − Φθ‖² do to a mode, ρ = η/σ², 0 ≤ ρλ < 1, real T ≥ 0 ([DTV]):
//   fraction fitted   g_T(λ) = 1 − (1 − ρλ)^T
//   filter            q_T(λ) = g_T(λ)/λ, and ρT at λ = 0; the correction at the query is k_xᵀ q_T(K) r.
double descent_fitted(double lambda, double rho, double steps);
double descent_filter(double lambda, double rho, double steps);
// Gradient flow for time t = ρT: (1 − e^{−tλ})/λ, and t at λ = 0.
double flow_filter(double lambda, double time);
// The Bayes filter of r = f + ε, f ~ GP(0, τ²K), ε ~ N(0, σ²I) with λ* = σ²/τ², and ridge regression with penalty λ*:
// 1/(λ + λ*); λ* = ∞ gives 0, λ* = 0 the pseudo-inverse (0 at λ = 0).
double bayes_filter(double lambda, double lambda_star);
// The time at which gradient flow fits a mode exactly as Bayes does: log(1 + λ/λ*)/λ, 1/λ* at λ = 0. λ* > 0.
double ideal_time(double lambda, double lambda_star);

// q_T at every eigenvalue [n]. Throws Error{bad_input} unless 0 ≤ ρ < 1/λ_max and T is finite and ≥ 0.
std::vector<double> descent_filter(const Spectrum& spectrum, double rho, double steps);
// 1/(λ_i + λ*) at every eigenvalue [n]. Throws Error{bad_input} for a negative λ* or NaN.
std::vector<double> bayes_filter(const Spectrum& spectrum, double lambda_star);

// k_xᵀ q(K) r = Σ_i k̃_i q_i r̃_i for coordinates k̃ = Uᵀk_x, r̃ = Uᵀr and a filter q given at the eigenvalues, all [n].
// Throws Error{bad_input} if their sizes differ.
double correction(std::span<const double> filter, std::span<const double> query, std::span<const double> residuals);

}  // namespace hone::decide
