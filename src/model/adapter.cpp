#include <fmt/format.h>

#include <cmath>

#include "base/random.h"
#include "hone/model.h"
#include "model/gemm.h"
#include "model/model_impl.h"

namespace hone {

std::string_view name(MatrixKind kind) {
  constexpr std::array<std::string_view, matrix_kinds> names = {"q", "k", "v", "o", "gate", "up", "down"};
  return names[static_cast<size_t>(kind)];
}

std::string name(MatrixId id) { return fmt::format("L{}.{}", id.layer, name(id.kind)); }

Adapter Adapter::lora(const Model& model, int first_layer, int rank, uint64_t seed) {
  if (first_layer < 0 || first_layer >= model.config().layers || rank < 1)
    throw Error(ErrorCode::bad_input, fmt::format("LoRA of rank {} from layer {} does not fit a model of {} layers",
                                                  rank, first_layer, model.config().layers));
  RandomStream random(seed, "lora");
  Adapter adapter;
  for (int layer = first_layer; layer < model.config().layers; ++layer)
    for (int kind = 0; kind < matrix_kinds; ++kind) {
      const MatrixId id{layer, static_cast<MatrixKind>(kind)};
      const auto [out, in] = model.shape(id);
      LowRank pair{Matrix(static_cast<size_t>(rank), in), Matrix(out, static_cast<size_t>(rank))};
      random.normals({pair.a.data(), pair.a.size()}, 1 / std::sqrt(static_cast<float>(in)));
      adapter.low_rank.emplace(id, std::move(pair));
    }
  return adapter;
}

Adapter Adapter::copy() const {
  Adapter other;
  for (const auto& [id, delta] : dense) other.dense.emplace(id, delta.copy());
  other.quantized = quantized;
  for (const auto& [id, pair] : low_rank) other.low_rank.emplace(id, LowRank{pair.a.copy(), pair.b.copy()});
  return other;
}

int Adapter::first_layer(int none) const {
  int first = none;
  if (!quantized.empty()) first = std::min(first, quantized.begin()->first.layer);
  if (!dense.empty()) first = std::min(first, dense.begin()->first.layer);
  if (!low_rank.empty()) first = std::min(first, low_rank.begin()->first.layer);
  return first;
}

void Adapter::quantize() {
  for (auto entry = dense.begin(); entry != dense.end(); entry = dense.erase(entry)) {
    const Matrix& delta = entry->second;
    Quantized result{delta.rows(),
                     delta.cols(),
                     std::vector<int8_t>(delta.size()),
                     std::vector<int8_t>(delta.size()),
                     std::vector<float>(delta.rows()),
                     std::vector<int32_t>(delta.rows())};
    quantize_weights(delta, result.values.data(), result.scales.data(), result.row_sums.data());
    transpose(result.values.data(), result.out, result.in, result.columns.data());
    quantized.insert_or_assign(entry->first, std::move(result));
  }
}

void Model::Impl::check_fits(const Adapter& adapter) const {
  const auto check = [&](MatrixId id, size_t out, size_t in) {
    if (id.layer < 0 || id.layer >= architecture.config.layers)
      throw Error(ErrorCode::bad_input, fmt::format("an addition to {}: the model has {} layers", hone::name(id),
                                                    architecture.config.layers));
    const FrozenLinear& layer = linear(id);
    if (out != layer.out || in != layer.in)
      throw Error(ErrorCode::bad_input, fmt::format("an addition of [{}, {}] to {}, which is [{}, {}]", out, in,
                                                    hone::name(id), layer.out, layer.in));
  };
  for (const auto& [id, delta] : adapter.dense) check(id, delta.rows(), delta.cols());
  for (const auto& [id, delta] : adapter.quantized) check(id, delta.out, delta.in);
  for (const auto& [id, pair] : adapter.low_rank) {
    check(id, pair.b.rows(), pair.a.cols());
    if (pair.a.rows() == 0 || pair.a.rows() != pair.b.cols())
      throw Error(ErrorCode::bad_input,
                  fmt::format("LoRA of {}: A has rank {}, B has {}", hone::name(id), pair.a.rows(), pair.b.cols()));
  }
}

void add_adapters(const PackedBatch& batch, MatrixId id, LinearInput& x, MatrixView y) {
  for (const AdapterRun& run : batch.adapters) {
    const MatrixView to = y.row_range(run.first_row, run.rows);
    const float* steps = batch.steps.data() + run.first_row;
    if (const auto dense = run.adapter->dense.find(id); dense != run.adapter->dense.end())
      linear_forward(x.packed(), run.first_row, run.rows, dense->second, to, true, steps);
    if (const auto found = run.adapter->quantized.find(id); found != run.adapter->quantized.end()) {
      const Adapter::Quantized& w = found->second;
      int8_forward(x.quantized(), run.first_row, run.rows,
                   {w.out, w.in, w.values.data(), w.columns.data(), w.scales.data(), w.row_sums.data()}, to, steps);
    }
    if (const auto pair = run.adapter->low_rank.find(id); pair != run.adapter->low_rank.end()) {
      Matrix inner = Matrix::uninitialized(run.rows, pair->second.a.rows());
      linear_forward(x.packed(), run.first_row, run.rows, pair->second.a, inner);
      linear_forward(inner, pair->second.b, to, true, steps);
    }
  }
}

void add_adapters_backward(const PackedBatch& batch, MatrixId id, ConstMatrixView dy, MatrixView dx) {
  for (const AdapterRun& run : batch.adapters) {
    const ConstMatrixView from = dy.row_range(run.first_row, run.rows);
    const MatrixView to = dx.row_range(run.first_row, run.rows);
    const float* steps = batch.steps.data() + run.first_row;
    if (const auto dense = run.adapter->dense.find(id); dense != run.adapter->dense.end())
      linear_backward_input(from, weight_view(dense->second), to, true, steps);
    if (const auto found = run.adapter->quantized.find(id); found != run.adapter->quantized.end()) {
      const Adapter::Quantized& w = found->second;
      linear_backward_input(from, {nullptr, w.values.data(), w.scales.data(), w.out, w.in}, to, true, steps);
    }
    if (const auto pair = run.adapter->low_rank.find(id); pair != run.adapter->low_rank.end()) {
      Matrix inner = Matrix::uninitialized(run.rows, pair->second.a.rows());
      linear_backward_input(from, weight_view(pair->second.b), inner);
      linear_backward_input(inner, weight_view(pair->second.a), to, true, steps);
    }
  }
}

}  // namespace hone
