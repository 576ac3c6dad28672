#include <fmt/format.h>

#include "model/model_impl.h"

namespace hone {

PackedBatch::PackedBatch(std::span<const Sequence> batch, size_t context) {
  start.push_back(0);
  for (const Sequence& sequence : batch) {
    const size_t before = sequence.cache ? sequence.cache->length() : 0;
    const size_t rows = sequence.tokens.size();
    if (before + rows > context)
      throw Error(ErrorCode::bad_input,
                  fmt::format("a text of {} tokens is longer than the model's context of {}; shorten it", before + rows,
                              context));
    for (size_t i = 0; i < rows; ++i) positions.push_back(before + i);
    steps.insert(steps.end(), rows, sequence.step);
    if (sequence.adapter && rows > 0) {
      if (!adapters.empty() && adapters.back().adapter == sequence.adapter &&
          adapters.back().first_row + adapters.back().rows == start.back())
        adapters.back().rows += rows;
      else
        adapters.push_back({sequence.adapter, start.back(), rows});
    }
    start.push_back(start.back() + rows);
  }
}

BatchRotation::BatchRotation(const Architecture& architecture, const Weights& weights, const PackedBatch& batch) {
  const auto head_dim = static_cast<size_t>(architecture.config.head_dim);
  global = rope_table(batch.positions, head_dim, architecture.rope_base, weights.rope_factors);
  if (architecture.window > 0)
    local = rope_table(batch.positions, head_dim, architecture.local_rope_base, weights.rope_factors);
}

}  // namespace hone
