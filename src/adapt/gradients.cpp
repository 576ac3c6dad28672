#include "adapt/gradients.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace hone {

std::vector<Token> with_bos(const Model& model, std::span<const Token> tokens) {
  std::vector<Token> all = model.encode("");
  all.insert(all.end(), tokens.begin(), tokens.end());
  return all;
}

float mean_loss_gradient(const Model& model, std::span<const Token> tokens, size_t first_target, int first_layer,
                         const Adapter* adapter, ConstMatrixView hidden, std::span<GradientSink* const> sinks,
                         const CancelToken& cancel, Precision products) {
  if (first_target < 1 || first_target >= tokens.size())
    throw Error(ErrorCode::bad_input, "a gradient needs at least one token to predict and one before it");
  const Sequence sequence{tokens, adapter};
  const std::span<const Sequence> batch(&sequence, 1);
  Tape tape;
  Matrix x = Matrix::uninitialized(hidden.rows, hidden.cols);
  if (hidden.rows > 0)
    std::copy_n(hidden.data, x.size(), x.data());
  else
    x = model.forward(batch, 0, first_layer, model.embed(batch), nullptr, cancel);
  x = model.forward(batch, first_layer, model.config().layers, std::move(x), &tape, cancel);

  const size_t count = tokens.size() - first_target;
  const std::vector<float> weights(count, 1.0f / static_cast<float>(count));
  Matrix d_x(x.rows(), x.cols());
  const std::vector<float> losses =
      model.losses_with_gradient(x.view().row_range(first_target - 1, count), tokens.subspan(first_target), weights,
                                 d_x.view().row_range(first_target - 1, count), products);
  double total = 0;
  for (const float loss : losses) total += loss;
  if (!adapter && !std::isfinite(total))
    throw Error(ErrorCode::corrupt,
                fmt::format("{} gives a text a loss that is not finite; is the file damaged?", model.name()));
  model.backward(tape, std::move(d_x), sinks, cancel, products);
  return static_cast<float>(total / static_cast<double>(count));
}

std::map<MatrixId, Matrix> weight_gradients(const Model& model, std::span<const Token> tokens, size_t first_target,
                                            int first_layer, const CancelToken& cancel) {
  WeightGradientSink sink;
  GradientSink* sinks[] = {&sink};
  mean_loss_gradient(model, tokens, first_target, first_layer, nullptr, {}, sinks, cancel);
  return sink.take();
}

}  // namespace hone
