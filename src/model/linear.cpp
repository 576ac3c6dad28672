#include "model/linear.h"

namespace hone {

void backward_input(const FrozenLinear& layer, ConstMatrixView dy, MatrixView dx, Precision products, bool accumulate) {
  if (products == Precision::int8 && layer.int8.column_sums)
    int8_backward_input(dy, layer.int8, dx, accumulate);
  else
    linear_backward_input(dy, layer.view(), dx, accumulate);
}

const PackedRows& LinearInput::packed() {
  if (!packed_) packed_.emplace(x_);
  return *packed_;
}

const Int8Rows& LinearInput::quantized() {
  if (!quantized_) quantized_ = quantize_rows(x_);
  return *quantized_;
}

void LinearInput::forward(const FrozenLinear& layer, MatrixView y) {
  if (layer.f32)
    linear_forward(packed(), 0, x_.rows, {layer.f32, layer.out, layer.in}, y, false, nullptr, layer.bias);
  else
    int8_forward(quantized(), 0, x_.rows, layer.int8, y, nullptr, layer.bias);
}

}  // namespace hone
