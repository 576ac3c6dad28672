// Sums of blocks, their scores, and choices by score.
#include "decide/blocks.h"

#include <algorithm>
#include <numeric>

#include "base/parallel.h"
#include "base/random.h"
#include "decide/block_products.h"
#include "decide/checks.h"

namespace hone::decide {
namespace {

constexpr size_t entries_per_task = 1 << 16;  // below this, another thread costs more than it saves

template <class Before>
std::vector<size_t> first_blocks(size_t blocks, size_t budget, const Before& before) {
  std::vector<size_t> order(blocks);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), before);
  order.resize(std::min(budget, blocks));
  return order;
}

}  // namespace

void check_blocks(const BlockKernels& blocks) {
  const size_t n = blocks.examples();
  if (blocks.kernels.rows == 0 || n == 0)
    throw Error(ErrorCode::bad_input, "blocks: there are none, or no examples; give at least one of each");
  if (blocks.queries.rows != blocks.kernels.rows || blocks.kernels.cols != n * n)
    throw Error(ErrorCode::bad_input,
                fmt::format("blocks: kernels are {} x {}, queries {} x {}; B x n² and B x n are needed",
                            blocks.kernels.rows, blocks.kernels.cols, blocks.queries.rows, n));
}

void check_noise(double noise) {
  if (!(noise >= 0)) throw Error(ErrorCode::bad_input, fmt::format("s²: {} is not a variance", noise));
}

BlockSum sum_blocks(const BlockKernels& blocks) {
  std::vector<size_t> all(blocks.blocks());
  std::iota(all.begin(), all.end(), size_t{0});
  return sum_blocks(blocks, all);
}

BlockSum sum_blocks(const BlockKernels& blocks, std::span<const size_t> chosen) {
  check_blocks(blocks);
  for (const size_t b : chosen)
    if (b >= blocks.blocks())
      throw Error(ErrorCode::bad_input, fmt::format("blocks: block {} of {} does not exist", b, blocks.blocks()));
  const size_t n = blocks.examples();
  BlockSum sum{Matrix64(n, n), std::vector<double>(n)};
  const size_t grain = 1 + entries_per_task / std::max<size_t>(chosen.size(), 1);
  parallel_ranges(n * n, grain, [&](size_t begin, size_t end) {
    for (const size_t b : chosen)
      add(blocks.kernels.row(b).data() + begin, sum.kernel.values.data() + begin, end - begin);
  });
  for (const size_t b : chosen) add(blocks.queries.row(b).data(), sum.query.data(), n);
  return sum;
}

BlockScores block_scores(const BlockKernels& blocks, const Spectrum& full, double noise) {
  check_blocks(blocks);
  const size_t n = blocks.examples();
  check_size("kernel of all blocks", full.size(), n);
  check_noise(noise);
  const Matrix64 inverse = full.function(std::isinf(noise) ? std::vector<double>(n, 1) : bayes_filter(full, noise));
  BlockScores scores{std::vector<double>(blocks.blocks()), std::vector<double>(blocks.blocks())};
  parallel_ranges(blocks.blocks(), 1 + entries_per_task / (n * n), [&](size_t begin, size_t end) {
    std::vector<double> k(n), weighted(n);
    for (size_t b = begin; b < end; ++b) {
      scores.trace[b] = dot(blocks.kernels.row(b).data(), inverse.values.data(), n * n);
      std::ranges::copy(blocks.queries.row(b), k.begin());
      symmetric_product(inverse.values.data(), k.data(), n, weighted.data());
      scores.query[b] = dot(k.data(), weighted.data(), n);
    }
  });
  return scores;
}

std::vector<size_t> top_blocks(std::span<const double> scores, size_t budget) {
  check_finite("scores", scores);
  return first_blocks(scores.size(), budget, [&](size_t a, size_t b) { return scores[a] > scores[b]; });
}

std::vector<size_t> bottom_blocks(std::span<const double> scores, size_t budget) {
  check_finite("scores", scores);
  return first_blocks(scores.size(), budget, [&](size_t a, size_t b) { return scores[a] < scores[b]; });
}

std::vector<size_t> random_blocks(size_t blocks, size_t budget, uint64_t seed) {
  return RandomStream(seed, "blocks").draw(blocks, std::min(budget, blocks));
}

std::vector<size_t> last_layer_blocks(std::span<const int> layers, size_t budget) {
  return first_blocks(layers.size(), budget, [&](size_t a, size_t b) { return layers[a] > layers[b]; });
}

}  // namespace hone::decide
