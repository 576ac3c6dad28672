#include "adapt/step_directions.h"

#include <algorithm>
#include <cmath>

namespace hone {

// Singular vectors of the matrix of √λ_i q_T(λ_i) r_i, through its Gram over T.
StepDirections step_directions(const decide::Spectrum& spectrum, std::span<const double> residuals, double rho,
                               std::span<const double> steps, double tolerance) {
  const std::span<const double> lambda = spectrum.eigenvalues();
  decide::Matrix64 updates(steps.size(), lambda.size());
  for (size_t t = 0; t < steps.size(); ++t) {
    const std::vector<double> filter = decide::descent_filter(spectrum, rho, steps[t]);
    for (size_t i = 0; i < lambda.size(); ++i) updates(t, i) = lambda[i] > 0 ? filter[i] * residuals[i] : 0;
  }
  decide::Matrix64 products(steps.size(), steps.size());
  for (size_t s = 0; s < steps.size(); ++s)
    for (size_t t = 0; t < steps.size(); ++t)
      for (size_t i = 0; i < lambda.size(); ++i) products(s, t) += lambda[i] * updates(s, i) * updates(t, i);
  const decide::Spectrum spread(products);
  size_t count = 0;
  double longest = 0;
  for (size_t t = 0; t < steps.size(); ++t) longest = std::max(longest, products(t, t));
  while (count < steps.size() && spread.eigenvalues()[count] > tolerance * tolerance * longest) ++count;
  StepDirections result{{}, decide::Matrix64(steps.size(), count)};
  for (size_t j = 0; j < count; ++j) {
    const double length = std::sqrt(spread.eigenvalues()[j]);
    std::vector<double> modes(lambda.size());
    for (size_t t = 0; t < steps.size(); ++t) {
      const double along = spread.eigenvector(j)[t];
      result.coefficients(t, j) = length * along;
      for (size_t i = 0; i < lambda.size(); ++i) modes[i] += along / length * updates(t, i);
    }
    result.vectors.push_back(spectrum.combination(modes));
  }
  return result;
}

}  // namespace hone
