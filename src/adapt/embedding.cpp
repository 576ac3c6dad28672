// Dense vectors of a store's texts, from an encoder of its own or from the model's hidden states.
#include <fmt/format.h>

#include <algorithm>

#include "hone/adapt.h"

namespace hone {
namespace {

constexpr size_t chunks_a_commit = 32;

// Lives no longer than the model.
std::shared_ptr<const TextEncoder> own_encoder(const Model& model) {
  return TextEncoder::of(std::shared_ptr<const Model>(std::shared_ptr<void>(), &model));
}

// vectors_of(ids, watch) gives the vectors [ids, dimension] of some chunks.
template <class VectorsOf>
size_t fill(const Encoder& encoder, Store& store, const Watch& watch, const VectorsOf& vectors_of) {
  store.prune_vectors(encoder);
  const std::vector<int64_t> ids = store.chunks_without_vector(encoder);
  for (size_t begin = 0; begin < ids.size(); begin += chunks_a_commit) {
    const std::span<const int64_t> some = std::span(ids).subspan(begin, std::min(chunks_a_commit, ids.size() - begin));
    const auto progress = [&](const Progress& of_some) {
      if (of_some.done < some.size()) watch.report("vectors", begin + of_some.done, ids.size());
    };
    store.keep_vectors(encoder, some, vectors_of(some, Watch{.progress = progress, .cancel = watch.cancel}));
  }
  return ids.size();
}

}  // namespace

Encoder encoder_of(const Model& model) {
  const auto own = own_encoder(model);
  return {own->name(), own->dimension()};
}

Encoder encoder_of(const TextEncoder& encoder) { return {encoder.identity(), encoder.dimension()}; }

std::vector<float> embedding(const Model& model, std::span<const Token> tokens, const CancelToken& cancel) {
  const auto own = own_encoder(model);
  if (tokens.empty()) return std::vector<float>(own->dimension());
  const std::vector<Token> read = own->frame(tokens);
  const Matrix row = own->embed(std::span(&read, 1), {}, Watch{.progress = {}, .cancel = cancel});
  return {row.data(), row.data() + row.cols()};
}

size_t store_vectors(const Model& model, Store& store, const Watch& watch) {
  const auto own = own_encoder(model);
  return fill(encoder_of(model), store, watch, [&](std::span<const int64_t> ids, const Watch& counting) {
    std::vector<std::vector<Token>> texts;
    for (const int64_t id : ids) texts.push_back(own->frame(store.chunk(id).tokens));
    return own->embed(texts, {.batch = 1}, counting);
  });
}

size_t store_vectors(const TextEncoder& encoder, Store& store, const Watch& watch) {
  return fill(encoder_of(encoder), store, watch, [&](std::span<const int64_t> ids, const Watch& counting) {
    std::vector<std::string> texts;
    for (const int64_t id : ids) texts.push_back(store.chunk(id).text);
    return encoder.embed(texts, {}, counting);
  });
}

}  // namespace hone
