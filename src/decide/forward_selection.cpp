// Choosing blocks one by one: each candidate is judged by the filter's weights w = q_T(K)k with itself added, computed
// by T − 1 products, or in K's eigenvectors where one T is asked for that costs more. What is added stays.
#include <functional>
#include <limits>

#include "base/parallel.h"
#include "decide/block_products.h"
#include "decide/blocks.h"
#include "decide/checks.h"

namespace hone::decide {
namespace {

constexpr size_t steps_between_checks = 256;  // for a cancelled token

struct Judgement {
  double value = 0;
  size_t steps = 0;
};

// w_t = q_t(K)k for t = 1 … steps, each handed to visit(t, w_t): w_1 = ρk, w_{t+1} = w_t + ρ(k − K w_t).
template <class Visit>
void descend(const BlockSum& sum, double rho, size_t steps, const Visit& visit) {
  const size_t n = sum.query.size();
  std::vector<double> w(n), kw(n);
  for (size_t t = 1; t <= steps; ++t) {
    if (t > 1) symmetric_product(sum.kernel.values.data(), w.data(), n, kw.data());
    for (size_t i = 0; i < n; ++i) w[i] += rho * (sum.query[i] - kw[i]);
    visit(t, w);
  }
}

// k_xᵀ q_T(K) r in K's eigenvectors. What rounding left below 0 in a sum of a few blocks is clipped, whatever its size.
double correction_after(const BlockSum& sum, std::span<const double> residuals, double rho, size_t steps) {
  const Spectrum spectrum(sum.kernel, std::numeric_limits<double>::max());
  return correction(descent_filter(spectrum, rho, static_cast<double>(steps)), spectrum.coordinates(sum.query, "query"),
                    spectrum.coordinates(residuals, "residuals"));
}

// Adds the block with the best judgement, ties to the smallest index, until the budget is spent.
template <class Judge, class Better>
BlockPath select(const BlockKernels& blocks, size_t budget, const Judge& judge, const Better& better,
                 const CancelToken& cancel) {
  BlockSum current = sum_blocks(blocks, {});
  std::vector<size_t> left(blocks.blocks());
  for (size_t b = 0; b < left.size(); ++b) left[b] = b;
  BlockPath path;
  while (path.chosen.size() < budget && !left.empty()) {
    std::vector<Judgement> judgements(left.size());
    parallel_for(left.size(), [&](size_t c) {
      cancel.check();
      BlockSum with = current;
      add(blocks.kernels.row(left[c]).data(), with.kernel.values.data(), with.kernel.values.size());
      add(blocks.queries.row(left[c]).data(), with.query.data(), with.query.size());
      judgements[c] = judge(with);
    });
    size_t best = 0;
    for (size_t c = 1; c < left.size(); ++c)
      if (better(judgements[c].value, judgements[best].value)) best = c;
    const size_t block = left[best];
    add(blocks.kernels.row(block).data(), current.kernel.values.data(), current.kernel.values.size());
    add(blocks.queries.row(block).data(), current.query.data(), current.query.size());
    path.chosen.push_back(block);
    path.values.push_back(judgements[best].value);
    path.steps.push_back(judgements[best].steps);
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(best));
  }
  return path;
}

void check_descent(const BlockKernels& blocks, const Spectrum& full, double rho, size_t steps) {
  check_blocks(blocks);
  check_size("kernel of all blocks", full.size(), blocks.examples());
  check_step_size(full, rho);
  check_finite("query", sum_blocks(blocks).query);
  if (steps == 0) throw Error(ErrorCode::bad_input, "steps: it is 0; blocks are judged after at least one step");
}

}  // namespace

BlockPath greedy_blocks(const BlockKernels& blocks, const Spectrum& full, std::span<const double> residuals, double rho,
                        size_t steps, size_t budget, const CancelToken& cancel) {
  check_descent(blocks, full, rho, steps);
  check_size("residuals", residuals.size(), blocks.examples());
  check_finite("residuals", residuals);
  const bool by_products = steps < products_of_a_spectrum * residuals.size();
  const auto judge = [&](const BlockSum& sum) {
    double value = 0;
    if (by_products)
      descend(sum, rho, steps, [&](size_t t, const std::vector<double>& w) {
        if (t == steps) value = dot(w.data(), residuals.data(), w.size());
      });
    else
      value = correction_after(sum, residuals, rho, steps);
    return Judgement{value * value, steps};
  };
  return select(blocks, budget, judge, std::greater<>(), cancel);
}

double rule_risk(const BlockSum& full, double query_norm, double noise, std::span<const double> weights) {
  const size_t n = full.query.size();
  check_size("weights", weights.size(), n);
  check_size("kernel of all blocks", full.kernel.values.size(), n * n);
  std::vector<double> kw(n);
  symmetric_product(full.kernel.values.data(), weights.data(), n, kw.data());
  return query_norm - 2 * dot(weights.data(), full.query.data(), n) + dot(weights.data(), kw.data(), n) +
         noise * dot(weights.data(), weights.data(), n);
}

BlockPath exact_blocks(const BlockKernels& blocks, const Spectrum& full, double query_norm, double noise, double rho,
                       size_t most_steps, size_t budget, const CancelToken& cancel) {
  check_descent(blocks, full, rho, most_steps);
  check_variance("s²", noise);
  check_variance("κ_x", query_norm);
  const BlockSum whole = sum_blocks(blocks);
  const auto judge = [&](const BlockSum& sum) {
    Judgement judgement{std::numeric_limits<double>::infinity(), 0};
    descend(sum, rho, most_steps, [&](size_t t, const std::vector<double>& w) {
      if (t % steps_between_checks == 0) cancel.check();
      const double risk = rule_risk(whole, query_norm, noise, w);
      if (risk < judgement.value) judgement = {risk, t};
    });
    return judgement;
  };
  return select(blocks, budget, judge, std::less<>(), cancel);
}

}  // namespace hone::decide
