#include "adapt/reading.h"

#include <algorithm>

#include "adapt/gradients.h"

namespace hone {

Reading::Reading(const Model& model, int first_adapted_layer)
    : below(model, 0, first_adapted_layer),
      above(model, first_adapted_layer, model.config().layers),
      first_layer(first_adapted_layer),
      width(static_cast<size_t>(model.config().width)) {}

void Reading::truncate(size_t length) {
  if (length >= tokens.size()) return;
  tokens.resize(length);
  below.truncate(length);
  above.truncate(length);
  hidden_values.resize(length * width);
  last_hidden = Matrix();
}

void Reading::read(const Model& model, std::span<const Token> text, const CancelToken& cancel) {
  const std::vector<Token> wanted = with_bos(model, text);
  if (wanted == tokens && !last_hidden.empty()) return;
  const auto common = static_cast<size_t>(std::ranges::mismatch(tokens, wanted).in2 - wanted.begin());
  // At least one token is read: it leaves the last hidden state.
  truncate(std::min(common, wanted.empty() ? 0 : wanted.size() - 1));
  if (wanted.empty()) return;

  Sequence sequence{std::span(wanted).subspan(length()), nullptr, 1, &below};
  const std::span<const Sequence> batch(&sequence, 1);
  Matrix rows = model.forward(batch, 0, first_layer, model.embed(batch), nullptr, cancel);
  hidden_values.insert(hidden_values.end(), rows.data(), rows.data() + rows.size());
  sequence.cache = &above;
  rows = model.forward(batch, first_layer, model.config().layers, std::move(rows), nullptr, cancel);
  last_hidden = Matrix::uninitialized(1, width);
  std::ranges::copy(rows.row(rows.rows() - 1), last_hidden.row(0).begin());
  tokens = wanted;
}

}  // namespace hone
