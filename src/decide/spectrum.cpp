#include "hone/spectrum.h"

#include <algorithm>
#include <limits>

#include "decide/checks.h"
#include "decide/eigen.h"

namespace hone::decide {
namespace {

// The symmetric part of `kernel`, checked.
RowMajor symmetric(const Matrix64& kernel, double tolerance) {
  if (kernel.rows != kernel.cols || kernel.values.size() != kernel.rows * kernel.cols)
    throw Error(ErrorCode::bad_input,
                fmt::format("kernel: it is {} x {}; one row and column per example", kernel.rows, kernel.cols));
  if (kernel.rows == 0) throw Error(ErrorCode::bad_input, "kernel: there are no examples; give at least one");
  const auto k = map(kernel);
  const double largest = k.cwiseAbs().maxCoeff<Eigen::PropagateNaN>();
  if (!std::isfinite(largest))
    throw Error(ErrorCode::bad_input, "kernel: it holds a value that is not a finite number; look at the gradients");
  const double asymmetry = (k - k.transpose()).cwiseAbs().maxCoeff();
  if (asymmetry > tolerance * largest)
    throw Error(ErrorCode::bad_input,
                fmt::format("kernel: it is not symmetric: entries across the diagonal differ by {:.3g}, the largest is "
                            "{:.3g}",
                            asymmetry, largest));
  return (k + k.transpose()) / 2;
}

}  // namespace

Matrix64::Matrix64(ConstMatrixView from)
    : rows(from.rows), cols(from.cols), values(from.data, from.data + from.rows * from.cols) {}

Spectrum::Spectrum(const Matrix64& kernel, double tolerance) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(symmetric(kernel, tolerance));
  const size_t n = kernel.rows;
  const auto value = [&](size_t i) { return solver.eigenvalues()[index(n - 1 - i)]; };
  const double top = value(0), bottom = value(n - 1);
  if (solver.info() != Eigen::Success || !std::isfinite(top) || !std::isfinite(bottom))
    throw Error(ErrorCode::bad_input, "kernel: its eigenvalues cannot be computed; scale it nearer to 1");
  if (bottom < -tolerance * std::max(top, 0.0))
    throw Error(ErrorCode::bad_input,
                fmt::format("kernel: it is not positive semidefinite: eigenvalues from {:.3g} to {:.3g}", bottom, top));
  most_negative_ = std::min(bottom, 0.0);
  const double null = static_cast<double>(n) * std::numeric_limits<double>::epsilon() * top;
  eigenvalues_.resize(n);
  eigenvectors_ = Matrix64(n, n);
  for (size_t i = 0; i < n; ++i) {
    eigenvalues_[i] = value(i) > null ? value(i) : 0;
    map(eigenvectors_.row(i)) = solver.eigenvectors().col(index(n - 1 - i));
  }
}

size_t Spectrum::rank() const {
  return static_cast<size_t>(std::count_if(eigenvalues_.begin(), eigenvalues_.end(), [](double x) { return x > 0; }));
}

std::vector<double> Spectrum::coordinates(std::span<const double> v, std::string_view what) const {
  check_size(what, v.size(), size());
  check_finite(what, v);
  std::vector<double> c(size());
  map(std::span(c)) = map(eigenvectors_) * map(v);
  return c;
}

std::vector<double> Spectrum::combination(std::span<const double> c) const {
  check_size("combination", c.size(), size());
  std::vector<double> v(size());
  map(std::span(v)) = map(eigenvectors_).transpose() * map(c);
  return v;
}

Matrix64 Spectrum::function(std::span<const double> f) const {
  check_size("function", f.size(), size());
  const auto u = map(eigenvectors_);
  const RowMajor scaled = map(f).asDiagonal() * u;
  return matrix(u.transpose() * scaled);
}

}  // namespace hone::decide
