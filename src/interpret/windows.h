// Windows of tokens through the lower layers of a model.
#pragma once

#include "hone/sae.h"

namespace hone {

// Throws Error{bad_input} unless the model has a residual stream after so many layers.
void check_layers(const Model& model, int layers);
// Throws Error{bad_input} for a window that, with BOS, exceeds the model's context.
void check_window(const Model& model, std::span<const Token> window);
// BOS, if the model's texts start so, and the window.
std::vector<Token> with_start(const Model& model, std::span<const Token> window);

// The residual stream of several windows after the first `layers` layers. The first position of a window, which the
// others use as a sink of attention, is unlike them and no row of it.
class WindowStates {
 public:
  WindowStates(const Model& model, int layers, std::span<const std::span<const Token>> windows,
               const CancelToken& cancel);

  size_t windows() const { return tokens_.size(); }
  // Position 0 included.
  const std::vector<Token>& tokens(size_t w) const { return tokens_[w]; }
  // Of all windows' positions, one after the other; position p of window w is row position(w, p).
  const Matrix& states() const { return states_; }
  size_t position(size_t w, size_t p) const { return start_[w] + p; }
  // The same windows, for the layers above.
  std::vector<Sequence> batch() const;

 private:
  std::vector<std::vector<Token>> tokens_;
  std::vector<size_t> start_;
  Matrix states_;
};

}  // namespace hone
