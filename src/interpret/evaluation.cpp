// How well an autoencoder describes activations.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "interpret/encode.h"

namespace hone {

SaeEvaluation evaluate(const Sae& sae, ActivationBatches& source, size_t rows, double dead_below, const Watch& watch) {
  if (!(dead_below >= 0 && dead_below <= 1))
    throw Error(ErrorCode::bad_input, fmt::format("dead below: {}; give a share from 0 to 1", dead_below));
  const size_t total = rows == 0 ? source.rows() : std::min(rows, source.rows());
  SaeEvaluation result{.rows = total, .firings = std::vector<uint64_t>(sae.config.features)};
  const Matrix directions = sae.directions();
  std::vector<double> sum(sae.config.inputs);
  double square = 0, error = 0, kept = 0;
  for (size_t first = 0; first < total; first += rows_at_once) {
    watch.report("evaluating", first, total);
    Matrix raw = Matrix::uninitialized(std::min(rows_at_once, total - first), source.width());
    source.read_in_order(first, raw, watch.cancel);
    const Matrix x = sae.inputs(raw);
    encode_in_blocks(sae, x, [&](size_t start, const SparseCodes& codes) {
      const Matrix again = sae.decode(codes, directions);
      for (size_t i = 0; i < codes.rows(); ++i) {
        for (const uint32_t feature : codes.row_features(i)) ++result.firings[feature];
        kept += codes.counts[i];
        for (size_t j = 0; j < x.cols(); ++j) {
          const double value = x.row(start + i)[j], difference = value - again.row(i)[j];
          sum[j] += value;
          square += value * value;
          error += difference * difference;
        }
      }
    });
  }
  const auto n = static_cast<double>(total);
  double variance = square;  // Σ‖x − x̄‖² = Σ‖x‖² − n ‖x̄‖²
  for (const double value : sum) variance -= value * value / n;
  result.loss = error / (n * static_cast<double>(sae.config.inputs));
  // Rows that are all alike have no variance to explain.
  result.explained_variance = variance > 1e-12 * square ? 1 - error / variance : 0;
  result.l0 = kept / n;
  const auto dead = std::ranges::count_if(
      result.firings, [&](uint64_t fired) { return fired == 0 || static_cast<double>(fired) < dead_below * n; });
  result.dead_share = static_cast<double>(dead) / static_cast<double>(sae.config.features);
  return result;
}

}  // namespace hone
