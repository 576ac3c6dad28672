// A frozen layer's way forward against the same products in double.
#include "model/linear.h"

#include <gtest/gtest.h>

#include "tests/gaussian.h"

namespace hone::test::linear_test {
namespace {

double product(std::span<const float> x, std::span<const float> w) {
  double sum = 0;
  for (size_t k = 0; k < x.size(); ++k) sum += static_cast<double>(x[k]) * w[k];
  return sum;
}

TEST(LinearForward, ScalesRowsAndAddsTheBias) {
  for (const size_t rows : {1u, 7u, 61u})
    for (const size_t out : {1u, 5u, 130u})
      for (const size_t in : {3u, 300u}) {
        SCOPED_TRACE(testing::Message() << rows << " rows, " << in << " to " << out);
        const Matrix x = gaussian(rows + 3, in, "x"), w = gaussian(out, in, "w"), bias = gaussian(1, out, "bias"),
                     scale = gaussian(1, rows, "scale"), before = gaussian(rows, out, "before");
        Matrix y = before.copy();
        linear_forward(PackedRows(x), 2, rows, w, y, true, scale.data(), bias.data());
        for (size_t p = 0; p < rows; ++p)
          for (size_t o = 0; o < out; ++o)
            EXPECT_NEAR(y.row(p)[o],
                        before.row(p)[o] + scale.data()[p] * product(x.row(p + 2), w.row(o)) + bias.data()[o], 2e-4);
      }
}

TEST(LinearLayer, AddsItsBiasInBothPrecisions) {
  constexpr size_t rows = 21, out = 130, in = 96;
  const Matrix x = gaussian(rows, in, "x"), w = gaussian(out, in, "w"), bias = gaussian(1, out, "bias");
  std::vector<int8_t> values(w.size()), columns(w.size());
  std::vector<float> scales(out);
  std::vector<int32_t> row_sums(out);
  quantize_weights(w, values.data(), scales.data(), row_sums.data());
  transpose(values.data(), out, in, columns.data());
  FrozenLinear fp32, int8;
  fp32.out = int8.out = out;
  fp32.in = int8.in = in;
  fp32.f32 = w.data();
  int8.int8 = {out, in, values.data(), columns.data(), scales.data(), row_sums.data()};
  for (FrozenLinear* layer : {&fp32, &int8}) {
    LinearInput input(x.view());
    Matrix plain = Matrix::uninitialized(rows, out), biased = Matrix::uninitialized(rows, out);
    input.forward(*layer, plain);
    layer->bias = bias.data();
    input.forward(*layer, biased);
    for (size_t p = 0; p < rows; ++p)
      for (size_t o = 0; o < out; ++o) EXPECT_NEAR(biased.row(p)[o], plain.row(p)[o] + bias.data()[o], 1e-5);
  }
}

}  // namespace
}  // namespace hone::test::linear_test
