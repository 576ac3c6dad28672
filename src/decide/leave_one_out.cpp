#include <algorithm>
#include <limits>

#include "base/parallel.h"
#include "decide/checks.h"
#include "hone/selectors.h"

namespace hone::decide {
namespace {

LeaveOneOut scored(Matrix64 errors) {
  LeaveOneOut result;
  for (size_t c = 0; c < errors.rows; ++c) {
    double sum = 0;
    for (const double e : errors.row(c)) sum += e * e;
    result.scores.push_back(sum / static_cast<double>(errors.cols));
    if (result.scores[c] < result.scores[result.best] * (1 - 1e-12)) result.best = c;
  }
  result.errors = std::move(errors);
  return result;
}

// `from` without entry i.
std::vector<double> without(std::span<const double> from, size_t i) {
  std::vector<double> to(from.begin(), from.end());
  to.erase(to.begin() + static_cast<std::ptrdiff_t>(i));
  return to;
}

Matrix64 without(const Matrix64& kernel, size_t i) {
  Matrix64 to(kernel.rows - 1, kernel.cols - 1);
  for (size_t row = 0; row < to.rows; ++row)
    std::ranges::copy(without(kernel.row(row < i ? row : row + 1), i), to.row(row).begin());
  return to;
}

}  // namespace

LeaveOneOut leave_one_out_descent(const Matrix64& kernel, std::span<const double> residuals, double rho,
                                  std::span<const double> steps) {
  check_step_size(Spectrum(kernel), rho);
  check_size("residuals", residuals.size(), kernel.rows);
  check_finite("residuals", residuals);
  if (steps.empty()) throw Error(ErrorCode::bad_input, "leave-one-out: there are no numbers of steps to compare");
  for (const double t : steps) check_steps(t);
  // What is left of a kernel that was accepted is accepted, however much smaller its largest eigenvalue is.
  constexpr double unbounded = std::numeric_limits<double>::infinity();
  Matrix64 errors(steps.size(), kernel.rows);
  parallel_for(kernel.rows, [&](size_t i) {
    for (size_t t = 0; t < steps.size(); ++t) errors(t, i) = residuals[i];
    if (kernel.rows == 1) return;
    const Spectrum others(without(kernel, i), unbounded);
    const std::vector<double> r = others.coordinates(without(residuals, i), "residuals");
    const std::vector<double> k = others.coordinates(without(kernel.row(i), i), "kernel");
    for (size_t t = 0; t < steps.size(); ++t) errors(t, i) -= correction(descent_filter(others, rho, steps[t]), k, r);
  });
  return scored(std::move(errors));
}

LeaveOneOut leave_one_out_ridge(const Spectrum& spectrum, std::span<const double> residuals,
                                std::span<const double> lambda_stars) {
  const std::vector<double> r = spectrum.coordinates(residuals, "residuals");
  if (lambda_stars.empty()) throw Error(ErrorCode::bad_input, "leave-one-out: there are no penalties to compare");
  Matrix64 errors(lambda_stars.size(), spectrum.size());
  for (size_t c = 0; c < lambda_stars.size(); ++c) {
    if (!(lambda_stars[c] > 0))
      throw Error(ErrorCode::bad_input, fmt::format("λ*: {} is not positive", lambda_stars[c]));
    std::vector<double> diagonal(spectrum.size());  // of λ*(K + λ*I)^{-1}
    for (size_t j = 0; j < spectrum.size(); ++j) {
      const double shrunk = 1 / (1 + spectrum.eigenvalues()[j] / lambda_stars[c]);
      const std::span<const double> u = spectrum.eigenvector(j);
      for (size_t i = 0; i < u.size(); ++i) {
        errors(c, i) += shrunk * r[j] * u[i];
        diagonal[i] += shrunk * u[i] * u[i];
      }
    }
    for (size_t i = 0; i < diagonal.size(); ++i) errors(c, i) /= diagonal[i];
  }
  return scored(std::move(errors));
}

}  // namespace hone::decide
