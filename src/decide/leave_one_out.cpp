#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "decide/block_products.h"
#include "decide/checks.h"
#include "decide/eigen.h"
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

// What leave_one_out_descent is given.
struct Descent {
  const Matrix64& kernel;
  std::span<const double> residuals;
  double rho;
  std::span<const double> steps;
  size_t outputs;
  const CancelToken& cancel;

  size_t examples() const { return kernel.rows / outputs; }
};

// Descent itself. Column i of `weights` are those of the rows that example i is left: w ← w + ρ(r − Kw) in these.
Matrix64 errors_by_products(const Descent& d) {
  constexpr size_t examples_at_once = 16;
  const size_t n = d.examples(), outputs = d.outputs;
  const double last = *std::ranges::max_element(d.steps);
  Matrix64 errors(d.steps.size(), d.kernel.rows);
  parallel_for((n + examples_at_once - 1) / examples_at_once, [&](size_t part) {
    const size_t first = part * examples_at_once, count = std::min(examples_at_once, n - first);
    Eigen::MatrixXd weights = Eigen::MatrixXd::Zero(index(d.kernel.rows), index(count)), predicted = weights;
    for (double t = 0;; ++t) {
      d.cancel.check();
      for (size_t s = 0; s < d.steps.size(); ++s) {
        if (d.steps[s] != t) continue;
        for (size_t row = first * outputs; row < (first + count) * outputs; ++row)
          errors(s, row) = d.residuals[row] - predicted(index(row), index(row / outputs - first));
      }
      if (t == last) break;
      for (size_t i = 0; i < count; ++i) {
        weights.col(index(i)) += d.rho * (map(d.residuals) - predicted.col(index(i)));
        weights.col(index(i)).segment(index((first + i) * outputs), index(outputs)).setZero();
      }
      predicted.noalias() = map(d.kernel) * weights;
    }
  });
  return errors;
}

Matrix64 errors_by_spectra(const Descent& d) {
  Matrix64 errors(d.steps.size(), d.kernel.rows);
  parallel_for(d.examples(), [&](size_t i) {
    d.cancel.check();
    std::vector<size_t> own, others;
    for (size_t row = 0; row < d.kernel.rows; ++row) (row / d.outputs == i ? own : others).push_back(row);
    for (size_t t = 0; t < d.steps.size(); ++t)
      for (const size_t row : own) errors(t, row) = d.residuals[row];
    if (others.empty()) return;
    const auto of_others = [&](std::span<const double> values) {
      std::vector<double> picked(others.size());
      std::ranges::transform(others, picked.begin(), [&](size_t row) { return values[row]; });
      return picked;
    };
    Matrix64 kernel(others.size(), others.size());
    for (size_t a = 0; a < others.size(); ++a)
      std::ranges::copy(of_others(d.kernel.row(others[a])), kernel.row(a).begin());
    // What is left of a kernel that was accepted is accepted, however much smaller its largest eigenvalue is.
    const Spectrum spectrum(kernel, std::numeric_limits<double>::infinity());
    const std::vector<double> r = spectrum.coordinates(of_others(d.residuals), "residuals");
    std::vector<std::vector<double>> filters;
    filters.reserve(d.steps.size());
    for (const double t : d.steps) filters.push_back(descent_filter(spectrum, d.rho, t));
    for (const size_t row : own) {
      const std::vector<double> k = spectrum.coordinates(of_others(d.kernel.row(row)), "kernel");
      for (size_t t = 0; t < d.steps.size(); ++t) errors(t, row) -= correction(filters[t], k, r);
    }
  });
  return errors;
}

}  // namespace

LeaveOneOut leave_one_out_descent(const Matrix64& kernel, const Spectrum& spectrum, std::span<const double> residuals,
                                  double rho, std::span<const double> steps, size_t outputs,
                                  const CancelToken& cancel) {
  check_step_size(spectrum, rho);
  check_size("kernel: rows", kernel.rows, spectrum.size());
  check_size("kernel", kernel.values.size(), spectrum.size() * spectrum.size());
  check_finite("kernel", kernel.values);
  check_size("residuals", residuals.size(), kernel.rows);
  check_finite("residuals", residuals);
  if (outputs == 0 || kernel.rows % outputs != 0)
    throw Error(ErrorCode::bad_input,
                fmt::format("leave-one-out: {} rows are no examples of {} outputs", kernel.rows, outputs));
  if (steps.empty()) throw Error(ErrorCode::bad_input, "leave-one-out: there are no numbers of steps to compare");
  for (const double t : steps) check_steps(t);
  const double most = static_cast<double>(products_of_a_spectrum * kernel.rows);
  const Descent descent{kernel, residuals, rho, steps, outputs, cancel};
  const bool by_products = std::ranges::all_of(steps, [&](double t) { return t <= most && t == std::floor(t); });
  return scored(by_products ? errors_by_products(descent) : errors_by_spectra(descent));
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
