// An autoencoder in the place of a language model's own residual stream.
#include <fmt/format.h>

#include <numeric>

#include "interpret/windows.h"

namespace hone {
namespace {

constexpr size_t windows_at_once = 8;

// Sum of −log p over what positions from 1 on predict.
double sum_of_losses(const Model& model, int layers, const WindowStates& windows, Matrix x, const CancelToken& cancel) {
  const Matrix top = model.forward(windows.batch(), layers, model.config().layers, std::move(x), nullptr, cancel);
  double sum = 0;
  for (size_t w = 0; w < windows.windows(); ++w) {
    const std::vector<Token>& tokens = windows.tokens(w);
    if (tokens.size() < 3) continue;
    const size_t count = tokens.size() - 2;
    const std::vector<float> losses =
        model.losses(top.view().row_range(windows.position(w, 1), count), std::span(tokens).subspan(2));
    sum += std::accumulate(losses.begin(), losses.end(), 0.0);
  }
  return sum;
}

// Writes replacement(row of x) over every position but the windows' first.
template <class Replace>
Matrix replaced(const WindowStates& windows, const Replace& replace) {
  Matrix x = windows.states().copy();
  for (size_t w = 0; w < windows.windows(); ++w) {
    const size_t count = windows.tokens(w).size();
    if (count > 1) replace(x.view().row_range(windows.position(w, 1), count - 1));
  }
  return x;
}

}  // namespace

SpliceEvaluation evaluate_spliced(const Sae& sae, const Model& model, int layers,
                                  std::span<const std::vector<Token>> windows, const Watch& watch) {
  check_layers(model, layers);
  if (sae.config.inputs != static_cast<size_t>(model.config().width))
    throw Error(ErrorCode::bad_input, fmt::format("the autoencoder reads rows of {} values; {} has a width of {}",
                                                  sae.config.inputs, model.name(), model.config().width));
  SpliceEvaluation result;
  for (size_t first = 0; first < windows.size(); first += windows_at_once) {
    watch.report("downstream loss", first, windows.size());
    std::vector<std::span<const Token>> some;
    for (const std::vector<Token>& window : windows.subspan(first, std::min(windows_at_once, windows.size() - first))) {
      check_window(model, window);
      if (!window.empty()) some.emplace_back(window);
    }
    if (some.empty()) continue;
    const WindowStates states(model, layers, some, watch.cancel);
    for (size_t w = 0; w < states.windows(); ++w) result.tokens += std::max<size_t>(states.tokens(w).size(), 2) - 2;
    const auto loss = [&](Matrix x) { return sum_of_losses(model, layers, states, std::move(x), watch.cancel); };
    result.loss += loss(states.states().copy());
    result.spliced += loss(replaced(states, [&](MatrixView rows) {
      const Matrix again = sae.reconstruct(rows);
      std::copy_n(again.data(), again.size(), rows.data);
    }));
    result.ablated +=
        loss(replaced(states, [](MatrixView rows) { std::fill_n(rows.data, rows.rows * rows.cols, 0.0F); }));
  }
  if (result.tokens == 0)
    throw Error(ErrorCode::bad_input, "texts: no window has a token to predict; give longer texts");
  const auto tokens = static_cast<double>(result.tokens);
  for (double* sum : {&result.loss, &result.spliced, &result.ablated}) *sum /= tokens;
  const double worth = result.ablated - result.loss;
  result.recovered = worth != 0 ? (result.ablated - result.spliced) / worth : 0;
  return result;
}

}  // namespace hone
