// Weights in place of the linearised prediction: the update of the filter in use, and gradient descent step by step.
#include <algorithm>

#include "adapt/few_shot_state.h"

namespace hone {

Adapter FewShot::Impl::update() const {
  if (!latest)
    throw Error(ErrorCode::bad_input, "there is no update before the first answer, which chooses blocks and steps");
  return weighted_gradients(*model, blocks, latest->blocks, gradients, latest->update_weights);
}

Adapter FewShot::update() const { return impl_->update(); }

Adapter descend(const Model& model, const LabelOutputs& labels, std::span<const std::vector<Token>> prompts,
                std::span<const double> targets, std::span<const BlockId> blocks, double rho, size_t steps,
                const Watch& watch) {
  const int first_layer = BlockGradientSink(model, blocks).first_layer();
  const LowerLayers lower = [&](std::span<const Sequence> batch) {
    return model.forward(batch, 0, first_layer, model.embed(batch), nullptr, watch.cancel);
  };
  std::vector<size_t> all(blocks.size());
  for (size_t b = 0; b < all.size(); ++b) all[b] = b;
  Adapter adapter;
  for (size_t t = 0; t < steps; ++t) {
    watch.report("descent", t, steps);
    Adapter direction;
    for_each_pass(labels, prompts, [&](size_t first, size_t count) {
      const size_t outputs = labels.outputs();
      std::vector<Matrix> gradients;
      for (const BlockId id : blocks) {
        const BlockExtent e = extent(model, id);
        gradients.push_back(Matrix::uninitialized(count * outputs, e.out * e.in));
      }
      const LabelReadings read = read_labels(model, labels, prompts.subspan(first, count), &adapter, lower, blocks,
                                             gradients, 0, watch.cancel);
      std::vector<double> weights;
      for (size_t i = 0; i < read.outputs.values.size(); ++i)
        weights.push_back(rho * (targets[first * outputs + i] - read.outputs.values[i]));
      const Adapter part = weighted_gradients(model, blocks, all, gradients, weights);
      for (const auto& [id, addition] : part.dense) {
        Matrix& sum = direction.dense.try_emplace(id, addition.rows(), addition.cols()).first->second;
        for (size_t i = 0; i < sum.size(); ++i) sum.data()[i] += addition.data()[i];
      }
    });
    for (const auto& [id, addition] : direction.dense) {
      Matrix& sum = adapter.dense.try_emplace(id, addition.rows(), addition.cols()).first->second;
      for (size_t i = 0; i < sum.size(); ++i) sum.data()[i] += addition.data()[i];
    }
  }
  return adapter;
}

}  // namespace hone
