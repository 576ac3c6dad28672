#include <fmt/format.h>

#include <cmath>

#include "hone/directions.h"
#include "hone/steps.h"
#include "lab/gaussian_prompt.h"
#include "lab/gp_benchmark.h"

namespace hone::lab {
namespace {

using decide::Signal;
using decide::Spectrum;
using Numbers = std::vector<double>;

// The mean of what was added, and its standard error.
class Mean {
 public:
  void add(double value) {
    ++count_;
    const double delta = value - mean_;
    mean_ += delta / static_cast<double>(count_);
    squares_ += delta * (value - mean_);
  }
  double mean() const { return mean_; }
  double error() const {
    return count_ < 2 ? 0 : std::sqrt(squares_ / static_cast<double>(count_ - 1) / static_cast<double>(count_));
  }

 private:
  size_t count_ = 0;
  double mean_ = 0;
  double squares_ = 0;
};

Row row(std::string part, double setting, int64_t rank, std::string method, double steps, const Mean& value,
        double theory) {
  return {std::move(part), setting, rank, std::move(method), steps, value.mean(), value.error(), theory};
}

double squared(double x) { return x * x; }

GaussianPrompt prompt_of(const Json& config, RandomStream& random) {
  return draw_prompt(random, config.at("examples"), config.at("features"), config.at("decay"));
}

// The truth at the query is τφ(x)ᵀθ; on the same draw, the squared error beyond the Bayes rule's is the excess.
std::vector<Row> identity_rows(const Json& config, RandomStream& random, double snr) {
  const GaussianPrompt prompt = prompt_of(config, random);
  const Signal signal{snr, 1};
  const Numbers steps = config.at("identity").at("steps");
  const double rho = decide::step_size(prompt.spectrum, config.at("step"));
  const Numbers bayes = decide::bayes_filter(prompt.spectrum, signal.lambda_star());
  std::vector<Numbers> filters;
  for (const double t : steps) filters.push_back(decide::descent_filter(prompt.spectrum, rho, t));
  std::vector<Mean> excess(steps.size());
  const size_t draws = config.at("identity").at("draws");
  Numbers theta(prompt.query_feature.size());
  for (size_t draw = 0; draw < draws; ++draw) {
    double truth = 0;
    for (size_t j = 0; j < theta.size(); ++j) {
      theta[j] = std::sqrt(snr) * random.normal();
      truth += theta[j] * prompt.query_feature[j];
    }
    Numbers r = product(prompt.features, theta);
    for (double& residual : r) residual += random.normal();
    r = prompt.spectrum.coordinates(r, "r");
    const double least = squared(decide::correction(bayes, prompt.query, r) - truth);
    for (size_t t = 0; t < steps.size(); ++t)
      excess[t].add(squared(decide::correction(filters[t], prompt.query, r) - truth) - least);
  }
  std::vector<Row> rows;
  for (size_t t = 0; t < steps.size(); ++t)
    rows.push_back(row("identity", snr, static_cast<int64_t>(prompt.spectrum.rank()), "fixed", steps[t], excess[t],
                       decide::excess_risk(prompt.spectrum, prompt.query, signal, filters[t])));
  return rows;
}

// One kernel: squared distance of every method's correction to the Bayes rule's, on the same residuals.
void add_steps_rows(const Json& config, RandomStream& random, const GaussianPrompt& prompt, double snr,
                    std::vector<Row>& rows) {
  const Spectrum& spectrum = prompt.spectrum;
  const Signal signal{snr, 1};
  decide::StepOptions options;
  options.step = config.at("step");
  options.steps = config.at("steps").at("grid").get<Numbers>();
  const double rho = decide::step_size(spectrum, options.step);
  const Numbers bayes = decide::bayes_filter(spectrum, signal.lambda_star());
  std::vector<Numbers> filters;
  for (const double t : options.steps) filters.push_back(decide::descent_filter(spectrum, rho, t));

  const std::vector<std::string> selectors = {"evidence, fixed σ", "evidence, profiled σ", "Gibbs mixture",
                                              "fitted Bayes filter"};
  std::vector<Mean> fixed(filters.size()), selected(selectors.size()), chosen(selectors.size());
  const size_t draws = config.at("steps").at("draws");
  for (size_t draw = 0; draw < draws; ++draw) {
    const Numbers r = draw_residuals(random, spectrum, signal);
    const double best = decide::correction(bayes, prompt.query, r);
    Numbers distance(filters.size());
    for (size_t t = 0; t < filters.size(); ++t) {
      distance[t] = squared(decide::correction(filters[t], prompt.query, r) - best);
      fixed[t].add(distance[t]);
    }
    const decide::StepDecision decision =
        decide::decide_steps(spectrum, spectrum.combination(r), spectrum.combination(prompt.query), options);
    const decide::StepEvidence profiled(spectrum, r, rho, decide::Noise::profiled);
    const decide::StepPosterior posterior = decide::step_posterior(profiled, options.steps);
    const Numbers found = {distance[decision.posterior.best], distance[posterior.best],
                           squared(decision.mixture.correction - best), squared(decision.bayes.correction - best)};
    const Numbers taken = {decision.posterior.map_steps(), posterior.map_steps(), decision.posterior.mean_steps(), 0};
    for (size_t s = 0; s < selectors.size(); ++s) {
      selected[s].add(found[s]);
      chosen[s].add(taken[s]);
    }
  }
  const auto rank = static_cast<int64_t>(spectrum.rank());
  for (size_t t = 0; t < filters.size(); ++t)
    rows.push_back(row("steps", snr, rank, "fixed", options.steps[t], fixed[t],
                       decide::excess_risk(spectrum, prompt.query, signal, filters[t])));
  const double base = decide::excess_risk(spectrum, prompt.query, signal, Numbers(spectrum.size()));
  for (size_t s = 0; s < selectors.size(); ++s)
    rows.push_back(row("steps", snr, rank, selectors[s], chosen[s].mean(), selected[s], base));
}

std::vector<Row> steps_rows(const Json& config, RandomStream& random) {
  const GaussianPrompt prompt = prompt_of(config, random);
  std::vector<Row> rows;
  for (const double snr : config.at("snrs")) add_steps_rows(config, random, prompt, snr, rows);
  return rows;
}

// E[1/χ²_p] with noncentrality ν, p ≥ 3: Σ_k Poisson(k; ν/2)/(p + 2k − 2).
double mean_inverse_chi_squared(double p, double noncentrality) {
  const double half = noncentrality / 2, log_half = std::log(std::max(half, 1e-300));
  double sum = 0, log_poisson = -half;
  for (int k = 0; k <= 40 + 4 * static_cast<int>(half); ++k) {
    sum += std::exp(log_poisson) / (p + 2 * k - 2);
    log_poisson += log_half - std::log(k + 1.0);
  }
  return sum;
}

// Squared error at the prompt's points over rank · σ², σ² = 1, for a fixed f in range(K) of size ‖f‖² = strength ·
// rank.
std::vector<Row> james_stein_rows(const Json& config, RandomStream& random, size_t rank) {
  const GaussianPrompt prompt = draw_prompt(random, config.at("examples"), rank, 0);
  const Spectrum& spectrum = prompt.spectrum;
  const double p = static_cast<double>(rank), steps = config.at("james_stein").at("steps");
  const Numbers filter = decide::descent_filter(spectrum, decide::step_size(spectrum, config.at("step")), steps);
  const size_t draws = config.at("james_stein").at("draws");
  std::vector<Row> rows;
  for (const double strength : config.at("james_stein").at("strengths")) {
    Numbers f(rank);
    double norm = 0;
    for (double& coordinate : f) norm += squared(coordinate = random.normal());
    for (double& coordinate : f) coordinate *= std::sqrt(strength * p / norm);
    Mean descent, james_stein, difference;
    Numbers r(rank);
    for (size_t draw = 0; draw < draws; ++draw) {
      double length = 0;
      for (size_t i = 0; i < rank; ++i) length += squared(r[i] = f[i] + random.normal());
      const double shrink = 1 - (p - 2) / length;
      double errors[2] = {};
      for (size_t i = 0; i < rank; ++i) {
        errors[0] += squared(spectrum.eigenvalues()[i] * filter[i] * r[i] - f[i]);
        errors[1] += squared(shrink * r[i] - f[i]);
      }
      descent.add(errors[0] / p);
      james_stein.add(errors[1] / p);
      difference.add((errors[1] - errors[0]) / p);
    }
    const double gain = rank < 3 ? 0 : squared(p - 2) * mean_inverse_chi_squared(p, strength * p) / p;
    const auto whole = static_cast<int64_t>(rank);
    rows.push_back(row("james-stein", strength, whole, "descent", steps, descent, 1));
    rows.push_back(row("james-stein", strength, whole, "James-Stein", 0, james_stein, 1 - gain));
    rows.push_back(row("james-stein", strength, whole, "James-Stein minus descent", 0, difference, -gain));
  }
  return rows;
}

// The signal lives in two halves of the features, `share` of its variance in the first; descent moves the first half
// only
// ("subspace") or all features, weighted as the signal is ("all"). Mean over queries of the squared error in units of
// the signal's variance.
std::vector<Row> floor_rows(const Json& config, RandomStream& random) {
  const Json& floor = config.at("floor");
  const size_t n = floor.at("examples"), half = floor.at("features").get<size_t>() / 2;
  const double noise = 1 / floor.at("snr").get<double>();
  const GaussianPrompt first = draw_prompt(random, n, half, 0), second = draw_prompt(random, n, half, 0);
  const decide::Matrix64 kernels[2] = {gram(first.features), gram(second.features)};
  const Numbers steps = floor.at("grid");
  const size_t queries = floor.at("queries");
  std::vector<Row> rows;
  for (const double share : floor.at("shares")) {
    decide::BlockSum full{decide::Matrix64(n, n), Numbers(n)};
    for (size_t i = 0; i < n * n; ++i)
      full.kernel.values[i] = share * kernels[0].values[i] + (1 - share) * kernels[1].values[i];
    const Spectrum all(full.kernel);
    std::vector<Mean> risks[2] = {std::vector<Mean>(steps.size()), std::vector<Mean>(steps.size())};
    for (size_t query = 0; query < queries; ++query) {
      Numbers x[2] = {Numbers(half), Numbers(half)};
      double norms[2] = {};
      for (int s = 0; s < 2; ++s)
        for (double& coordinate : x[s])
          norms[s] += squared(coordinate = random.normal() / std::sqrt(static_cast<double>(half)));
      const Numbers k[2] = {product(first.features, x[0]), product(second.features, x[1])};
      for (size_t i = 0; i < n; ++i) full.query[i] = share * k[0][i] + (1 - share) * k[1][i];
      const double norm = share * norms[0] + (1 - share) * norms[1];
      const auto add_risks = [&](const Spectrum& spectrum, const Numbers& kernel_row, std::vector<Mean>& into) {
        const Numbers coordinates = spectrum.coordinates(kernel_row, "k_x");
        const double rho = decide::step_size(spectrum, config.at("step"));
        for (size_t t = 0; t < steps.size(); ++t) {
          Numbers weights = decide::descent_filter(spectrum, rho, steps[t]);
          for (size_t i = 0; i < n; ++i) weights[i] *= coordinates[i];
          into[t].add(decide::rule_risk(full, norm, noise, spectrum.combination(weights)));
        }
      };
      add_risks(first.spectrum, k[0], risks[0]);
      add_risks(all, full.query, risks[1]);
    }
    for (size_t t = 0; t < steps.size(); ++t) {
      rows.push_back(row("floor", share, static_cast<int64_t>(half), "subspace", steps[t], risks[0][t], 1 - share));
      rows.push_back(row("floor", share, static_cast<int64_t>(2 * half), "all", steps[t], risks[1][t], 0));
    }
  }
  return rows;
}

}  // namespace

GpTasks gp_tasks(const Json& config) {
  return {config.at("snrs").size(), config.at("steps").at("kernels"), config.at("james_stein").at("ranks").size(),
          config.at("floor").at("kernels")};
}

std::vector<std::string> gp_columns() {
  return {"part", "setting", "rank", "method", "steps", "value", "error", "theory"};
}

std::vector<Row> gp_rows(const Json& config, size_t task) {
  RandomStream random(config.at("seed"), fmt::format("gp-benchmark {}", task));
  const GpTasks tasks = gp_tasks(config);
  if (task < tasks.identity) return identity_rows(config, random, config.at("snrs").at(task));
  task -= tasks.identity;
  if (task < tasks.steps) return steps_rows(config, random);
  task -= tasks.steps;
  if (task < tasks.james_stein) return james_stein_rows(config, random, config.at("james_stein").at("ranks").at(task));
  return floor_rows(config, random);
}

}  // namespace hone::lab
