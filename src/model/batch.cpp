// The rows of a packed batch: whose they are, at which positions, and which of them several sequences share.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "model/model_impl.h"

namespace hone {
namespace {

bool same_weights(const Sequence& a, const Sequence& b) { return a.adapter == b.adapter && a.step == b.step; }

void check_prefix(std::span<const Sequence> batch, size_t b) {
  const Sequence& sequence = batch[b];
  const auto refuse = [&](std::string_view why) {
    throw Error(ErrorCode::bad_input, fmt::format("sequence {} shares {} of its {} tokens with sequence {}, {}", b,
                                                  sequence.shared, sequence.tokens.size(), sequence.prefix, why));
  };
  if (sequence.shared > sequence.tokens.size()) refuse("more than it has");
  if (sequence.prefix >= b) refuse("which does not come before it in the batch");
  const Sequence& other = batch[sequence.prefix];
  if (sequence.cache || other.cache) refuse("and one of them has a cache; share prefixes only without caches");
  if (!same_weights(sequence, other)) refuse("which has another adapter or step");
  if (sequence.shared > other.tokens.size()) refuse(fmt::format("which has {}", other.tokens.size()));
  if (!std::ranges::equal(sequence.tokens.first(sequence.shared), other.tokens.first(sequence.shared)))
    refuse("whose first tokens are others");
}

}  // namespace

void share_prefixes(std::span<Sequence> batch) {
  for (size_t b = 0; b < batch.size(); ++b) {
    Sequence& sequence = batch[b];
    sequence.prefix = sequence.shared = 0;
    if (sequence.cache) continue;
    for (size_t other = 0; other < b; ++other) {
      if (batch[other].cache || !same_weights(sequence, batch[other])) continue;
      const auto same = std::ranges::mismatch(sequence.tokens, batch[other].tokens).in1 - sequence.tokens.begin();
      if (static_cast<size_t>(same) <= sequence.shared) continue;
      sequence.prefix = other;
      sequence.shared = static_cast<size_t>(same);
    }
  }
}

BatchRows::BatchRows(std::span<const Sequence> batch) : start{0}, gradient_start{0} {
  for (size_t b = 0; b < batch.size(); ++b) {
    const auto [tokens, shared] = std::pair(batch[b].tokens.size(), batch[b].shared);
    if (shared > 0) check_prefix(batch, b);
    const size_t prefix = shared > 0 ? gradient_start[batch[b].prefix] : 0;
    for (size_t i = 0; i < shared; ++i) activation.push_back(activation[prefix + i]);
    activation.resize(activation.size() + tokens - shared);
    std::iota(activation.end() - static_cast<ptrdiff_t>(tokens - shared), activation.end(), start.back());
    start.push_back(start.back() + tokens - shared);
    gradient_start.push_back(gradient_start.back() + tokens);
  }
}

PackedBatch::PackedBatch(std::span<const Sequence> batch, size_t context) {
  start.push_back(0);
  for (const Sequence& sequence : batch) {
    const size_t before = sequence.cache ? sequence.cache->length() : 0;
    const size_t end = before + sequence.tokens.size(), first = before + sequence.shared, rows = end - first;
    if (end > context)
      throw Error(
          ErrorCode::bad_input,
          fmt::format("a text of {} tokens is longer than the model's context of {}; shorten it", end, context));
    for (size_t position = first; position < end; ++position) positions.push_back(position);
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

PackedBatch PackedBatch::part(std::span<const size_t> of_rows) const {
  PackedBatch result;
  const auto before = [&](size_t row) {
    return static_cast<size_t>(std::ranges::lower_bound(of_rows, row) - of_rows.begin());
  };
  for (const size_t row : start) result.start.push_back(before(row));
  for (const size_t row : of_rows) {
    result.positions.push_back(positions[row]);
    result.steps.push_back(steps[row]);
  }
  for (const AdapterRun& run : adapters) {
    const size_t first = before(run.first_row), end = before(run.first_row + run.rows);
    if (end > first) result.adapters.push_back({run.adapter, first, end - first});
  }
  return result;
}

BatchRotation::BatchRotation(const Architecture& architecture, const Weights& weights, const PackedBatch& batch) {
  const auto head_dim = static_cast<size_t>(architecture.config.head_dim);
  global = rope_table(batch.positions, head_dim, architecture.rope_base, weights.rope_factors);
  if (architecture.window > 0)
    local = rope_table(batch.positions, head_dim, architecture.local_rope_base, weights.rope_factors);
}

}  // namespace hone
