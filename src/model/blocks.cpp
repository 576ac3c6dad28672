// Blocks of weights: their names, where they lie, and which a model has.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "hone/grams.h"

namespace hone {

std::string name(BlockId id) { return id.head < 0 ? name(id.matrix) : fmt::format("{}.h{}", name(id.matrix), id.head); }

BlockId block_named(std::string_view text) {
  std::string_view rest = text;
  const auto number_after = [&](std::string_view prefix) {
    int number = -1;
    if (!rest.starts_with(prefix)) return -1;
    const auto [end, error] = std::from_chars(rest.data() + prefix.size(), rest.data() + rest.size(), number);
    if (error != std::errc() || number < 0) return -1;
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    return number;
  };
  const int layer = number_after("L");
  for (int k = 0; layer >= 0 && rest.starts_with('.') && k < matrix_kinds; ++k) {
    const auto kind = static_cast<MatrixKind>(k);
    const std::string_view after = rest.substr(1), matrix = name(kind);
    if (after == matrix) return {{layer, kind}, -1};
    if (!after.starts_with(matrix)) continue;
    rest = after.substr(matrix.size());
    if (const int head = number_after(".h"); head >= 0 && rest.empty()) return {{layer, kind}, head};
    break;
  }
  throw Error(ErrorCode::bad_input, fmt::format("'{}' names no block; blocks are written L27.q or L27.v.h2", text));
}

BlockExtent extent(const Model& model, BlockId id) {
  const ModelConfig& c = model.config();
  const MatrixKind kind = id.matrix.kind;
  const int heads = kind == MatrixKind::v ? c.kv_heads : kind == MatrixKind::o ? c.heads : 0;
  const bool known = static_cast<int>(kind) >= 0 && static_cast<int>(kind) < matrix_kinds;
  if (!known || id.matrix.layer < 0 || id.matrix.layer >= c.layers || id.head < -1 || id.head >= heads)
    throw Error(ErrorCode::bad_input,
                fmt::format("block of layer {}, matrix {}, head {} does not exist: the model has {} layers, v has {} "
                            "heads, o has {}, other matrices none",
                            id.matrix.layer, known ? name(kind) : "?", id.head, c.layers, c.kv_heads, c.heads));
  const auto [out, in] = model.shape(id.matrix);
  const auto head = static_cast<size_t>(id.head), head_dim = static_cast<size_t>(c.head_dim);
  if (id.head < 0) return {0, out, 0, in};
  if (kind == MatrixKind::v) return {head * head_dim, head_dim, 0, in};
  return {0, out, head * head_dim, head_dim};
}

std::vector<BlockId> blocks_of(const Model& model, int first_layer, std::span<const MatrixKind> kinds) {
  const ModelConfig& c = model.config();
  if (first_layer < 0 || first_layer >= c.layers)
    throw Error(ErrorCode::bad_input,
                fmt::format("layer {} does not exist; the model has layers 0 to {}", first_layer, c.layers - 1));
  std::vector<BlockId> blocks;
  for (int layer = first_layer; layer < c.layers; ++layer)
    for (int k = 0; k < matrix_kinds; ++k) {
      const auto kind = static_cast<MatrixKind>(k);
      if (!kinds.empty() && std::ranges::find(kinds, kind) == kinds.end()) continue;
      const int heads = kind == MatrixKind::v ? c.kv_heads : kind == MatrixKind::o ? c.heads : 0;
      if (heads == 0) blocks.push_back({{layer, kind}, -1});
      for (int head = 0; head < heads; ++head) blocks.push_back({{layer, kind}, head});
    }
  return blocks;
}

QueryKernel query_kernel(const Gram& gram, size_t query) {
  if (query >= gram.size)
    throw Error(ErrorCode::bad_input, fmt::format("sequence {} of {} cannot be the query", query, gram.size));
  QueryKernel result;
  result.examples = gram.size - 1;
  result.query = gram(query, query);
  for (size_t i = 0; i < gram.size; ++i) {
    if (i == query) continue;
    result.with_query.push_back(gram(i, query));
    for (size_t j = 0; j < gram.size; ++j)
      if (j != query) result.kernel.push_back(gram(i, j));
  }
  return result;
}

}  // namespace hone
