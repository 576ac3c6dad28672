// What the base has read of one text, kept so that a text that starts alike goes on from there.
#pragma once

#include <vector>

#include "hone/model.h"

namespace hone {

struct Reading {
  Reading(const Model& model, int first_adapted_layer);

  // Reads exactly `text`, after BOS where the model's file says so. What it has in common with the start of what was
  // read before is not computed again, and the result is the same to the last bit. Throws Error{cancelled}.
  void read(const Model& model, std::span<const Token> text, const CancelToken& cancel);
  // Forgets all tokens from `length` on.
  void truncate(size_t length);

  size_t length() const { return tokens.size(); }
  // The residual stream [length, D] below the first adapted layer.
  ConstMatrixView hidden() const { return {hidden_values.data(), length(), width}; }

  std::vector<Token> tokens;         // BOS included
  KvCache below, above;              // layers [0, S) and [S, L)
  std::vector<float> hidden_values;  // [length, D]
  Matrix last_hidden;                // [1, D] of the last layer after the last token, or empty
  int first_layer;                   // S
  size_t width;                      // D
};

}  // namespace hone
