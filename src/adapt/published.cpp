#include "adapt/gradients.h"

namespace hone {

Adapter published_protocol(const Model& model, std::span<const std::vector<Token>> neighbours,
                           const PublishedOptions& options, const Watch& watch,
                           const std::function<void(size_t read, const Adapter& adapter)>& after) {
  Adapter adapter = Adapter::lora(model, options.first_layer, options.rank, options.seed);
  Adam adam(options.learning_rate);
  for (size_t i = 0; i < neighbours.size(); ++i) {
    watch.report("adapt", i, neighbours.size());
    const std::vector<Token> tokens = with_bos(model, neighbours[i]);
    if (tokens.size() >= 2) {
      LoraSink sink(adapter);
      GradientSink* sinks[] = {&sink};
      mean_loss_gradient(model, tokens, 1, options.first_layer, &adapter, {}, sinks, watch.cancel);
      adam.step(adapter, sink.gradients());
    }
    if (after) after(i + 1, adapter);
  }
  return adapter;
}

}  // namespace hone
