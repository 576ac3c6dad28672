// Gradient descent, gradient flow and Bayes as functions of an eigenvalue. Written with expm1 and log1p so that they
// keep their precision as λ → 0, where only λ = 0 itself is a special case.
#include "decide/checks.h"

namespace hone::decide {
namespace {

template <class Filter>
std::vector<double> at_eigenvalues(const Spectrum& spectrum, const Filter& filter) {
  std::vector<double> values;
  values.reserve(spectrum.size());
  for (const double lambda : spectrum.eigenvalues()) values.push_back(filter(lambda));
  return values;
}

}  // namespace

double step_size(const Spectrum& spectrum, double c) {
  if (!(c > 0 && c < 1))
    throw Error(ErrorCode::bad_input, fmt::format("step: c = {} is not between 0 and 1; ρ is c over λ_max", c));
  return spectrum.largest() > 0 ? c / spectrum.largest() : 0;
}

double descent_fitted(double lambda, double rho, double steps) {
  return steps == 0 ? 0 : -std::expm1(steps * std::log1p(-rho * lambda));
}

double descent_filter(double lambda, double rho, double steps) {
  return lambda == 0 ? rho * steps : descent_fitted(lambda, rho, steps) / lambda;
}

double flow_filter(double lambda, double time) { return lambda == 0 ? time : -std::expm1(-time * lambda) / lambda; }

double bayes_filter(double lambda, double lambda_star) {
  return lambda + lambda_star == 0 ? 0 : 1 / (lambda + lambda_star);
}

double ideal_time(double lambda, double lambda_star) {
  return lambda == 0 ? 1 / lambda_star : std::log1p(lambda / lambda_star) / lambda;
}

std::vector<double> descent_filter(const Spectrum& spectrum, double rho, double steps) {
  check_step_size(spectrum, rho);
  check_steps(steps);
  return at_eigenvalues(spectrum, [&](double lambda) { return descent_filter(lambda, rho, steps); });
}

std::vector<double> bayes_filter(const Spectrum& spectrum, double lambda_star) {
  if (!(lambda_star >= 0))
    throw Error(ErrorCode::bad_input, fmt::format("λ*: {} is not a ratio of variances", lambda_star));
  return at_eigenvalues(spectrum, [&](double lambda) { return bayes_filter(lambda, lambda_star); });
}

double correction(std::span<const double> filter, std::span<const double> query, std::span<const double> residuals) {
  if (filter.size() != query.size() || filter.size() != residuals.size())
    throw Error(ErrorCode::bad_input, fmt::format("correction: a filter of {} values, a query of {}, residuals of {}",
                                                  filter.size(), query.size(), residuals.size()));
  double sum = 0;
  for (size_t i = 0; i < filter.size(); ++i) sum += query[i] * filter[i] * residuals[i];
  return sum;
}

}  // namespace hone::decide
