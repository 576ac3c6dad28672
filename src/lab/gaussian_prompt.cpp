#include "lab/gaussian_prompt.h"

#include <cmath>
#include <numeric>

namespace hone::lab {

using decide::Matrix64;

GaussianPrompt draw_prompt(RandomStream& random, size_t n, size_t d, double decay) {
  std::vector<double> deviation(d);
  double total = 0;
  for (size_t j = 0; j < d; ++j) total += std::pow(static_cast<double>(j + 1), -decay);
  for (size_t j = 0; j < d; ++j) deviation[j] = std::sqrt(std::pow(static_cast<double>(j + 1), -decay) / total);
  Matrix64 features(n, d);
  std::vector<double> query(d);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < d; ++j) features(i, j) = deviation[j] * random.normal();
  for (size_t j = 0; j < d; ++j) query[j] = deviation[j] * random.normal();
  decide::Spectrum spectrum(gram(features));
  std::vector<double> coordinates = spectrum.coordinates(product(features, query), "k_x");
  return {std::move(features), std::move(query), std::move(spectrum), std::move(coordinates)};
}

Matrix64 gram(const Matrix64& features) {
  Matrix64 kernel(features.rows, features.rows);
  for (size_t i = 0; i < features.rows; ++i)
    for (size_t j = 0; j <= i; ++j) {
      const auto a = features.row(i), b = features.row(j);
      kernel(i, j) = kernel(j, i) = std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
    }
  return kernel;
}

std::vector<double> product(const Matrix64& features, std::span<const double> feature) {
  std::vector<double> values(features.rows);
  for (size_t i = 0; i < features.rows; ++i) {
    const auto row = features.row(i);
    values[i] = std::inner_product(row.begin(), row.end(), feature.begin(), 0.0);
  }
  return values;
}

std::vector<double> draw_residuals(RandomStream& random, const decide::Spectrum& spectrum,
                                   const decide::Signal& signal) {
  std::vector<double> residuals(spectrum.size());
  for (size_t i = 0; i < residuals.size(); ++i)
    residuals[i] =
        random.normal() * std::sqrt(signal.signal_variance * spectrum.eigenvalues()[i] + signal.noise_variance);
  return residuals;
}

}  // namespace hone::lab
