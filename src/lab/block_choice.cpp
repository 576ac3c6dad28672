#include "lab/block_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "base/random.h"
#include "hone/signal.h"

namespace hone::lab {
namespace {

constexpr std::array<std::string_view, 8> all_methods = {
    "Random", "Trace-TopK", "Trace-BottomK", "Query-Aware", "Query-Aware greedy", "Exact", "Last-layer", "All"};

// One prompt with everything that does not depend on the set of blocks.
struct Judge {
  decide::BlockKernels blocks;
  std::span<const double> residuals;
  double answer, truth, rho;

  // Adds the errors of a set after so many steps to `choice`'s entry `at`, `share` of each. The same blocks have the
  // same errors to the last bit, in whatever order they were chosen.
  void add(std::vector<size_t> chosen, size_t steps, double share, MethodErrors& choice, size_t at) const {
    std::ranges::sort(chosen);
    const decide::BlockSum sum = decide::sum_blocks(blocks, chosen);
    const decide::Spectrum spectrum(sum.kernel);
    const std::vector<double> r = spectrum.coordinates(residuals, "residuals");
    const std::vector<double> filter = decide::descent_filter(spectrum, rho, static_cast<double>(steps));
    const double moved = decide::correction(filter, spectrum.coordinates(sum.query, "query"), r);
    double left = 0;
    for (size_t i = 0; i < r.size(); ++i) left += std::pow(r[i] * (1 - spectrum.eigenvalues()[i] * filter[i]), 2);
    choice.query[at] += share * std::pow(answer + moved - truth, 2);
    choice.fit[at] += share * left / static_cast<double>(r.size());
  }
};

std::vector<size_t> first(const std::vector<size_t>& order, size_t budget) {
  return {order.begin(), order.begin() + static_cast<ptrdiff_t>(std::min(budget, order.size()))};
}

}  // namespace

std::span<const std::string_view> block_methods() { return all_methods; }

std::vector<MethodErrors> compare_block_methods(const PromptKernels& kernels, std::span<const int> layers,
                                                std::span<const double> residuals, double truth,
                                                const BlockChoiceOptions& options) {
  const decide::BlockKernels blocks = kernels.blocks();
  if (layers.size() != blocks.blocks())
    throw Error(ErrorCode::bad_input, fmt::format("{} layers for {} blocks", layers.size(), blocks.blocks()));
  const size_t all = blocks.blocks();
  size_t budget = 0;
  for (const size_t b : options.budgets) budget = std::max(budget, std::min(b, all));
  const decide::BlockSum sum = decide::sum_blocks(blocks);
  const decide::Spectrum full(sum.kernel);
  const Judge judge{blocks, residuals, kernels.answer, truth, decide::step_size(full, options.c)};

  const double noise = std::inner_product(residuals.begin(), residuals.end(), residuals.begin(), 0.0) /
                       static_cast<double>(residuals.size());
  const double fitted = decide::fit_signal(full, full.coordinates(residuals, "residuals")).lambda_star();
  const decide::BlockScores scores = decide::block_scores(blocks, full, noise);
  const decide::BlockPath exact = decide::exact_blocks(
      blocks, full, kernels.query_norm, std::isfinite(fitted) ? fitted : noise, judge.rho, options.steps, budget);
  const std::vector<size_t> orders[] = {
      decide::top_blocks(scores.trace, budget),
      decide::bottom_blocks(scores.trace, budget),
      decide::top_blocks(scores.query, budget),
      decide::greedy_blocks(blocks, full, residuals, judge.rho, options.steps, budget).chosen,
      exact.chosen,
      decide::last_layer_blocks(layers, budget),
      decide::top_blocks(std::vector<double>(all, 0), all),
  };

  std::vector<MethodErrors> choices;
  choices.reserve(all_methods.size());
  for (const std::string_view method : all_methods)
    choices.push_back({std::string(method), std::vector<double>(options.budgets.size()),
                       std::vector<double>(options.budgets.size())});
  for (size_t at = 0; at < options.budgets.size(); ++at) {
    const size_t draws = options.budgets[at] < all ? options.random_draws : 1;  // there is one way to draw all
    for (size_t draw = 0; draw < draws; ++draw) {
      const uint64_t seed = RandomStream(options.seed, fmt::format("{}/{}", options.stream, draw)).next();
      judge.add(decide::random_blocks(all, options.budgets[at], seed), options.steps, 1 / static_cast<double>(draws),
                choices[0], at);
    }
    for (size_t m = 1; m < all_methods.size(); ++m) {
      const std::vector<size_t> chosen = first(orders[m - 1], all_methods[m] == "All" ? all : options.budgets[at]);
      const bool own_steps = all_methods[m] == "Exact" && !chosen.empty();
      judge.add(chosen, own_steps ? exact.steps[chosen.size() - 1] : options.steps, 1, choices[m], at);
    }
  }
  return choices;
}

}  // namespace hone::lab
