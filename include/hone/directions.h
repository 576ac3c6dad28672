// directions: which blocks (layer, matrix, head) to adapt, within a budget ([DTV]; the exact criterion is ours).
// Functions use the one thread pool: one thread calls them at a time.
#pragma once

#include <span>
#include <vector>

#include "hone/base.h"
#include "hone/spectrum.h"

namespace hone::decide {

// The kernels of B blocks over the same n examples and one query, as a backward pass leaves them: fp32, computed with
// in double. Views of the caller's memory. K = Σ_b K^(b), k_x = Σ_b k_x^(b).
struct BlockKernels {
  ConstMatrixView kernels;  // [B, n·n]: row b is K^(b), symmetric, row-major
  ConstMatrixView queries;  // [B, n]: row b is k_x^(b)

  size_t blocks() const { return kernels.rows; }
  size_t examples() const { return queries.cols; }
};

// K_S [n, n] and k_S [n] of a set S of blocks.
struct BlockSum {
  Matrix64 kernel;
  std::vector<double> query;
};
// All functions below throw Error{bad_input} for shapes that do not fit or a block that does not exist. They use all
// threads; the result does not depend on how many.
BlockSum sum_blocks(const BlockKernels& blocks);
BlockSum sum_blocks(const BlockKernels& blocks, std::span<const size_t> chosen);

// Scores against the whole kernel, one per block.
struct BlockScores {
  std::vector<double> trace;  // tr(K^(b) (K + s²I)^{-1}); highest first is Trace-TopK, lowest first Trace-BottomK
  std::vector<double> query;  // Query-Aware: k_x^(b)ᵀ (K + s²I)^{-1} k_x^(b)
};
// `full` is the whole kernel's spectrum. s² is the noise in the kernel's units (λ* = σ̂²/τ̂²; σ² alone presumes τ² = 1);
// s² = 0 means the pseudo-inverse, s² = +inf the scores' limit up to a factor, without the inverse. Throws
// Error{bad_input} for a negative s² or NaN.
BlockScores block_scores(const BlockKernels& blocks, const Spectrum& full, double noise);

// The `budget` highest (lowest) scores, best first; equal scores in the order of blocks. A budget above B takes all.
std::vector<size_t> top_blocks(std::span<const double> scores, size_t budget);
std::vector<size_t> bottom_blocks(std::span<const double> scores, size_t budget);
// Drawn without replacement from the stream (seed, "blocks").
std::vector<size_t> random_blocks(size_t blocks, size_t budget, uint64_t seed);
// layers[b] is block b's layer: blocks of the highest layer first, each layer's in order.
std::vector<size_t> last_layer_blocks(std::span<const int> layers, size_t budget);

// What forward selection found: `chosen` in order, and after each choice the value it was chosen for.
struct BlockPath {
  std::vector<size_t> chosen;
  std::vector<double> values;
  std::vector<size_t> steps;  // the T that each value belongs to
};

// Query-Aware greedy, the rule of [DTV]'s experiments: adds the block b that maximises (k_xᵀ q_T(K_S + K^(b)) r)² with
// k_x = k_S + k_x^(b). q_T(K)v is computed by its recurrence w ← w + ρ(v − Kw), T − 1 products and no
// eigendecomposition per candidate (from T = 12 n on one each). Ties go to the smallest index. `residuals` [n] are r.
// O(budget · B · min(T, 12 n) · n²). Throws Error{bad_input} unless 0 ≤ ρ < 1/λ_max(K), T > 0, and Error{cancelled}; so
// does exact_blocks.
BlockPath greedy_blocks(const BlockKernels& blocks, const Spectrum& full, std::span<const double> residuals, double rho,
                        size_t steps, size_t budget, const CancelToken& cancel = {});

// The expected squared error at the query, in units of τ², of the rule wᵀr when r = Jθ + noise, θ ~ N(0, I), noise s²:
//   κ_x − 2wᵀk_x + wᵀ(K + s²I)w,   κ_x = ‖∇_w B‖² over all candidate parameters, K and k_x over all blocks.
// With w = q_T(K_S)k_S it judges a set of blocks and T together, cross terms included. `full` is sum_blocks(blocks).
double rule_risk(const BlockSum& full, double query_norm, double noise, std::span<const double> weights);
// Forward selection by that risk: adds the block whose best T in 1 … most_steps gives the least risk; `values` are
// risks. O(budget · B · most_steps · n²).
BlockPath exact_blocks(const BlockKernels& blocks, const Spectrum& full, double query_norm, double noise, double rho,
                       size_t most_steps, size_t budget, const CancelToken& cancel = {});

}  // namespace hone::decide
