// Logits of a few tokens: only their rows of the output matrix are read.
#include <fmt/format.h>

#include <algorithm>

#include "model/model_impl.h"

namespace hone {
namespace {

// Rows of a frozen layer without a bias, copied in the layer's precision.
class LayerRows {
 public:
  LayerRows(const FrozenLinear& layer, std::span<const Token> rows) {
    layer_.out = rows.size();
    layer_.in = layer.in;
    if (layer.f32) {
      f32_ = Matrix::uninitialized(layer_.out, layer_.in);
      for (size_t r = 0; r < rows.size(); ++r)
        std::copy_n(layer.f32 + static_cast<size_t>(rows[r]) * layer.in, layer.in, f32_.row(r).data());
      layer_.f32 = f32_.data();
      return;
    }
    for (const Token token : rows) {
      const auto row = static_cast<size_t>(token);
      values_.insert(values_.end(), layer.int8.values + row * layer.in, layer.int8.values + (row + 1) * layer.in);
      scales_.push_back(layer.int8.scales[row]);
      row_sums_.push_back(layer.int8.row_sums[row]);
    }
    columns_.resize(values_.size());
    transpose(values_.data(), layer_.out, layer_.in, columns_.data());
    layer_.int8 = {layer_.out, layer_.in, values_.data(), columns_.data(), scales_.data(), row_sums_.data()};
  }
  LayerRows(const LayerRows&) = delete;
  LayerRows& operator=(const LayerRows&) = delete;

  const FrozenLinear& layer() const { return layer_; }

 private:
  FrozenLinear layer_;
  Matrix f32_;
  std::vector<int8_t> values_, columns_;
  std::vector<float> scales_;
  std::vector<int32_t> row_sums_;
};

void check_tokens(std::span<const Token> tokens, int vocabulary) {
  if (tokens.empty())
    throw Error(ErrorCode::bad_input, "there are no tokens whose logits are wanted; give at least one");
  for (const Token token : tokens)
    if (token < 0 || token >= vocabulary)
      throw Error(ErrorCode::bad_input, fmt::format("token {} is outside the vocabulary of {}", token, vocabulary));
}

}  // namespace

Matrix Model::logits(ConstMatrixView hidden, std::span<const Token> tokens) const {
  impl_->check_hidden(hidden);
  check_tokens(tokens, config().vocabulary);
  const LayerRows rows(impl_->weights->head, tokens);
  Matrix normed = Matrix::uninitialized(hidden.rows, hidden.cols);
  rms_norm(hidden, impl_->weights->output_norm, impl_->architecture.norm_eps, normed);
  Matrix out = Matrix::uninitialized(hidden.rows, tokens.size());
  LinearInput(normed.view()).forward(rows.layer(), out);
  return out;
}

Matrix Model::head_backward(ConstMatrixView hidden, ConstMatrixView d_logits, std::span<const Token> tokens) const {
  impl_->check_hidden(hidden);
  check_tokens(tokens, config().vocabulary);
  if (d_logits.rows != hidden.rows || d_logits.cols != tokens.size())
    throw Error(ErrorCode::bad_input, fmt::format("a gradient of [{}, {}] does not fit {} rows and {} tokens",
                                                  d_logits.rows, d_logits.cols, hidden.rows, tokens.size()));
  const LayerRows rows(impl_->weights->head, tokens);
  Matrix d_normed = Matrix::uninitialized(hidden.rows, hidden.cols);
  linear_backward_input(d_logits, rows.layer().view(), d_normed);
  rms_norm_backward(hidden, impl_->weights->output_norm, impl_->architecture.norm_eps, d_normed, d_normed, false);
  return d_normed;
}

}  // namespace hone
