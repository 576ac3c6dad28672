// Dense vectors of texts from a model's own hidden states.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "adapt/gradients.h"

namespace hone {
namespace {

constexpr size_t chunks_a_commit = 32;

// Layers that a text runs through.
int layers_read(const Model& model) { return std::max(1, model.config().layers * 4 / 5); }

// Adds vector / ‖vector‖.
void add_direction(std::span<const float> vector, std::span<double> sum) {
  double square = 0;
  for (const float value : vector) square += static_cast<double>(value) * value;
  const double factor = square > 0 ? 1 / std::sqrt(square) : 0;
  for (size_t d = 0; d < vector.size(); ++d) sum[d] += factor * vector[d];
}

}  // namespace

Encoder encoder_of(const Model& model) {
  return {fmt::format("{} L{} mean", model.name(), layers_read(model)), static_cast<size_t>(model.config().width)};
}

std::vector<float> embedding(const Model& model, std::span<const Token> tokens, const CancelToken& cancel) {
  if (tokens.empty()) return std::vector<float>(static_cast<size_t>(model.config().width));
  const size_t bos = with_bos(model, {}).size();
  const size_t room = static_cast<size_t>(model.config().context) - bos;
  const std::vector<Token> read = with_bos(model, tokens.last(std::min(room, tokens.size())));
  const Sequence sequence{.tokens = read};
  const std::span<const Sequence> batch(&sequence, 1);
  const Matrix states = model.forward(batch, 0, layers_read(model), model.embed(batch), nullptr, cancel);
  std::vector<double> sum(states.cols());
  const size_t first = states.rows() > 1 ? 1 : 0;
  for (size_t t = first; t < states.rows(); ++t) add_direction(states.row(t), sum);
  std::vector<float> mean(sum.size());
  for (size_t d = 0; d < mean.size(); ++d)
    mean[d] = static_cast<float>(sum[d] / static_cast<double>(states.rows() - first));
  return mean;
}

size_t store_vectors(const Model& model, Store& store, const Watch& watch) {
  const Encoder encoder = encoder_of(model);
  store.prune_vectors(encoder);
  const std::vector<int64_t> ids = store.chunks_without_vector(encoder);
  for (size_t begin = 0; begin < ids.size(); begin += chunks_a_commit) {
    const std::span<const int64_t> some = std::span(ids).subspan(begin, std::min(chunks_a_commit, ids.size() - begin));
    Matrix vectors = Matrix::uninitialized(some.size(), encoder.dimension);
    for (size_t i = 0; i < some.size(); ++i) {
      watch.report("vectors", begin + i, ids.size());
      std::ranges::copy(embedding(model, store.chunk(some[i]).tokens, watch.cancel), vectors.row(i).begin());
    }
    store.keep_vectors(encoder, some, vectors);
  }
  return ids.size();
}

}  // namespace hone
