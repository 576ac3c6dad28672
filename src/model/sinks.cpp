#include <vector>

#include "hone/model.h"
#include "model/gemm.h"

namespace hone {
namespace {

// The activation rows that belong to the gradient rows: a view where they are the same, else a gathered copy.
class MatchedInputs {
 public:
  explicit MatchedInputs(const LinearGradient& gradient) : view_(gradient.inputs) {
    if (gradient.input_rows.empty()) return;
    gathered_ = Matrix::uninitialized(gradient.input_rows.size(), gradient.inputs.cols);
    for (size_t q = 0; q < gradient.input_rows.size(); ++q)
      std::ranges::copy(gradient.inputs.row(gradient.input_rows[q]), gathered_.row(q).begin());
    view_ = gathered_;
  }
  ConstMatrixView view() const { return view_; }

 private:
  Matrix gathered_;
  ConstMatrixView view_;
};

}  // namespace

LoraSink::LoraSink(const Adapter& adapter) : adapter_(adapter) {}

// With y = W x + B A x: ∂/∂B = dyᵀ (x Aᵀ), ∂/∂A = (dy B)ᵀ x. ∂/∂B is computed transposed, with the long side in the
// vectors.
void LoraSink::accept(const LinearGradient& gradient) {
  const auto pair = adapter_.low_rank.find(gradient.id);
  if (pair == adapter_.low_rank.end()) return;
  const auto& [a, b] = pair->second;
  const MatchedInputs inputs(gradient);
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
  const MatchedInputs inputs(gradient);
  const ConstMatrixView x = inputs.view(), dy = gradient.output_gradients;
  auto [at, fresh] = gradients_.try_emplace(gradient.id);
  if (fresh) at->second = Matrix::uninitialized(dy.cols, x.cols);
  linear_backward_weight(dy, x, at->second, !fresh);
}

}  // namespace hone
