// Products of bytes against sums in 64 bits: every remainder of rows, outputs and depth, and the largest sums.
#include "model/byte_products.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace hone::test {
namespace {

struct Shape {
  size_t rows, out, in, stride;
};

void expect_exact(const Shape& shape, const std::vector<uint8_t>& x, const std::vector<int8_t>& values) {
  Int8Weights w;
  w.out = shape.out;
  w.in = shape.in;
  w.values = values.data();
  w.stride = shape.stride;
  std::vector<int32_t> sums(shape.rows * shape.out, -1);
  multiply_bytes_exactly(x.data(), shape.rows, w, sums.data());
  for (size_t r = 0; r < shape.rows; ++r)
    for (size_t o = 0; o < shape.out; ++o) {
      int64_t sum = 0;
      for (size_t k = 0; k < shape.in; ++k) sum += int64_t{x[r * shape.in + k]} * values[o * shape.stride + k];
      ASSERT_EQ(sums[r * shape.out + o], sum) << "row " << r << ", output " << o;
    }
}

TEST(ByteProducts, AreExactForEveryShape) {
  RandomStream random(0, "bytes");
  for (const size_t rows : {1, 2, 3, 4, 5, 9, 16, 17, 23, 263})
    for (const size_t out : {1, 15, 16, 24, 49, 100})
      for (const size_t in : {1, 2, 31, 256, 270, 577}) {
        SCOPED_TRACE(testing::Message() << rows << " × " << in << " → " << out);
        const Shape shape{rows, out, in, in + 3};
        std::vector<uint8_t> x(rows * in);
        std::vector<int8_t> values(out * shape.stride);
        for (uint8_t& value : x) value = static_cast<uint8_t>(random.below(256));
        for (int8_t& value : values) value = static_cast<int8_t>(static_cast<int>(random.below(256)) - 128);
        expect_exact(shape, x, values);
      }
}

TEST(ByteProducts, TheLargestSumsHaveRoom) {
  for (const size_t rows : {1, 4, 40})
    for (const int8_t value : {int8_t{-128}, int8_t{127}}) {
      const Shape shape{rows, 50, 49152, 49152};
      expect_exact(shape, std::vector<uint8_t>(rows * shape.in, 255), std::vector<int8_t>(shape.out * shape.in, value));
    }
}

}  // namespace
}  // namespace hone::test
