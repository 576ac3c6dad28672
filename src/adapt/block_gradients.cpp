#include "adapt/block_gradients.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/parallel.h"
#include "model/columns.h"
#include "model/gathered_rows.h"
#include "model/gemm.h"

namespace hone {
BlockGradientSink::BlockGradientSink(const Model& model, std::span<const BlockId> blocks)
    : blocks_(blocks.begin(), blocks.end()), gradients_(blocks.size()) {
  for (size_t b = 0; b < blocks_.size(); ++b) {
    if (std::find(blocks_.begin(), blocks_.begin() + static_cast<ptrdiff_t>(b), blocks_[b]) !=
        blocks_.begin() + static_cast<ptrdiff_t>(b))
      throw Error(ErrorCode::bad_input, fmt::format("block {} is named twice", name(blocks_[b])));
    extents_.push_back(extent(model, blocks_[b]));
  }
}

void BlockGradientSink::accept(const LinearGradient& gradient) {
  if (std::ranges::none_of(blocks_, [&](BlockId id) { return id.matrix == gradient.id; })) return;
  const GatheredRows inputs(gradient.inputs, gradient.input_rows);
  const size_t sequences = gradient.sequence_start.size() - 1;
  for (size_t b = 0; b < blocks_.size(); ++b) {
    if (blocks_[b].matrix != gradient.id) continue;
    const BlockExtent& e = extents_[b];
    const Columns deltas(gradient.output_gradients, e.first_out, e.out);
    const Columns read(inputs.view(), e.first_in, e.in);
    gradients_[b] = Matrix(sequences, e.out * e.in);
    parallel_for(sequences, [&](size_t s) {
      const size_t first = gradient.sequence_start[s], rows = gradient.sequence_start[s + 1] - first;
      if (rows > 0)
        linear_backward_weight(deltas.view().row_range(first, rows), read.view().row_range(first, rows),
                               {gradients_[b].row(s).data(), e.out, e.in});
    });
  }
}

int BlockGradientSink::first_layer() const {
  return std::ranges::min_element(blocks_, {}, [](BlockId id) { return id.matrix.layer; })->matrix.layer;
}

uint64_t gradient_bytes(const Model& model, std::span<const BlockId> blocks, size_t rows) {
  uint64_t values = 0;
  for (const BlockId id : blocks) {
    const BlockExtent e = extent(model, id);
    values += e.out * e.in;
  }
  return values * rows * sizeof(float);
}

Adapter weighted_gradients(const Model& model, std::span<const BlockId> blocks, std::span<const size_t> chosen,
                           std::span<const Matrix> gradients, std::span<const double> weights) {
  Adapter adapter;
  for (const size_t b : chosen) {
    const auto [out, in] = model.shape(blocks[b].matrix);
    const BlockExtent e = extent(model, blocks[b]);
    Matrix& addition = adapter.dense.try_emplace(blocks[b].matrix, out, in).first->second;
    parallel_for(e.out, [&](size_t o) {
      const std::span<float> row = addition.row(e.first_out + o).subspan(e.first_in, e.in);
      for (size_t i = 0; i < weights.size(); ++i) {
        const std::span<const float> of_example = gradients[b].row(i).subspan(o * e.in, e.in);
        const auto weight = static_cast<float>(weights[i]);
        for (size_t c = 0; c < e.in; ++c) row[c] += weight * of_example[c];
      }
    });
  }
  return adapter;
}

}  // namespace hone
