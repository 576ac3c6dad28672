#include "adapt/few_shot_mixture.h"

#include <algorithm>
#include <numeric>

#include "hone/decide.h"

namespace hone {

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
