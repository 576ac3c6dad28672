// Neighbours of a text: by words, by dense vectors, or by both.
#include <algorithm>
#include <array>

#include "hone/adapt.h"

namespace hone {
namespace {

template <class ByVectors>
std::vector<Neighbour> find(const Store& store, Retrieval retrieval, std::string_view text, size_t count,
                            const ByVectors& by_vectors) {
  if (retrieval == Retrieval::bm25) return store.neighbours(text, count);
  if (text.empty()) return {};
  if (retrieval == Retrieval::vectors) return by_vectors(count);
  constexpr size_t fused_depth = 100;
  const size_t depth = std::max(count, fused_depth);
  return fuse(std::array{store.neighbours(text, depth), by_vectors(depth)}, count);
}

}  // namespace

std::vector<Neighbour> find_neighbours(const Model& model, const Store& store, Retrieval retrieval,
                                       std::span<const Token> text, size_t count, const CancelToken& cancel,
                                       const TextEncoder* encoder) {
  const std::string written = model.tokenizer().decode(text);
  if (encoder) return find_neighbours(*encoder, store, retrieval, written, count, cancel);
  return find(store, retrieval, written, count, [&](size_t so_many) {
    return store.nearest(encoder_of(model), embedding(model, text, cancel), so_many);
  });
}

std::vector<Neighbour> find_neighbours(const TextEncoder& encoder, const Store& store, Retrieval retrieval,
                                       std::string_view text, size_t count, const CancelToken& cancel) {
  return find(store, retrieval, text, count, [&](size_t so_many) {
    const std::string query(text);
    const Matrix vector = encoder.embed(std::span(&query, 1), {}, Watch{.progress = {}, .cancel = cancel});
    return store.nearest(encoder_of(encoder), vector.row(0), so_many);
  });
}

}  // namespace hone
