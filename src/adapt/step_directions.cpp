#include "adapt/step_directions.h"

#include <algorithm>
#include <cmath>

namespace hone {

// Singular vectors of A [|T|, m], A_ti = √λ_i q_T(λ_i) r_i, through AᵀA: examples are few, steps may be many.
StepDirections step_directions(const decide::Spectrum& spectrum, std::span<const double> residuals, double rho,
                               std::span<const double> steps, double tolerance, const CancelToken& cancel) {
  const std::span<const double> lambda = spectrum.eigenvalues();
  const size_t modes = lambda.size();
  decide::Matrix64 updates(steps.size(), modes), products(modes, modes);
  double longest = 0;
  for (size_t t = 0; t < steps.size(); ++t) {
    cancel.check();
    const std::vector<double> filter = decide::descent_filter(spectrum, rho, steps[t]);
    double squared_length = 0;
    std::vector<double> row(modes);
    for (size_t i = 0; i < modes; ++i) {
      updates(t, i) = lambda[i] > 0 ? filter[i] * residuals[i] : 0;
      row[i] = std::sqrt(lambda[i]) * updates(t, i);
      squared_length += row[i] * row[i];
    }
    for (size_t i = 0; i < modes; ++i)
      for (size_t j = 0; j < modes; ++j) products(i, j) += row[i] * row[j];
    longest = std::max(longest, squared_length);
  }
  const decide::Spectrum spread(products);
  size_t count = 0;
  while (count < modes && spread.eigenvalues()[count] > tolerance * tolerance * longest) ++count;
  StepDirections result{{}, decide::Matrix64(steps.size(), count)};
  for (size_t j = 0; j < count; ++j) {
    const double squared_length = spread.eigenvalues()[j];
    std::vector<double> direction(modes);
    for (size_t t = 0; t < steps.size(); ++t) {
      for (size_t i = 0; i < modes; ++i)
        result.coefficients(t, j) += std::sqrt(lambda[i]) * updates(t, i) * spread.eigenvector(j)[i];
      for (size_t i = 0; i < modes; ++i) direction[i] += result.coefficients(t, j) / squared_length * updates(t, i);
    }
    result.vectors.push_back(spectrum.combination(direction));
  }
  return result;
}

}  // namespace hone
