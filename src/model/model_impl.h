// What Model holds, and the layout of one packed batch.
#pragma once

#include <memory>
#include <vector>

#include "hone/model.h"
#include "model/architecture.h"
#include "model/attention.h"
#include "model/gguf.h"
#include "model/weights.h"

namespace hone {

struct Model::Impl {
  explicit Impl(Gguf gguf);

  Gguf file;
  Architecture architecture;
  Precision precision = Precision::fp32;
  std::unique_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<const Weights> weights;
  const GgufTensor* embedding = nullptr;
  std::string base_hash;

  const LayerWeights& layer(int l) const { return weights->layers[static_cast<size_t>(l)]; }
  const FrozenLinear& linear(MatrixId id) const { return layer(id.layer).linear[static_cast<size_t>(id.kind)]; }
  AttentionShape attention_shape(int layer) const;
  // Throws Error{bad_input} naming the first matrix that the model does not have in this shape.
  void check_fits(const Adapter& adapter) const;
  // Throws Error{bad_input} unless these can be rows of the last layer's output.
  void check_hidden(ConstMatrixView hidden) const;
};

// Neighbouring rows that share one adapter.
struct AdapterRun {
  const Adapter* adapter;
  size_t first_row;
  size_t rows;
};

struct PackedBatch {
  // The activation rows: tokens of shared prefixes are left out. Throws Error{bad_input} if a sequence is longer than
  // `context` together with its cache.
  PackedBatch(std::span<const Sequence> batch, size_t context);

  std::vector<size_t> start;      // [B + 1] first row of each sequence
  std::vector<size_t> positions;  // [P]
  std::vector<float> steps;       // [P] scale of the adapter
  std::vector<AdapterRun> adapters;

  size_t rows() const { return positions.size(); }
  // Some of its rows, ascending.
  PackedBatch part(std::span<const size_t> of_rows) const;

 private:
  PackedBatch() = default;
};

// Angles of a batch's rows for global and local layers.
struct BatchRotation {
  BatchRotation(const Architecture& architecture, const Weights& weights, const PackedBatch& batch);
  const RopeTable& of(const Architecture& architecture, int layer) const {
    return architecture.is_local(layer) ? local : global;
  }
  RopeTable global, local;
};

// y += steps · (ΔW x + B A x) for the rows that have such an addition.
void add_adapters(const PackedBatch& batch, MatrixId id, LinearInput& x, MatrixView y);
// dx += steps · (ΔWᵀ dy + Aᵀ Bᵀ dy).
void add_adapters_backward(const PackedBatch& batch, MatrixId id, ConstMatrixView dy, MatrixView dx);

}  // namespace hone
