// subspace: the Bayes-optimal directions of rank k for a set of queries, and what to predict with them. [DTV] Thm 8.2.
// Every function throws Error{bad_input} for sizes that do not fit, matrices that are not finite or a variance that
// is not positive. They only read what they are given: any number of threads may call them.
#pragma once

#include <span>
#include <vector>

#include "hone/spectrum.h"

namespace hone::decide {

// Everything is computed in the dual. θ ~ N(0, I) in the units in which the noise is s² (other priors go into the
// kernels), r = Jθ + noise; the queries are rows of J_Q [m, d], Q = J_QᵀJ_Q/m, I = Jᵀ(K + s²I)^{-1}J. The theorem wants
// the top-k eigenspace of Q^{1/2} I Q^{1/2}. With W = J_Q/√m = O Q^{1/2}, O an isometry on the range of Q, it is
// carried by O to the top-k eigenspace of the m × m matrix
//   C = W I Wᵀ = (1/m) K_Q (K + s²I)^{-1} K_Qᵀ,   K_Q = J_Q Jᵀ [m, n],
// and a direction e of C is the parameter direction Q^{-1/2}Oᵀe = Wᵀ(WWᵀ)⁺e, a combination of the queries' gradients.
// A single query has one direction, its own gradient.

// C [m, m]. `query_kernel` is K_Q [m, n]; s² > 0. Throws Error{bad_input}.
Matrix64 information_capture(const Spectrum& spectrum, const Matrix64& query_kernel, double noise);

// k orthonormal directions, for C or a mean of several (below).
struct QuerySubspace {
  Matrix64 basis;               // [k, m], row i is e_i
  std::vector<double> capture;  // their eigenvalues μ_1 ≥ … ≥ μ_k > 0; null directions are left out, so k may shrink
  double left = 0;              // Σ_{i>k} μ_i: what rank k gives up
};
QuerySubspace best_subspace(const Matrix64& capture, size_t rank);

// Amortised global design: the mean of C over prompts, for one set of queries; its best_subspace() serves new prompts.
// Throws Error{bad_input} if there are none or their sizes differ.
Matrix64 mean_capture(std::span<const Matrix64> captures);
// What it may lose against the design of the true mean: 2k‖Ĉ − C‖_op.
double design_regret(const Matrix64& estimate, const Matrix64& truth, size_t rank);

// Estimator 1, the theorem's: the FULL posterior mean's predictions f̂ = K_Q(K + s²I)^{-1}r [m], projected: E Eᵀ f̂.
// `residuals` [n] are r itself. Its risk (1/m) E‖f_Q − E Eᵀf̂‖² is tr(Q) − Σ_{i≤k} μ_i.
std::vector<double> projected_posterior(const Spectrum& spectrum, const Matrix64& query_kernel,
                                        std::span<const double> residuals, double noise, const QuerySubspace& subspace);

// Estimator 2, another one with another risk: gradient descent or Bayes INSIDE the subspace, which then is all there
// is. Its kernels: K_S = J P Jᵀ [n, n] and k_S = J_Q P Jᵀ [m, n], P the orthogonal projector on the k parameter
// directions. Use Spectrum(K_S) and the rows of k_S as with any block; rule_risk() gives the risk.
struct SubspaceKernels {
  Matrix64 kernel;
  Matrix64 queries;
};
// `query_gram` is J_Q J_Qᵀ [m, m].
SubspaceKernels subspace_kernels(const QuerySubspace& subspace, const Matrix64& query_kernel,
                                 const Matrix64& query_gram);

}  // namespace hone::decide
