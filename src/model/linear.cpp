#include "model/linear.h"

namespace hone {

void LinearInput::forward(const FrozenLinear& layer, MatrixView y) {
  if (layer.f32) {
    linear_forward(x_, {layer.f32, layer.out, layer.in}, y);
  } else {
    if (!quantized_) quantized_ = quantize_rows(x_);
    int8_forward(*quantized_, layer.int8, y);
  }
  if (!layer.bias) return;
  for (size_t p = 0; p < y.rows; ++p)
    for (size_t o = 0; o < layer.out; ++o) y.row(p)[o] += layer.bias[o];
}

}  // namespace hone
