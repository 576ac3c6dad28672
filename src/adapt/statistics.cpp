#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "adapt/gradients.h"
#include "base/random.h"

namespace hone {
namespace {

std::string statistics_name(const Model& model, int first_layer) {
  return fmt::format("statistics/{}/{}", model.base_hash(), first_layer);
}

template <class T>
void put(std::vector<std::byte>& bytes, const T* values, size_t count) {
  const auto* from = reinterpret_cast<const std::byte*>(values);
  bytes.insert(bytes.end(), from, from + count * sizeof(T));
}

template <class T>
void take(std::span<const std::byte>& bytes, T* values, size_t count) {
  if (count > bytes.size() / sizeof(T))
    throw Error(ErrorCode::corrupt, "the store's statistics are damaged; run `hone index --relearn`");
  if (count > 0) std::memcpy(values, bytes.data(), count * sizeof(T));
  bytes = bytes.subspan(count * sizeof(T));
}

// Means of G ∘ G over rows, columns and everything, for one matrix.
struct SecondMoments {
  std::vector<double> row, column;

  void add(const Matrix& g) {
    row.resize(g.rows());
    column.resize(g.cols());
    for (size_t o = 0; o < g.rows(); ++o)
      for (size_t i = 0; i < g.cols(); ++i) {
        const double square = static_cast<double>(g.row(o)[i]) * g.row(o)[i];
        row[o] += square / static_cast<double>(g.cols());
        column[i] += square / static_cast<double>(g.rows());
      }
  }

  // D = sqrt(row_mean · column_mean / mean), floored so that directions the sample never saw are not blown up.
  CorpusStatistics::Block block(size_t samples) const {
    constexpr double floor_share = 1e-4;
    const auto n = static_cast<double>(samples);
    double mean = 0;
    for (const double r : row) mean += r / n / static_cast<double>(row.size());
    CorpusStatistics::Block result;
    const double scale = std::pow(std::max(mean, 1e-30), -0.25);
    const auto factor = [&](double square) {
      return static_cast<float>(std::sqrt(std::max({square / n, floor_share * mean, 1e-30})) * scale);
    };
    for (const double r : row) result.row.push_back(factor(r));
    for (const double c : column) result.column.push_back(factor(c));
    return result;
  }
};

// A seeded choice of `count` of the store's chunks.
std::vector<int64_t> sample(const std::vector<int64_t>& ids, size_t count, RandomStream random) {
  std::vector<int64_t> shuffled = ids;
  count = std::min(count, shuffled.size());
  random.draw(std::span(shuffled), count);
  shuffled.resize(count);
  return shuffled;
}

struct Pair {
  Chunk chunk, successor;
};

std::vector<Pair> successor_pairs(const Store& store, size_t count, uint64_t seed, const CancelToken& cancel) {
  std::vector<Pair> pairs;
  const std::vector<int64_t> ids = store.chunk_ids();
  for (const int64_t id : sample(ids, ids.size(), RandomStream(seed, "pairs"))) {
    if (pairs.size() == count) break;
    cancel.check();
    std::optional<Chunk> successor = store.successor(id);
    if (successor && successor->tokens.size() >= 16) pairs.push_back({store.chunk(id), std::move(*successor)});
  }
  return pairs;
}

std::vector<Chunk> neighbours_in_other_files(const Store& store, const Chunk& chunk, size_t count) {
  std::vector<Chunk> chunks;
  for (const Neighbour& neighbour : store.neighbours(chunk.text, count + 50)) {
    if (chunks.size() == count) break;
    Chunk candidate = store.chunk(neighbour.chunk_id);
    if (candidate.path != chunk.path) chunks.push_back(std::move(candidate));
  }
  return chunks;
}

}  // namespace

int default_first_adapted_layer(const Model& model) {
  const int layers = model.config().layers;
  return layers - std::max(1, (layers * 4 + 7) / 15);
}

std::vector<std::byte> CorpusStatistics::serialize() const {
  std::vector<std::byte> bytes;
  const uint64_t head[] = {static_cast<uint64_t>(first_layer), blocks.size()};
  put(bytes, head, 2);
  for (const auto& [id, block] : blocks) {
    const uint64_t shape[] = {static_cast<uint64_t>(id.layer), static_cast<uint64_t>(id.kind), block.row.size(),
                              block.column.size()};
    put(bytes, shape, 4);
    put(bytes, block.row.data(), block.row.size());
    put(bytes, block.column.data(), block.column.size());
    put(bytes, &block.relative_step, 1);
  }
  return bytes;
}

CorpusStatistics CorpusStatistics::deserialize(std::span<const std::byte> bytes) {
  CorpusStatistics result;
  uint64_t head[2];
  take(bytes, head, 2);
  result.first_layer = static_cast<int>(head[0]);
  for (uint64_t b = 0; b < head[1]; ++b) {
    uint64_t shape[4];
    take(bytes, shape, 4);
    if (shape[1] >= matrix_kinds || shape[2] > bytes.size() || shape[3] > bytes.size())
      throw Error(ErrorCode::corrupt, "the store's statistics are damaged; run `hone index --relearn`");
    Block block{std::vector<float>(shape[2]), std::vector<float>(shape[3])};
    take(bytes, block.row.data(), block.row.size());
    take(bytes, block.column.data(), block.column.size());
    take(bytes, &block.relative_step, 1);
    result.blocks.emplace(MatrixId{static_cast<int>(shape[0]), static_cast<MatrixKind>(shape[1])}, std::move(block));
  }
  return result;
}

bool has_statistics(const Model& model, const Store& store, int first_layer) {
  if (first_layer < 0) first_layer = default_first_adapted_layer(model);
  return store.value(statistics_name(model, first_layer)).has_value();
}

CorpusStatistics load_statistics(const Model& model, const Store& store, int first_layer) {
  if (first_layer < 0) first_layer = default_first_adapted_layer(model);
  const auto bytes = store.value(statistics_name(model, first_layer));
  if (!bytes)
    throw Error(ErrorCode::not_found,
                fmt::format("'{}' holds no statistics for layers from {} on; run `hone index` with this model and "
                            "--first-layer {}",
                            store.directory().string(), first_layer, first_layer));
  CorpusStatistics statistics = CorpusStatistics::deserialize(*bytes);
  const auto refuse = [&] {
    throw Error(ErrorCode::corrupt,
                fmt::format("the statistics in '{}' do not fit the model; run `hone index --relearn`",
                            store.directory().string()));
  };
  const auto expected = static_cast<size_t>(model.config().layers - first_layer) * matrix_kinds;
  if (statistics.first_layer != first_layer || statistics.blocks.size() != expected) refuse();
  for (int layer = first_layer; layer < model.config().layers; ++layer)
    for (int kind = 0; kind < matrix_kinds; ++kind) {
      const MatrixId id{layer, static_cast<MatrixKind>(kind)};
      const auto block = statistics.blocks.find(id);
      if (block == statistics.blocks.end() ||
          model.shape(id) != std::pair{block->second.row.size(), block->second.column.size()})
        refuse();
    }
  return statistics;
}

CorpusStatistics learn_statistics(const Model& model, Store& store, const LearnOptions& options, const Watch& watch) {
  CorpusStatistics statistics;
  statistics.first_layer = options.first_layer < 0 ? default_first_adapted_layer(model) : options.first_layer;
  const std::vector<int64_t> chosen =
      sample(store.chunk_ids(), options.preconditioner_chunks, RandomStream(options.seed, "preconditioner"));
  const std::vector<Pair> pairs = successor_pairs(store, options.pairs, options.seed, watch.cancel);
  const size_t total = chosen.size() + pairs.size();

  std::map<MatrixId, SecondMoments> moments;
  size_t read = 0;
  for (size_t i = 0; i < chosen.size(); ++i) {
    watch.report("learn", i, total);
    const std::vector<Token> tokens = with_bos(model, store.chunk(chosen[i]).tokens);
    if (tokens.size() < 2) continue;
    for (const auto& [id, g] : weight_gradients(model, tokens, 1, statistics.first_layer, watch.cancel))
      moments[id].add(g);
    ++read;
  }
  if (moments.empty())
    throw Error(ErrorCode::bad_input,
                fmt::format("'{}' has no chunk of two tokens or more to learn from; index more text",
                            store.directory().string()));
  for (const auto& [id, moment] : moments) statistics.blocks.emplace(id, moment.block(read));

  std::map<MatrixId, double> alignment, curvature;
  size_t used = 0;
  for (size_t p = 0; p < pairs.size(); ++p) {
    watch.report("learn", chosen.size() + p, total);
    const auto& [chunk, successor] = pairs[p];
    const std::vector<Chunk> neighbours = neighbours_in_other_files(store, chunk, options.neighbours);
    if (neighbours.empty()) continue;
    const Adapter direction = neighbour_direction(model, store, statistics, neighbours, options.gradient_budget,
                                                  Precision::fp32, {.progress = {}, .cancel = watch.cancel});
    std::vector<Token> tokens = with_bos(model, chunk.tokens);
    const size_t first_target = tokens.size();
    tokens.insert(tokens.end(), successor.tokens.begin(), successor.tokens.end());
    for (const auto& [id, g] : weight_gradients(model, tokens, first_target, statistics.first_layer, watch.cancel)) {
      const CorpusStatistics::Block& block = statistics.blocks.at(id);
      const Matrix& delta = direction.dense.at(id);
      for (size_t o = 0; o < g.rows(); ++o)
        for (size_t i = 0; i < g.cols(); ++i) {
          const double d = delta.row(o)[i], fisher = static_cast<double>(block.row[o]) * block.column[i];
          alignment[id] -= d * g.row(o)[i];
          curvature[id] += d * d * fisher * fisher;
        }
    }
    ++used;
  }
  if (used > 0) {
    double mean = 0;
    std::map<MatrixId, double> ratio;
    for (const auto& [id, value] : alignment) {
      ratio[id] = curvature[id] > 0 ? std::max(0.0, value / curvature[id]) : 0;
      mean += ratio[id] / static_cast<double>(alignment.size());
    }
    for (const auto& [id, value] : ratio)
      statistics.blocks.at(id).relative_step = mean > 0 ? static_cast<float>(value / mean) : 0;
  }
  store.set_value(statistics_name(model, statistics.first_layer), statistics.serialize());
  watch.report("learn", total, total);
  return statistics;
}

}  // namespace hone
