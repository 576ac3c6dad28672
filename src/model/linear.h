// A frozen linear layer, in fp32 or int8, and the input rows it is given.
#pragma once

#include <cstdint>
#include <vector>

#include "hone/base.h"
#include "model/gemm.h"

namespace hone {

// Views into Weights; the layer owns nothing. Either f32 is set, or i8, scales and row_sums are.
struct FrozenLinear {
  size_t out = 0;
  size_t in = 0;
  const float* f32 = nullptr;         // [out, in]
  const int8_t* i8 = nullptr;         // [out, in]: weight = scales[row] · i8
  const float* scales = nullptr;      // [out]
  const int32_t* row_sums = nullptr;  // [out]: Σ of a row of i8
  const float* bias = nullptr;        // [out], or nullptr

  WeightView view() const { return {f32, i8, scales, out, in}; }
};

// Rows that go into one or several frozen layers; quantised once if any of them is int8.
class LinearInput {
 public:
  explicit LinearInput(ConstMatrixView x) : x_(x) {}
  ConstMatrixView values() const { return x_; }
  // y [P, out] = x Wᵀ + bias.
  void forward(const FrozenLinear& layer, MatrixView y);

 private:
  void quantize();

  ConstMatrixView x_;
  std::vector<uint8_t> quantized_;  // [P, in]: x = scales_[p] · (quantized − 128)
  std::vector<float> scales_;       // [P]
};

// i8 [out, in], scales [out] and row_sums [out] from fp32 rows: symmetric, the largest magnitude of a row becomes 127.
void quantize_weights(ConstMatrixView w, int8_t* i8, float* scales, int32_t* row_sums);

}  // namespace hone
