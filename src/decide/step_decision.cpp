// One prompt's decision: every number of the report, from one spectrum.
#include <algorithm>

#include "decide/checks.h"
#include "hone/steps.h"

namespace hone::decide {
namespace {

StepChoice choice(const Spectrum& spectrum, const StepDecision& decision, std::vector<double> filter) {
  StepChoice choice;
  choice.correction = correction(filter, decision.query, decision.residuals);
  choice.gap = bayes_gap(spectrum, decision.query, decision.signal, filter);
  choice.filter = std::move(filter);
  return choice;
}

}  // namespace

StepDecision decide_steps(const Spectrum& spectrum, std::span<const double> residuals, std::span<const double> query,
                          const StepOptions& options) {
  StepDecision decision;
  decision.rho = step_size(spectrum, options.step);
  decision.residuals = spectrum.coordinates(residuals, "residuals");
  decision.query = spectrum.coordinates(query, "query");
  const StepEvidence evidence(spectrum, decision.residuals, decision.rho, options.noise);
  decision.posterior = step_posterior(evidence, options.steps, options.prior, options.beta);
  decision.real_steps = evidence.best_steps(std::max(options.real_limit, std::ranges::max(options.steps)));
  decision.signal = fit_signal(spectrum, decision.residuals);
  decision.map = choice(spectrum, decision, descent_filter(spectrum, decision.rho, decision.posterior.map_steps()));
  decision.mixture = choice(spectrum, decision, mixture_filter(spectrum, decision.rho, decision.posterior));
  decision.real = choice(spectrum, decision, descent_filter(spectrum, decision.rho, decision.real_steps));
  decision.bayes = choice(spectrum, decision, bayes_filter(spectrum, decision.signal.lambda_star()));
  check_probability("δ", options.delta);
  if (options.noise == Noise::fixed && evidence.noise_variance(0) > 0) {
    const double variance = certificate_variance(evidence, spectrum, decision.signal);
    decision.map_certificate = certify_map(evidence, decision.posterior, variance, options.delta, false);
    if (options.beta > 0)
      decision.mixture_certificate = certify_mixture(evidence, decision.posterior, variance, options.delta, false);
  }
  return decision;
}

}  // namespace hone::decide
