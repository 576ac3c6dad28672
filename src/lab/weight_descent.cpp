#include "lab/weight_descent.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "model/gathered_rows.h"
#include "model/gemm.h"

namespace hone::lab {
namespace {

// Σ over a batch's sequences of the weight gradients of the blocks' matrices alone.
class GradientSum : public GradientSink {
 public:
  explicit GradientSum(std::map<MatrixId, Matrix>& to) : to_(to) {}
  void accept(const LinearGradient& gradient) override {
    const auto at = to_.find(gradient.id);
    if (at == to_.end()) return;
    linear_backward_weight(gradient.output_gradients, GatheredRows(gradient.inputs, gradient.input_rows), at->second);
  }

 private:
  std::map<MatrixId, Matrix>& to_;
};

// One rate's weights on their way.
struct Path {
  double rate = 0;
  Adapter adapter;
  std::map<MatrixId, Matrix> gradient;
  std::vector<double> answers;
};

void step(Path& path, std::span<const BlockId> blocks, std::span<const BlockExtent> extents) {
  for (size_t b = 0; b < blocks.size(); ++b) {
    const BlockExtent& e = extents[b];
    Matrix& weights = path.adapter.dense.at(blocks[b].matrix);
    const Matrix& gradient = path.gradient.at(blocks[b].matrix);
    for (size_t o = e.first_out; o < e.first_out + e.out; ++o)
      for (size_t i = e.first_in; i < e.first_in + e.in; ++i)
        weights.row(o)[i] += static_cast<float>(path.rate) * gradient.row(o)[i];
  }
}

}  // namespace

std::vector<std::vector<double>> weight_descent(const Model& model, const LabelledPrompt& prompt,
                                                std::span<const double> targets, std::span<const BlockId> blocks,
                                                const Readout& readout, std::span<const double> rates, size_t steps,
                                                const CancelToken& cancel) {
  if (targets.size() != prompt.examples.size() || targets.empty())
    throw Error(ErrorCode::bad_input, fmt::format("{} targets for {} examples; give one each, at least one",
                                                  targets.size(), prompt.examples.size()));
  if (blocks.empty() || rates.empty())
    throw Error(ErrorCode::bad_input, "descent needs at least one block and one step size");
  const int layers = model.config().layers;
  int first_layer = layers;
  std::vector<BlockExtent> extents;
  for (const BlockId& block : blocks) {
    extents.push_back(extent(model, block));
    first_layer = std::min(first_layer, block.matrix.layer);
  }
  const std::vector<std::vector<Token>> texts = prompt.texts();
  std::vector<Path> paths(rates.size());
  std::vector<Sequence> batch;
  for (size_t p = 0; p < paths.size(); ++p) {
    paths[p].rate = rates[p];
    for (const BlockId& block : blocks) {
      const auto [out, in] = model.shape(block.matrix);
      paths[p].adapter.dense.try_emplace(block.matrix, out, in);
      paths[p].gradient.try_emplace(block.matrix, out, in);
    }
    for (const std::vector<Token>& text : texts) batch.push_back({.tokens = text, .adapter = &paths[p].adapter});
  }
  share_prefixes(batch);

  // Below the blocks every path has the same activations.
  std::vector<Sequence> base(batch.begin(), batch.begin() + static_cast<ptrdiff_t>(texts.size()));
  for (Sequence& sequence : base) sequence.adapter = nullptr;
  const Matrix one = model.forward(base, 0, first_layer, model.embed(base), nullptr, cancel);
  Matrix below = Matrix::uninitialized(one.rows() * paths.size(), one.cols());
  for (size_t p = 0; p < paths.size(); ++p) std::copy_n(one.data(), one.size(), below.row(p * one.rows()).data());

  const BatchRows rows(batch);
  std::vector<GradientSum> gradients;
  std::vector<PartOfBatch> parts;
  gradients.reserve(paths.size());
  parts.reserve(paths.size());
  for (size_t p = 0; p < paths.size(); ++p)
    parts.emplace_back(gradients.emplace_back(paths[p].gradient), p * texts.size(), texts.size());
  std::vector<GradientSink*> sinks;
  sinks.reserve(parts.size());
  for (PartOfBatch& part : parts) sinks.push_back(&part);

  Tape tape;
  for (size_t t = 0; t <= steps; ++t) {
    const bool last = t == steps;
    const Matrix hidden = model.forward(batch, first_layer, layers, below.copy(), last ? nullptr : &tape, cancel);
    Matrix ends = Matrix::uninitialized(batch.size(), hidden.cols());
    for (size_t b = 0; b < batch.size(); ++b)
      std::ranges::copy(hidden.row(rows.last_activation_row(b)), ends.row(b).begin());
    const Matrix logits = model.logits(ends, readout.labels());
    Matrix d_logits = Matrix::uninitialized(logits.rows(), logits.cols());
    for (size_t b = 0; b < batch.size(); ++b) {
      const size_t text = b % texts.size();
      const double value = readout.value(logits.row(b), d_logits.row(b));
      Path& path = paths[b / texts.size()];
      if (!std::isfinite(value))
        throw Error(
            ErrorCode::bad_input,
            fmt::format("descent with ρ = {:.6g} left the finite numbers at step {}; take a smaller ρ", path.rate, t));
      if (text == 0) path.answers.push_back(value);
      const double residual = text == 0 ? 0 : targets[text - 1] - value;
      for (float& d : d_logits.row(b)) d *= static_cast<float>(residual);
    }
    if (last) break;
    const Matrix d_ends = model.head_backward(ends, d_logits, readout.labels());
    Matrix d_hidden(rows.activation.size(), hidden.cols());
    for (size_t b = 0; b < batch.size(); ++b)
      std::ranges::copy(d_ends.row(b), d_hidden.row(rows.last_gradient_row(b)).begin());
    model.backward(tape, std::move(d_hidden), sinks, cancel);
    for (Path& path : paths) step(path, blocks, extents);
  }
  std::vector<std::vector<double>> answers;
  answers.reserve(paths.size());
  for (Path& path : paths) answers.push_back(std::move(path.answers));
  return answers;
}

}  // namespace hone::lab
