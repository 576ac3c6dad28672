// The linear representation model of [SaG] §3 with Gaussian values: concepts in R^d1, features in R^d2 that are a
// random projection of them, a target that is linear in the concepts; its estimators, and what theory says of each.
#pragma once

#include <Eigen/Dense>
#include <vector>

#include "base/random.h"

namespace hone::lab {

inline Eigen::Index as_index(size_t i) { return static_cast<Eigen::Index>(i); }

// Independent N(0, 1).
Eigen::MatrixXd draw_gaussian(RandomStream& random, size_t rows, size_t cols);
// `count` different numbers below `bound`, in the order in which they were drawn.
std::vector<size_t> draw_subset(RandomStream& random, size_t count, size_t bound);

// ---- One linear head for everything ----
// Concepts of second moment M [d1, d1], features Pφ with P [d2, d1], target ⟨φ, w⟩: the least relative error
// E(⟨φ, w⟩ − ⟨Pφ, v⟩)² / E⟨φ, w⟩² of any head, and that head.
struct GlobalHead {
  Eigen::VectorXd head;  // v [d2]
  double error = 0;
};
GlobalHead best_global_head(const Eigen::MatrixXd& projection, const Eigen::MatrixXd& moment,
                            const Eigen::VectorXd& target);
// For M = I: E over P is 1 − d2/d1 exactly, P's rows spanning a uniform subspace. Least squares on n > d2 + 1 Gaussian
// examples has 1 + d2/(n − d2 − 1) times the best head's error on average, the part it cannot see being independent
// noise.
double global_error(size_t d1, size_t d2);
double least_squares_inflation(size_t parameters, size_t n);

// ---- Heads from k examples ----
// Least squares of least norm, through eigenvalues of XᵀX or XXᵀ above a 1e-10th of the largest.
Eigen::VectorXd least_squares(const Eigen::MatrixXd& x, const Eigen::VectorXd& y);
// argmin ‖y − Xv‖² + ridge ‖v‖².
Eigen::VectorXd ridge_regression(const Eigen::MatrixXd& x, const Eigen::VectorXd& y, double ridge);
// argmin ‖y − Xw‖²/(2k) + penalty ‖w‖₁ by coordinate descent.
Eigen::VectorXd lasso(const Eigen::MatrixXd& x, const Eigen::VectorXd& y, double penalty);
// Orthogonal matching pursuit: `count` times the column that is most correlated with the residual, then least squares.
Eigen::VectorXd matching_pursuit(const Eigen::MatrixXd& x, const Eigen::VectorXd& y, size_t count);

// Risk of the soft threshold α at mean μ under N(0, 1) noise, E(η(μ + Z; α) − μ)² (Donoho & Johnstone 1994).
double soft_threshold_risk(double threshold, double mean);
// The lasso on k Gaussian examples of d1 concepts, s of which have coefficient ±`coefficient`, noise variance σ²:
// state evolution (Bayati & Montanari 2012), exact for large k and d1, at threshold α = sqrt(2 log(d1/s)):
//   τ² = σ² + error,  error = (τ²/k) [(d1 − s) r(α, 0) + s r(α, coefficient·√k/τ)],  r = soft_threshold_risk.
// For strong coefficients and large k it is about σ² s (2 log(d1/s) + 1)/k.
struct LassoTheory {
  double penalty = 0;  // of lasso(), that belongs to α
  double error = 0;    // E‖ŵ − w‖²
};
LassoTheory lasso_theory(size_t d1, size_t s, size_t k, double noise, double coefficient);

}  // namespace hone::lab
