#include <vector>

#include "hone/model.h"
#include "model/gathered_rows.h"
#include "model/gemm.h"

namespace hone {

LoraSink::LoraSink(const Adapter& adapter) : adapter_(adapter) {}

// With y = W x + B A x: ∂/∂B = dyᵀ (x Aᵀ), ∂/∂A = (dy B)ᵀ x. ∂/∂B is computed transposed, with the long side in the
// vectors.
void LoraSink::accept(const LinearGradient& gradient) {
  const auto pair = adapter_.low_rank.find(gradient.id);
  if (pair == adapter_.low_rank.end()) return;
  const auto& [a, b] = pair->second;
  const GatheredRows inputs(gradient.inputs, gradient.input_rows);
  const ConstMatrixView x = inputs.view(), dy = gradient.output_gradients;
  auto [at, fresh] = gradients_.try_emplace(gradient.id);
  if (fresh) at->second = {Matrix(a.rows(), a.cols()), Matrix(b.rows(), b.cols())};
  Matrix inner = Matrix::uninitialized(x.rows, a.rows());
  linear_forward(x, a, inner);
  Matrix db_transposed = Matrix::uninitialized(b.cols(), b.rows());
  linear_backward_weight(inner, dy, db_transposed);
  for (size_t o = 0; o < b.rows(); ++o)
    for (size_t r = 0; r < b.cols(); ++r) at->second.b.row(o)[r] += db_transposed.row(r)[o];
  linear_backward_input(dy, weight_view(b), inner);
  linear_backward_weight(inner, x, at->second.a, true);
}

void WeightGradientSink::accept(const LinearGradient& gradient) {
  const GatheredRows inputs(gradient.inputs, gradient.input_rows);
  const ConstMatrixView x = inputs.view(), dy = gradient.output_gradients;
  auto [at, fresh] = gradients_.try_emplace(gradient.id);
  if (fresh) at->second = Matrix::uninitialized(dy.cols, x.cols);
  linear_backward_weight(dy, x, at->second, !fresh);
}

}  // namespace hone
