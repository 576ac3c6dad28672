// Neighbours of a text: by words, by dense vectors, or by both.
#include <algorithm>
#include <array>

#include "hone/adapt.h"

namespace hone {

std::vector<Neighbour> find_neighbours(const Model& model, const Store& store, Retrieval retrieval,
                                       std::span<const Token> text, size_t count, const CancelToken& cancel) {
  const auto by_words = [&](size_t so_many) { return store.neighbours(model.tokenizer().decode(text), so_many); };
  const auto by_vectors = [&](size_t so_many) -> std::vector<Neighbour> {
    if (text.empty()) return {};
    return store.nearest(encoder_of(model), embedding(model, text, cancel), so_many);
  };
  if (retrieval == Retrieval::bm25) return by_words(count);
  if (retrieval == Retrieval::sift) {
    if (text.empty()) return {};
    return store.sift(encoder_of(model), embedding(model, text, cancel), count);
  }
  if (retrieval == Retrieval::vectors) return by_vectors(count);
  constexpr size_t fused_depth = 100;
  const size_t depth = std::max(count, fused_depth);
  return fuse(std::array{by_words(depth), by_vectors(depth)}, count);
}

}  // namespace hone
