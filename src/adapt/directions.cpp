#include <fmt/format.h>

#include "adapt/gradients.h"

namespace hone {
namespace {

std::string row_key(const Model& model, const Chunk& chunk, int first_layer) {
  return fmt::format("{}/{}/layers {}-{}/all tokens/{}", chunk.hash, model.base_hash(), first_layer,
                     model.config().layers, gradient_codec);
}

std::vector<std::byte> gradient_row(const Model& model, const Chunk& chunk, const CorpusStatistics& statistics,
                                    const CancelToken& cancel) {
  const std::vector<Token> tokens = with_bos(model, chunk.tokens);
  if (tokens.size() < 2) return {};
  return encode_gradient_row(weight_gradients(model, tokens, 1, statistics.first_layer, cancel), statistics);
}

}  // namespace

size_t store_gradients(const Model& model, const Store& store, const CorpusStatistics& statistics,
                       uint64_t gradient_budget, const Watch& watch) {
  const std::vector<int64_t> ids = store.chunk_ids();
  size_t computed = 0;
  uint64_t kept_bytes = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    watch.report("gradients", i, ids.size());
    const Chunk chunk = store.chunk(ids[i]);
    const std::string key = row_key(model, chunk, statistics.first_layer);
    std::optional<std::vector<std::byte>> row = store.find_row(key);
    const bool fresh = !row;
    if (fresh) row = gradient_row(model, chunk, statistics, watch.cancel);
    kept_bytes += row->size();
    if (kept_bytes > gradient_budget) break;
    if (!fresh) continue;
    store.keep_row(key, *row, gradient_budget);
    ++computed;
  }
  return computed;
}

Adapter neighbour_direction(const Model& model, const Store& store, const CorpusStatistics& statistics,
                            std::span<const Chunk> neighbours, uint64_t gradient_budget, const Watch& watch,
                            size_t* computed) {
  Adapter direction = zero_direction(statistics);
  const float weight = -1.0f / static_cast<float>(std::max<size_t>(neighbours.size(), 1));
  for (size_t i = 0; i < neighbours.size(); ++i) {
    watch.report("gradients", i, neighbours.size());
    const std::string key = row_key(model, neighbours[i], statistics.first_layer);
    if (const auto row = store.find_row(key); row && add_gradient_row(*row, statistics, weight, direction)) continue;
    const std::vector<std::byte> row = gradient_row(model, neighbours[i], statistics, watch.cancel);
    if (row.empty()) continue;
    store.keep_row(key, row, gradient_budget);
    add_gradient_row(row, statistics, weight, direction);
    if (computed) ++*computed;
  }
  for (auto& [id, delta] : direction.dense) {
    const float step = statistics.blocks.at(id).relative_step;
    for (size_t i = 0; i < delta.size(); ++i) delta.data()[i] *= step;
  }
  return direction;
}

Adapter prompt_direction(const Model& model, const CorpusStatistics& statistics, std::span<const Token> tokens,
                         const CancelToken& cancel) {
  Adapter direction;
  direction.dense = weight_gradients(model, with_bos(model, tokens), 1, statistics.first_layer, cancel);
  for (auto& [id, delta] : direction.dense) {
    const CorpusStatistics::Block& block = statistics.blocks.at(id);
    for (size_t o = 0; o < delta.rows(); ++o)
      for (size_t i = 0; i < delta.cols(); ++i)
        delta.row(o)[i] *= -block.relative_step / (block.row[o] * block.column[i]);
  }
  return direction;
}

}  // namespace hone
