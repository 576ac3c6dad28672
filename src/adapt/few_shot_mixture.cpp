#include "adapt/few_shot_mixture.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/parallel.h"
#include "hone/decide.h"

namespace hone {

decide::Matrix64 leave_out_corrections(const decide::Matrix64& kernel, std::span<const double> residuals,
                                       size_t outputs, double rho, std::span<const double> steps,
                                       const CancelToken& cancel) {
  const size_t m = residuals.size(), rest = m - outputs;
  decide::Matrix64 corrections(steps.size(), m);
  if (rest == 0) return corrections;
  parallel_for(m / outputs, [&](size_t i) {
    cancel.check();
    std::vector<size_t> others;
    for (size_t a = 0; a < m; ++a)
      if (a / outputs != i) others.push_back(a);
    decide::Matrix64 of_others(rest, rest);
    std::vector<double> r(rest), k(rest);
    for (size_t a = 0; a < rest; ++a) {
      r[a] = residuals[others[a]];
      for (size_t b = 0; b < rest; ++b) of_others(a, b) = kernel(others[a], others[b]);
    }
    // The whole kernel was accepted; what is left of it is, however much smaller its largest eigenvalue.
    const decide::Spectrum spectrum(of_others, std::numeric_limits<double>::infinity());
    const std::vector<double> residual_modes = spectrum.coordinates(r, "residuals");
    std::vector<std::vector<double>> query_modes;
    for (size_t o = 0; o < outputs; ++o) {
      for (size_t a = 0; a < rest; ++a) k[a] = kernel(i * outputs + o, others[a]);
      query_modes.push_back(spectrum.coordinates(k, "kernel"));
    }
    for (size_t t = 0; t < steps.size(); ++t) {
      const std::vector<double> filter = decide::descent_filter(spectrum, rho, steps[t]);
      for (size_t o = 0; o < outputs; ++o)
        corrections(t, i * outputs + o) = decide::correction(filter, query_modes[o], residual_modes);
    }
  });
  return corrections;
}

std::vector<double> weigh_steps(std::span<const double> trusted, const decide::Matrix64& log_p, double floor) {
  constexpr double negligible = 1e-12;
  std::vector<size_t> experts = {0};
  for (size_t t = 1; t < trusted.size(); ++t)
    if (trusted[t] > negligible) experts.push_back(t);
  std::vector<double> prior;
  prior.reserve(experts.size());
  for (const size_t t : experts) prior.push_back((t == 0 ? 1 + trusted[0] : trusted[t]) / 2);
  const double sum = std::accumulate(prior.begin(), prior.end(), 0.0);
  for (double& p : prior) p /= sum;
  decide::Mixture mixture(std::move(prior), decide::Sharing::bayes, floor);
  for (size_t i = 0; i < log_p.cols; ++i) {
    std::vector<double> of_experts;
    of_experts.reserve(experts.size());
    for (const size_t t : experts) of_experts.push_back(log_p(t, i));
    mixture.update(of_experts);
  }
  std::vector<double> weights(trusted.size());
  const std::vector<double> found = mixture.weights();
  for (size_t e = 0; e < experts.size(); ++e) weights[experts[e]] = found[e];
  return weights;
}

}  // namespace hone
