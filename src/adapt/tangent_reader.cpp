#include "adapt/tangent_reader.h"

namespace hone {

TangentReader::TangentReader(const Model& model, int first_layer, std::span<const Token> prefix,
                             std::vector<Adapter> directions, const CancelToken& cancel)
    : model_(model),
      first_layer_(first_layer),
      prefix_(prefix.begin(), prefix.end()),
      directions_(std::move(directions)) {
  const Sequence sequence{.tokens = prefix_};
  read({&sequence, 1}, nullptr, nullptr, &lower_, &upper_, cancel);
}

Tangents TangentReader::read(std::span<const Sequence> batch, const CancelToken& cancel) const {
  return read(batch, &lower_, &upper_, nullptr, nullptr, cancel);
}

Tangents TangentReader::read(std::span<const Sequence> batch, const TangentPrefix* lower, const TangentPrefix* upper,
                             TangentPrefix* keep_lower, TangentPrefix* keep_upper, const CancelToken& cancel) const {
  Tangents below =
      model_.forward_tangents(batch, 0, first_layer_, {model_.embed(batch), {}}, {}, lower, keep_lower, cancel);
  return model_.forward_tangents(batch, first_layer_, model_.config().layers, {std::move(below.value), {}}, directions_,
                                 upper, keep_upper, cancel);
}

}  // namespace hone
