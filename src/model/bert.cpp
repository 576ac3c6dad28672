#include "model/bert.h"

#include <fmt/format.h>

#include <cmath>

#include "base/parallel.h"
#include "model/attention.h"

namespace hone {

OwnedLinear::OwnedLinear(Matrix weight, std::vector<float> bias, Precision precision)
    : out_(weight.rows()), in_(weight.cols()), bias_(std::move(bias)) {
  if (precision == Precision::fp32) {
    f32_ = std::move(weight);
    return;
  }
  int8_.resize(weight.size());
  columns_.resize(weight.size());
  scales_.resize(out_);
  row_sums_.resize(out_);
  quantize_weights(weight, int8_.data(), scales_.data(), row_sums_.data());
  transpose(int8_.data(), out_, in_, columns_.data());
}

FrozenLinear OwnedLinear::view() const {
  FrozenLinear layer;
  layer.out = out_;
  layer.in = in_;
  layer.bias = bias_.data();
  if (!f32_.empty())
    layer.f32 = f32_.data();
  else
    layer.int8 = {out_, in_, int8_.data(), columns_.data(), scales_.data(), row_sums_.data()};
  return layer;
}

namespace {

Matrix project(LinearInput& from, const OwnedLinear& layer) {
  const FrozenLinear linear = layer.view();
  Matrix y = Matrix::uninitialized(from.values().rows, linear.out);
  from.forward(linear, y);
  return y;
}

// x = norm(x + y).
void add_and_norm(ConstMatrixView y, const BertNorm& norm, float eps, MatrixView x) {
  add(y, x);
  layer_norm(x, norm.weight, norm.bias, eps, x);
}

Matrix embeddings(const Bert& bert, std::span<const std::vector<Token>> texts, std::span<const size_t> start) {
  const auto width = static_cast<size_t>(bert.config.width);
  Matrix x = Matrix::uninitialized(start.back(), width);
  parallel_ranges(texts.size(), 1, [&](size_t begin, size_t end) {
    for (size_t b = begin; b < end; ++b)
      for (size_t t = 0; t < texts[b].size(); ++t) {
        const auto token = bert.tokens.row(static_cast<size_t>(texts[b][t])), position = bert.positions.row(t);
        const auto to = x.row(start[b] + t);
        for (size_t d = 0; d < width; ++d) to[d] = token[d] + position[d];
      }
  });
  layer_norm(x, bert.embedding_norm.weight, bert.embedding_norm.bias, bert.config.norm_eps, x);
  return x;
}

void check(const Bert& bert, std::span<const std::vector<Token>> texts) {
  for (const std::vector<Token>& text : texts) {
    if (text.size() > bert.positions.rows())
      throw Error(ErrorCode::bad_input, fmt::format("a text of {} tokens; '{}' reads at most {}", text.size(),
                                                    bert.config.name, bert.positions.rows()));
    for (const Token token : text)
      if (token < 0 || static_cast<size_t>(token) >= bert.tokens.rows())
        throw Error(ErrorCode::bad_input,
                    fmt::format("token {} is outside the vocabulary of {}", token, bert.tokens.rows()));
  }
}

}  // namespace

Matrix Bert::forward(std::span<const std::vector<Token>> texts, int count, const CancelToken& cancel) const {
  check(*this, texts);
  std::vector<size_t> start = {0};
  for (const std::vector<Token>& text : texts) start.push_back(start.back() + text.size());
  Matrix x = embeddings(*this, texts, start);
  const auto heads = static_cast<size_t>(config.heads), head_dim = x.cols() / heads;
  const AttentionShape shape{.heads = heads,
                             .kv_heads = heads,
                             .head_dim = head_dim,
                             .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
                             .causal = false};
  for (int l = 0; l < count && x.rows() > 0; ++l) {
    cancel.check();
    const BertLayer& layer = layers[static_cast<size_t>(l)];
    LinearInput input(x.view());
    const Matrix q = project(input, layer.q), k = project(input, layer.k), v = project(input, layer.v);
    std::vector<AttentionSequence> sequences;
    for (size_t b = 0; b < texts.size(); ++b)
      sequences.push_back(
          {start[b], texts[b].size(), 0, k.data() + start[b] * k.cols(), v.data() + start[b] * v.cols()});
    Matrix attended = Matrix::uninitialized(x.rows(), x.cols());
    attention(shape, sequences, q, attended, {});
    LinearInput attended_input(attended.view());
    add_and_norm(project(attended_input, layer.o), layer.attention_norm, config.norm_eps, x);

    LinearInput ffn_input(x.view());
    Matrix hidden = project(ffn_input, layer.up);
    gelu(config.activation, hidden);
    LinearInput hidden_input(hidden.view());
    add_and_norm(project(hidden_input, layer.down), layer.ffn_norm, config.norm_eps, x);
  }
  return x;
}

}  // namespace hone
