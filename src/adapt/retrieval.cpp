// Neighbours of a text: by words, by dense vectors, or by both.
#include "adapt/retrieval.h"

#include <algorithm>
#include <array>

#include "hone/adapt.h"

namespace hone {

std::optional<Chunk> find_chunk(const Store& store, int64_t id) {
  try {
    return store.chunk(id);
  } catch (const Error& error) {
    if (error.code == ErrorCode::not_found) return std::nullopt;
    throw;
  }
}

namespace {

// `vector_of` makes the text's vector, which is not needed for every retrieval.
template <class VectorOf>
std::vector<Neighbour> find(const Store& store, Retrieval retrieval, std::string_view text, size_t count,
                            const Encoder& encoder, const VectorOf& vector_of) {
  if (retrieval == Retrieval::bm25) return store.neighbours(text, count);
  if (text.empty()) return {};
  const std::vector<float> vector = vector_of();
  if (retrieval == Retrieval::vectors) return store.nearest(encoder, vector, count);
  if (retrieval == Retrieval::sift) return store.sift(encoder, vector, count);
  constexpr size_t fused_depth = 200;
  const size_t depth = std::max(count, fused_depth);
  return fuse(std::array{store.neighbours(text, depth), store.nearest(encoder, vector, depth)}, count);
}

}  // namespace

std::vector<Neighbour> find_neighbours(const Model& model, const Store& store, Retrieval retrieval,
                                       std::span<const Token> text, size_t count, const CancelToken& cancel,
                                       const TextEncoder* encoder) {
  const std::string written = model.tokenizer().decode(text);
  if (encoder) return find_neighbours(*encoder, store, retrieval, written, count, cancel);
  return find(store, retrieval, written, count, encoder_of(model), [&] { return embedding(model, text, cancel); });
}

std::vector<Neighbour> find_neighbours(const TextEncoder& encoder, const Store& store, Retrieval retrieval,
                                       std::string_view text, size_t count, const CancelToken& cancel) {
  return find(store, retrieval, text, count, encoder_of(encoder), [&] {
    const std::string query(text);
    const Matrix vector = encoder.embed(std::span(&query, 1), {}, Watch{.progress = {}, .cancel = cancel});
    return std::vector<float>(vector.row(0).begin(), vector.row(0).end());
  });
}

}  // namespace hone
