// Eigen's view of our double matrices. Eigen stays inside this room: no public header names it.
#pragma once

#include <Eigen/Dense>

#include "hone/spectrum.h"

namespace hone::decide {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

inline Eigen::Index index(size_t i) { return static_cast<Eigen::Index>(i); }

inline Eigen::Map<const RowMajor> map(const Matrix64& m) { return {m.values.data(), index(m.rows), index(m.cols)}; }
inline Eigen::Map<RowMajor> map(Matrix64& m) { return {m.values.data(), index(m.rows), index(m.cols)}; }
inline Eigen::Map<const Eigen::VectorXd> map(std::span<const double> v) { return {v.data(), index(v.size())}; }
inline Eigen::Map<Eigen::VectorXd> map(std::span<double> v) { return {v.data(), index(v.size())}; }

template <class Expression>
Matrix64 matrix(const Eigen::MatrixBase<Expression>& from) {
  Matrix64 to(static_cast<size_t>(from.rows()), static_cast<size_t>(from.cols()));
  map(to) = from;
  return to;
}

}  // namespace hone::decide
