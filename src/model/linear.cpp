#include "model/linear.h"

#include <dnnl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/parallel.h"

namespace hone {
namespace {

constexpr int zero_point = 128;

// How many int32 results are held at a time, so that a wide layer needs no large buffer.
constexpr size_t accumulator_values = size_t{1} << 22;

}  // namespace

void quantize_weights(ConstMatrixView w, int8_t* i8, float* scales, int32_t* row_sums) {
  parallel_ranges(w.rows, 16, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      float top = 0;
      for (float value : w.row(r)) top = std::max(top, std::fabs(value));
      const float inverse = top > 0 ? 127 / top : 0;
      scales[r] = top / 127;
      row_sums[r] = 0;
      for (size_t i = 0; i < w.cols; ++i) {
        const auto value = static_cast<int8_t>(std::lrintf(w.row(r)[i] * inverse));
        i8[r * w.cols + i] = value;
        row_sums[r] += value;
      }
    }
  });
}

void LinearInput::quantize() {
  quantized_.resize(x_.rows * x_.cols);
  scales_.resize(x_.rows);
  parallel_ranges(x_.rows, 4, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p) {
      const float* x = x_.row(p).data();
      float top = 0;
      for (size_t i = 0; i < x_.cols; ++i) top = std::max(top, std::fabs(x[i]));
      const float inverse = top > 0 ? 127 / top : 0;
      scales_[p] = top / 127;
      uint8_t* to = quantized_.data() + p * x_.cols;
      for (size_t i = 0; i < x_.cols; ++i)
        to[i] = static_cast<uint8_t>(static_cast<int>(x[i] * inverse + (zero_point + 0.5f)));
    }
  });
}

void LinearInput::forward(const FrozenLinear& layer, MatrixView y) {
  if (layer.f32) {
    linear_forward(x_, {layer.f32, layer.out, layer.in}, y);
  } else {
    if (quantized_.empty()) quantize();
    const size_t block = std::max<size_t>(1, accumulator_values / layer.out);
    std::vector<int32_t> sums(std::min(block, x_.rows) * layer.out);
    for (size_t first = 0; first < x_.rows; first += block) {
      const size_t count = std::min(block, x_.rows - first);
      const int32_t zero = 0;
      const auto rows = static_cast<dnnl_dim_t>(count), in = static_cast<dnnl_dim_t>(layer.in),
                 out = static_cast<dnnl_dim_t>(layer.out);
      const dnnl_status_t status =
          dnnl_gemm_u8s8s32('N', 'T', 'F', rows, out, in, 1, quantized_.data() + first * layer.in, in, 0, layer.i8, in,
                            0, 0, sums.data(), out, &zero);
      if (status != dnnl_success)
        throw Error(ErrorCode::unsupported,
                    fmt::format("oneDNN cannot multiply in int8 here (status {}); use fp32", static_cast<int>(status)));
      parallel_ranges(count, 4, [&](size_t begin, size_t end) {
        for (size_t p = begin; p < end; ++p) {
          const int32_t* from = sums.data() + p * layer.out;
          float* to = y.row(first + p).data();
          const float scale = scales_[first + p];
          for (size_t o = 0; o < layer.out; ++o)
            to[o] = scale * layer.scales[o] * static_cast<float>(from[o] - zero_point * layer.row_sums[o]);
        }
      });
    }
  }
  if (!layer.bias) return;
  for (size_t p = 0; p < y.rows; ++p)
    for (size_t o = 0; o < layer.out; ++o) y.row(p)[o] += layer.bias[o];
}

}  // namespace hone
