#include "interpret/windows.h"

#include <fmt/format.h>

#include <algorithm>

namespace hone {
namespace {

// Tokens that a window can have, BOS apart.
size_t room_for_window(const Model& model) {
  return static_cast<size_t>(model.config().context) - model.encode("").size();
}

}  // namespace

void check_layers(const Model& model, int layers) {
  if (layers < 1 || layers > model.config().layers)
    throw Error(ErrorCode::bad_input, fmt::format("layer: {}; {} has the residual streams after 1 to {} layers", layers,
                                                  model.name(), model.config().layers));
}

void check_window(const Model& model, std::span<const Token> window) {
  const size_t room = room_for_window(model);
  if (window.size() > room)
    throw Error(ErrorCode::bad_input,
                fmt::format("texts: a window of {} tokens; the model's context holds {}", window.size(), room));
}

std::vector<Token> with_start(const Model& model, std::span<const Token> window) {
  std::vector<Token> tokens = model.encode("");
  tokens.insert(tokens.end(), window.begin(), window.end());
  return tokens;
}

WindowStates::WindowStates(const Model& model, int layers, std::span<const std::span<const Token>> windows,
                           const CancelToken& cancel) {
  size_t rows = 0;
  for (const std::span<const Token> window : windows) {
    tokens_.push_back(with_start(model, window));
    start_.push_back(rows);
    rows += tokens_.back().size();
  }
  const std::vector<Sequence> sequences = batch();
  states_ = model.forward(sequences, 0, layers, model.embed(sequences), nullptr, cancel);
}

std::vector<Sequence> WindowStates::batch() const {
  std::vector<Sequence> sequences;
  for (const std::vector<Token>& tokens : tokens_) sequences.push_back({.tokens = tokens});
  return sequences;
}

std::vector<std::vector<Token>> token_windows(const Model& model, std::span<const std::string> texts, size_t tokens) {
  const size_t most = std::min(tokens, room_for_window(model));
  if (most == 0) throw Error(ErrorCode::bad_input, "window: 0 tokens; give at least 1");
  std::vector<std::vector<Token>> windows;
  for (const std::string& text : texts) {
    const std::vector<Token> all = model.tokenizer().encode(text);
    for (auto at = all.begin(); at != all.end();) {
      const auto end = at + std::min<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(most), all.end() - at);
      windows.emplace_back(at, end);
      at = end;
    }
  }
  return windows;
}

}  // namespace hone
