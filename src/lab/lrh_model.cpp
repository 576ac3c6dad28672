#include "lab/lrh_model.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace hone::lab {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

// Solves the positive semidefinite a x = b on the eigenvectors whose eigenvalues are not 0 but for rounding.
VectorXd solve_semidefinite(const MatrixXd& a, const VectorXd& b) {
  constexpr double null = 1e-10;
  const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(a);
  VectorXd coordinates = eigen.eigenvectors().transpose() * b;
  const double largest = eigen.eigenvalues()[a.rows() - 1];
  for (Index i = 0; i < coordinates.size(); ++i)
    coordinates[i] = eigen.eigenvalues()[i] > null * largest ? coordinates[i] / eigen.eigenvalues()[i] : 0;
  return eigen.eigenvectors() * coordinates;
}

double density(double z) { return std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi); }
double distribution(double z) { return std::erfc(-z / std::numbers::sqrt2) / 2; }

}  // namespace

MatrixXd draw_gaussian(RandomStream& random, size_t rows, size_t cols) {
  std::vector<float> values(rows * cols);
  random.normals(values, 1);
  return Eigen::Map<const Eigen::MatrixXf>(values.data(), as_index(rows), as_index(cols)).cast<double>();
}

std::vector<size_t> draw_subset(RandomStream& random, size_t count, size_t bound) { return random.draw(bound, count); }

GlobalHead best_global_head(const MatrixXd& projection, const MatrixXd& moment, const VectorXd& target) {
  const MatrixXd seen = projection * moment;  // E ψφᵀ
  GlobalHead global;
  global.head = solve_semidefinite(seen * projection.transpose(), seen * target);
  const double signal = target.dot(moment * target);
  global.error = std::max(0.0, 1 - global.head.dot(seen * target) / signal);
  return global;
}

double global_error(size_t d1, size_t d2) { return 1 - static_cast<double>(d2) / static_cast<double>(d1); }

double least_squares_inflation(size_t parameters, size_t n) {
  return 1 + static_cast<double>(parameters) / (static_cast<double>(n) - static_cast<double>(parameters) - 1);
}

VectorXd least_squares(const MatrixXd& x, const VectorXd& y) {
  if (x.rows() >= x.cols()) return solve_semidefinite(x.transpose() * x, x.transpose() * y);
  return x.transpose() * solve_semidefinite(x * x.transpose(), y);
}

VectorXd ridge_regression(const MatrixXd& x, const VectorXd& y, double ridge) {
  const bool tall = x.rows() >= x.cols();
  MatrixXd gram = tall ? MatrixXd(x.transpose() * x) : MatrixXd(x * x.transpose());
  gram.diagonal().array() += ridge;
  if (tall) return gram.ldlt().solve(x.transpose() * y);
  return x.transpose() * gram.ldlt().solve(y);
}

VectorXd lasso(const MatrixXd& x, const VectorXd& y, double penalty) {
  constexpr int most_sweeps = 2000;
  constexpr double tolerance = 1e-7;
  const double k = static_cast<double>(x.rows());
  const VectorXd squares = x.colwise().squaredNorm().transpose() / k;
  VectorXd w = VectorXd::Zero(x.cols()), residual = y;
  for (int sweep = 0; sweep < most_sweeps; ++sweep) {
    double moved = 0;
    for (Index j = 0; j < x.cols(); ++j) {
      const double gradient = x.col(j).dot(residual) / k + squares[j] * w[j];
      const double next = std::copysign(std::max(std::abs(gradient) - penalty, 0.0), gradient) / squares[j];
      const double step = next - w[j];
      if (step == 0) continue;
      residual -= step * x.col(j);
      w[j] = next;
      moved = std::max(moved, std::abs(step));
    }
    if (moved < tolerance) break;
  }
  return w;
}

VectorXd matching_pursuit(const MatrixXd& x, const VectorXd& y, size_t count) {
  VectorXd residual = y, coefficients;
  std::vector<Index> support;
  MatrixXd columns(x.rows(), as_index(count));
  const VectorXd lengths = x.colwise().norm().transpose();
  for (size_t t = 0; t < count; ++t) {
    VectorXd correlations = (x.transpose() * residual).cwiseAbs().cwiseQuotient(lengths);
    for (const Index j : support) correlations[j] = -1;
    Index best = 0;
    correlations.maxCoeff(&best);
    columns.col(as_index(support.size())) = x.col(best);
    support.push_back(best);
    const auto chosen = columns.leftCols(as_index(support.size()));
    coefficients = least_squares(chosen, y);
    residual = y - chosen * coefficients;
  }
  VectorXd w = VectorXd::Zero(x.cols());
  for (size_t t = 0; t < support.size(); ++t) w[support[t]] = coefficients[as_index(t)];
  return w;
}

double soft_threshold_risk(double threshold, double mean) {
  const double above = threshold - mean, below = -threshold - mean;
  return 1 + threshold * threshold +
         (mean * mean - 1 - threshold * threshold) * (distribution(above) - distribution(below)) -
         (threshold - mean) * density(threshold + mean) - (threshold + mean) * density(threshold - mean);
}

LassoTheory lasso_theory(size_t d1, size_t s, size_t k, double noise, double coefficient) {
  const double zeros = static_cast<double>(d1 - s), others = static_cast<double>(s), n = static_cast<double>(k);
  const double threshold = std::sqrt(2 * std::log(static_cast<double>(d1) / others));
  const double of_zero = soft_threshold_risk(threshold, 0);
  double error = 0, deviation = std::sqrt(noise);
  for (int i = 0; i < 10000; ++i) {
    const double before = error;
    error = deviation * deviation / n *
            (zeros * of_zero + others * soft_threshold_risk(threshold, coefficient * std::sqrt(n) / deviation));
    deviation = std::sqrt(noise + error);
    if (std::abs(error - before) <= 1e-14 * error) break;
  }
  const double mean = coefficient * std::sqrt(n) / deviation;
  const double active = zeros * 2 * distribution(-threshold) +
                        others * (distribution(mean - threshold) + distribution(-mean - threshold));
  return {threshold * deviation * (1 - active / n) / std::sqrt(n), error};
}

}  // namespace hone::lab
