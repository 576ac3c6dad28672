#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "adapt/gradients.h"
#include "adapt/retrieval.h"
#include "base/parallel.h"

namespace hone {
namespace {

constexpr const char* budget_name = "gradient budget";

uint64_t budget_of(const Store& store, std::optional<uint64_t> given) {
  return given ? *given : gradient_budget(store);
}

std::string row_key(const Model& model, const Chunk& chunk, int first_layer) {
  return fmt::format("{}/{}/layers {}-{}/all tokens/{}/{}", chunk.hash, model.base_hash(), first_layer,
                     model.config().layers, gradient_codec, model.precision() == Precision::int8 ? "int8" : "fp32");
}

// The weight gradient that one layer offers.
Matrix weight_gradient(const LinearGradient& gradient) {
  WeightGradientSink sink;
  sink.accept(gradient);
  return std::move(sink.take().begin()->second);
}

// Encodes each matrix's gradient as it arrives, so that no two are held.
class GradientRowSink : public GradientSink {
 public:
  explicit GradientRowSink(const CorpusStatistics& statistics)
      : statistics_(statistics), row_(empty_gradient_row(statistics)) {}

  void accept(const LinearGradient& gradient) override {
    encode_gradient(gradient.id, weight_gradient(gradient), statistics_, row_);
  }
  std::vector<std::byte> take() { return std::move(row_); }

 private:
  const CorpusStatistics& statistics_;
  std::vector<std::byte> row_;
};

// With one token there is nothing to predict.
bool has_gradient(const Model& model, const Chunk& chunk) { return with_bos(model, chunk.tokens).size() >= 2; }

// Empty without a gradient, else as long as empty_gradient_row().
std::vector<std::byte> gradient_row(const Model& model, const Chunk& chunk, const CorpusStatistics& statistics,
                                    const CancelToken& cancel) {
  const std::vector<Token> tokens = with_bos(model, chunk.tokens);
  if (tokens.size() < 2) return {};
  GradientRowSink sink(statistics);
  GradientSink* sinks[] = {&sink};
  // Four bits a value lose more than products in int8 do.
  mean_loss_gradient(model, tokens, 1, statistics.first_layer, nullptr, {}, sinks, cancel, model.precision());
  return sink.take();
}

}  // namespace

namespace {

// Marks the rows that are kept as used, the first chunks' last: what has to go for the first rows are then the last.
void prefer_first_rows(const Model& model, const Store& store, int first_layer, std::vector<int64_t> ids,
                       const CancelToken& cancel) {
  std::ranges::reverse(ids);
  for (const int64_t id : ids) {
    cancel.check();
    if (const std::optional<Chunk> chunk = find_chunk(store, id))
      (void)store.find_row(row_key(model, *chunk, first_layer));
  }
}

}  // namespace

uint64_t gradient_budget(const Store& store) {
  const std::optional<std::vector<std::byte>> told = store.value(budget_name);
  uint64_t bytes = default_gradient_budget;
  if (told && told->size() == sizeof bytes) std::memcpy(&bytes, told->data(), sizeof bytes);
  return bytes;
}

void remember_gradient_budget(Store& store, uint64_t bytes) {
  store.set_value(budget_name, std::as_bytes(std::span(&bytes, 1)));
}

StoredGradients store_gradients(const Model& model, const Store& store, const CorpusStatistics& statistics,
                                std::optional<uint64_t> gradient_budget, const Watch& watch) {
  const uint64_t budget = budget_of(store, gradient_budget);
  const std::vector<int64_t> ids = store.chunk_ids();
  StoredGradients result;
  uint64_t kept_bytes = 0;
  const size_t whole_row = empty_gradient_row(statistics).size();
  for (size_t i = 0; i < ids.size(); ++i) {
    watch.report("gradients", i, ids.size());
    const std::optional<Chunk> chunk = find_chunk(store, ids[i]);
    if (!chunk) continue;
    const std::string key = row_key(model, *chunk, statistics.first_layer);
    const std::optional<StoredRow> stored = store.find_row(key);
    const size_t row_bytes = stored ? stored->bytes().size() : has_gradient(model, *chunk) ? whole_row : 0;
    kept_bytes += Store::bytes_of_row(key, row_bytes);
    if (kept_bytes > budget) break;
    ++result.chunks;
    if (stored) continue;
    if (result.computed == 0) prefer_first_rows(model, store, statistics.first_layer, ids, watch.cancel);
    const std::vector<std::byte> fresh = gradient_row(model, *chunk, statistics, watch.cancel);
    if (!store.keep_row(key, fresh, budget))
      throw Error(ErrorCode::io,
                  fmt::format("cannot keep a gradient row of {} bytes in '{}'; free some space there, or check its "
                              "permissions (rows that were kept stay)",
                              fresh.size(), store.directory().string()));
    ++result.computed;
  }
  return result;
}

namespace {

// Rows of all neighbours that have one: from the store where it keeps them, else computed and kept.
std::vector<StoredRow> rows_of(const Model& model, const Store& store, const CorpusStatistics& statistics,
                               std::span<const Chunk> neighbours, std::optional<uint64_t> gradient_budget,
                               const Watch& watch, size_t* computed) {
  const uint64_t budget = budget_of(store, gradient_budget);
  std::vector<StoredRow> rows;
  for (size_t i = 0; i < neighbours.size(); ++i) {
    watch.report("gradients", i, neighbours.size());
    const std::string key = row_key(model, neighbours[i], statistics.first_layer);
    if (auto row = store.find_row(key); row && is_gradient_row(row->bytes(), statistics)) {
      row->drop_pages();  // looking at the headers mapped all of them
      rows.push_back(std::move(*row));
      continue;
    }
    std::vector<std::byte> row = gradient_row(model, neighbours[i], statistics, watch.cancel);
    if (row.empty()) continue;
    store.keep_row(key, row, budget);
    std::optional<StoredRow> kept = store.find_row(key);  // mapped, it need not stay in memory
    rows.push_back(kept ? std::move(*kept) : StoredRow(std::move(row)));
    if (computed) ++*computed;
  }
  return rows;
}

void add_matrix(Adapter& direction, MatrixId id, Matrix delta, Precision form) {
  direction.dense.emplace(id, std::move(delta));
  if (form == Precision::int8) direction.quantize();
}

// Preconditions each matrix's gradient as it arrives and keeps it in the wanted form.
class DirectionSink : public GradientSink {
 public:
  DirectionSink(const CorpusStatistics& statistics, Precision form) : statistics_(statistics), form_(form) {}

  void accept(const LinearGradient& gradient) override {
    Matrix delta = weight_gradient(gradient);
    const CorpusStatistics::Block& block = statistics_.blocks.at(gradient.id);
    parallel_ranges(delta.rows(), 16, [&](size_t begin, size_t end) {
      for (size_t o = begin; o < end; ++o) {
        const float factor = -block.relative_step / block.row[o];
        for (size_t i = 0; i < delta.cols(); ++i) delta.row(o)[i] *= factor / block.column[i];
      }
    });
    add_matrix(direction_, gradient.id, std::move(delta), form_);
  }
  Adapter take() { return std::move(direction_); }

 private:
  const CorpusStatistics& statistics_;
  Precision form_;
  Adapter direction_;
};

}  // namespace

Adapter neighbour_direction(const Model& model, const Store& store, const CorpusStatistics& statistics,
                            std::span<const Chunk> neighbours, std::optional<uint64_t> gradient_budget, Precision form,
                            const Watch& watch, size_t* computed) {
  const auto rows = rows_of(model, store, statistics, neighbours, gradient_budget, watch, computed);
  const float weight = -1.0f / static_cast<float>(std::max<size_t>(neighbours.size(), 1));
  Adapter direction;
  for (const auto& [id, block] : statistics.blocks) {
    add_matrix(direction, id, sum_gradient_rows(rows, statistics, id, weight * block.relative_step), form);
    for (const StoredRow& row : rows) row.drop_pages();
  }
  return direction;
}

Adapter prompt_direction(const Model& model, const CorpusStatistics& statistics, std::span<const Token> tokens,
                         Precision form, const CancelToken& cancel, ConstMatrixView hidden) {
  DirectionSink sink(statistics, form);
  GradientSink* sinks[] = {&sink};
  mean_loss_gradient(model, with_bos(model, tokens), 1, statistics.first_layer, nullptr, hidden, sinks, cancel, form);
  return sink.take();
}

}  // namespace hone
