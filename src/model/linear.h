// A frozen linear layer, in fp32 or int8, and the input rows it is given.
#pragma once

#include <optional>

#include "hone/model.h"
#include "model/gemm.h"
#include "model/int8.h"

namespace hone {

// Views into Weights; the layer owns nothing. Either f32 or int8.values is set.
struct FrozenLinear {
  size_t out = 0;
  size_t in = 0;
  const float* f32 = nullptr;  // [out, in]
  Int8Weights int8;
  const float* bias = nullptr;  // [out], or nullptr

  WeightView view() const { return {f32, int8.values, int8.scales, out, in}; }
};

// dx [P, in] (+)= dy [P, out] W, in int8 if that is wanted and what the layer is in.
void backward_input(const FrozenLinear& layer, ConstMatrixView dy, MatrixView dx, Precision products,
                    bool accumulate = false);

// Rows that go into one or several linear layers; laid out for fp32 or quantised at most once, when first needed.
class LinearInput {
 public:
  explicit LinearInput(ConstMatrixView x) : x_(x) {}
  ConstMatrixView values() const { return x_; }
  const PackedRows& packed();
  const Int8Rows& quantized();
  // y [P, out] = x Wᵀ + bias.
  void forward(const FrozenLinear& layer, MatrixView y);

 private:
  ConstMatrixView x_;
  std::optional<PackedRows> packed_;
  std::optional<Int8Rows> quantized_;
};

}  // namespace hone
