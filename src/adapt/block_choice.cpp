#include "adapt/block_choice.h"

#include <algorithm>
#include <numeric>

namespace hone {
namespace {

std::vector<size_t> chosen(const BlockCandidates& c, const decide::BlockScores& scores, const FewShotOptions& options,
                           const CancelToken& cancel) {
  using Subspace = FewShotOptions::Subspace;
  const size_t budget = std::min(options.budget, c.ids.size());
  // Without a signal, the noise is so large that the criterion sees the kernel's scale no more.
  const double finite_noise = std::min(c.noise, 1e8 * c.full.largest());
  switch (options.subspace) {
    case Subspace::query_aware: return decide::top_blocks(scores.query, budget);
    case Subspace::trace: return decide::top_blocks(scores.trace, budget);
    case Subspace::random: return decide::random_blocks(c.ids.size(), budget, options.seed);
    case Subspace::greedy: {
      constexpr size_t published_steps = 8;
      const bool fixed = options.steps == FewShotOptions::Steps::fixed && options.fixed_steps > 0;
      const double rho = decide::step_size(c.full, options.step);
      return decide::greedy_blocks(c.kernels, c.full, c.residuals, rho, fixed ? options.fixed_steps : published_steps,
                                   budget, cancel)
          .chosen;
    }
    case Subspace::exact: {
      const double rho = decide::step_size(c.full, options.step);
      const size_t most_steps = std::max<size_t>(1, options.max_steps);
      return decide::exact_blocks(c.kernels, c.full, c.query_norm, finite_noise, rho, most_steps, budget, cancel)
          .chosen;
    }
    case Subspace::last_layer: {
      std::vector<int> layers;
      for (const BlockId id : c.ids) layers.push_back(id.matrix.layer);
      return decide::last_layer_blocks(layers, budget);
    }
    case Subspace::all: break;
  }
  std::vector<size_t> all(c.ids.size());
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

}  // namespace

std::vector<BlockChoice> choose_blocks(const BlockCandidates& candidates, const FewShotOptions& options,
                                       const CancelToken& cancel) {
  const decide::BlockScores scores = decide::block_scores(candidates.kernels, candidates.full, candidates.noise);
  std::vector<BlockChoice> choices;
  for (size_t b = 0; b < candidates.ids.size(); ++b)
    choices.push_back({candidates.ids[b], scores.trace[b], scores.query[b], false});
  for (const size_t b : chosen(candidates, scores, options, cancel)) choices[b].chosen = true;
  return choices;
}

}  // namespace hone
