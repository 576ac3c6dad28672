// Small random problems of the linear-Gaussian residual model, and dense algebra to check closed forms against.
#pragma once

#include <Eigen/Dense>
#include <vector>

#include "base/random.h"
#include "hone/spectrum.h"

namespace hone::decide {

using Dense = Eigen::MatrixXd;
using Column = Eigen::VectorXd;

inline Dense random_matrix(RandomStream& random, size_t rows, size_t cols) {
  Dense m(static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(cols));
  for (Eigen::Index i = 0; i < m.rows(); ++i)
    for (Eigen::Index j = 0; j < m.cols(); ++j) m(i, j) = random.normal();
  return m;
}

inline Column random_column(RandomStream& random, size_t size) { return random_matrix(random, size, 1); }

inline Matrix64 to_matrix64(const Dense& from) {
  Matrix64 to(static_cast<size_t>(from.rows()), static_cast<size_t>(from.cols()));
  for (size_t i = 0; i < to.rows; ++i)
    for (size_t j = 0; j < to.cols; ++j) to(i, j) = from(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j));
  return to;
}

inline Dense to_dense(const Matrix64& from) {
  Dense to(static_cast<Eigen::Index>(from.rows), static_cast<Eigen::Index>(from.cols));
  for (size_t i = 0; i < from.rows; ++i)
    for (size_t j = 0; j < from.cols; ++j) to(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) = from(i, j);
  return to;
}

inline std::vector<double> to_vector(const Column& from) { return {from.data(), from.data() + from.size()}; }
inline Column to_column(std::span<const double> from) {
  return Eigen::Map<const Column>(from.data(), static_cast<Eigen::Index>(from.size()));
}

// Jacobian features of n examples and a query, and residuals.
struct Problem {
  Dense features;  // Φ [n, d]
  Column query_feature;
  Dense kernel;  // ΦΦᵀ
  Column query;  // Φφ(x)
  Column residuals;

  std::vector<double> r() const { return to_vector(residuals); }
  std::vector<double> k() const { return to_vector(query); }
  Spectrum spectrum() const { return Spectrum(to_matrix64(kernel)); }
};

inline Problem random_problem(RandomStream& random, size_t n, size_t d) {
  Problem p;
  p.features = random_matrix(random, n, d);
  p.query_feature = random_column(random, d);
  p.kernel = p.features * p.features.transpose();
  p.query = p.features * p.query_feature;
  p.residuals = random_column(random, n);
  return p;
}

}  // namespace hone::decide
