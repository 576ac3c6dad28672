#include "adapt/panel.h"

#include <algorithm>

#include "adapt/gradients.h"

namespace hone {

ExpertPanel::ExpertPanel(const Model& model, int first_adapted_layer, const CancelToken& cancel)
    : model_(model), first_adapted_layer_(first_adapted_layer), cancel_(cancel) {}

size_t ExpertPanel::add_context(std::span<const Token> before, Reading from) {
  from.read(model_, before, cancel_);
  before_.push_back(from.length());
  contexts_.push_back(std::move(from));
  return contexts_.size() - 1;
}

size_t ExpertPanel::add_context(std::span<const Token> before) {
  return add_context(before, Reading(model_, first_adapted_layer_));
}

std::vector<Reading> ExpertPanel::take_readings() {
  for (size_t c = 0; c < contexts_.size(); ++c) {
    const auto plain = std::ranges::find_if(
        experts_, [&](const Expert& expert) { return expert.context == c && expert.adapter == nullptr; });
    if (plain == experts_.end()) {
      contexts_[c].truncate(before_[c]);
    } else {
      const auto e = static_cast<size_t>(plain - experts_.begin());
      contexts_[c].above = std::move(caches_[e]);
      contexts_[c].last_hidden = std::move(last_hidden_[e]);
    }
  }
  return std::move(contexts_);
}

void ExpertPanel::add_expert(Expert expert) {
  const Reading& context = contexts_.at(expert.context);
  caches_.push_back(context.above.copy());
  last_hidden_.push_back(context.last_hidden.copy());
  experts_.push_back(std::move(expert));
}

Matrix ExpertPanel::read(std::span<const Token> tokens, size_t first_scored) {
  const size_t count = tokens.size(), width = static_cast<size_t>(model_.config().width);
  std::vector<Sequence> below;
  for (Reading& context : contexts_) below.push_back({tokens, nullptr, 1, &context.below});
  Matrix shared = model_.forward(below, 0, first_adapted_layer_, model_.embed(below), nullptr, cancel_);
  for (size_t c = 0; c < contexts_.size(); ++c) {
    Reading& context = contexts_[c];
    context.tokens.insert(context.tokens.end(), tokens.begin(), tokens.end());
    const float* rows = shared.data() + c * count * width;
    context.hidden_values.insert(context.hidden_values.end(), rows, rows + count * width);
  }

  // Some experts at a time: together they share passes over the weights, all at once a long text's activations would
  // weigh more than the model.
  constexpr size_t rows_at_a_time = 768;
  const size_t together = std::max<size_t>(1, rows_at_a_time / std::max<size_t>(count, 1));
  Matrix hidden = Matrix::uninitialized(experts_.size() * count, width);
  for (size_t first = 0; first < experts_.size(); first += together) {
    std::vector<Sequence> above;
    for (size_t e = first; e < std::min(first + together, experts_.size()); ++e)
      above.push_back({tokens, experts_[e].adapter, experts_[e].step, &caches_[e]});
    Matrix rows = Matrix::uninitialized(above.size() * count, width);
    for (size_t s = 0; s < above.size(); ++s)
      std::copy_n(shared.data() + experts_[first + s].context * count * width, count * width,
                  rows.data() + s * count * width);
    rows = model_.forward(above, first_adapted_layer_, model_.config().layers, std::move(rows), nullptr, cancel_);
    std::copy_n(rows.data(), rows.size(), hidden.data() + first * count * width);
  }

  Matrix losses(experts_.size(), count - first_scored);
  for (size_t e = 0; e < experts_.size(); ++e) {
    cancel_.check();
    const ConstMatrixView rows = hidden.view().row_range(e * count, count);
    size_t scored = first_scored;
    float* to = losses.data() + e * losses.cols();
    if (scored == 0 && count > 0) {
      if (last_hidden_[e].empty())
        throw Error(ErrorCode::bad_input, "the first token of a text cannot be predicted from nothing");
      *to++ = model_.losses(last_hidden_[e], tokens.first(1)).front();
      ++scored;
    }
    if (scored < count)
      std::ranges::copy(model_.losses(rows.row_range(scored - 1, count - scored), tokens.subspan(scored)), to);
    if (count > 0) {
      if (last_hidden_[e].empty()) last_hidden_[e] = Matrix::uninitialized(1, width);
      std::ranges::copy(rows.row(count - 1), last_hidden_[e].row(0).begin());
    }
  }
  return losses;
}

Matrix ExpertPanel::next_logits() const {
  Matrix last = Matrix::uninitialized(experts_.size(), static_cast<size_t>(model_.config().width));
  for (size_t e = 0; e < experts_.size(); ++e) std::ranges::copy(last_hidden_[e].row(0), last.row(e).begin());
  return model_.logits(last);
}

}  // namespace hone
