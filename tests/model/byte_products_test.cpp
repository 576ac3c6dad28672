// Products of bytes against sums in 64 bits: every remainder of rows, outputs and depth, and the largest sums.
#include "model/byte_products.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "base/random.h"
#include "base/vnni.h"
#include "model/byte_dots.h"

namespace hone::test::byte_products_test {
namespace {

struct Shape {
  size_t rows, out, in, stride;
};

using Products = void (*)(const uint8_t*, size_t, const Int8Weights&, int32_t*);

void expect_exact(Products multiply, const Shape& shape, const std::vector<uint8_t>& x,
                  const std::vector<int8_t>& values) {
  Int8Weights w;
  w.out = shape.out;
  w.in = shape.in;
  w.values = values.data();
  w.stride = shape.stride;
  std::vector<int32_t> sums(shape.rows * shape.out, -1);
  multiply(x.data(), shape.rows, w, sums.data());
  for (size_t r = 0; r < shape.rows; ++r)
    for (size_t o = 0; o < shape.out; ++o) {
      int64_t sum = 0;
      for (size_t k = 0; k < shape.in; ++k) sum += int64_t{x[r * shape.in + k]} * values[o * shape.stride + k];
      ASSERT_EQ(sums[r * shape.out + o], sum) << "row " << r << ", output " << o;
    }
}

void expect_exact_for_every_shape(Products multiply, const std::vector<size_t>& row_counts) {
  RandomStream random(0, "bytes");
  for (const size_t rows : row_counts)
    for (const size_t out : {1, 15, 16, 24, 49, 100, 131})
      for (const size_t in : {1, 2, 31, 64, 256, 270, 577}) {
        SCOPED_TRACE(testing::Message() << rows << " × " << in << " → " << out);
        const Shape shape{rows, out, in, in + 3};
        std::vector<uint8_t> x(rows * in);
        std::vector<int8_t> values(out * shape.stride);
        for (uint8_t& value : x) value = static_cast<uint8_t>(random.below(256));
        for (int8_t& value : values) value = static_cast<int8_t>(static_cast<int>(random.below(256)) - 128);
        expect_exact(multiply, shape, x, values);
      }
}

void expect_room_for_the_largest_sums(Products multiply, const std::vector<size_t>& row_counts) {
  for (const size_t rows : row_counts)
    for (const int8_t value : {int8_t{-128}, int8_t{127}}) {
      const Shape shape{rows, 50, 49152, 49152};
      expect_exact(multiply, shape, std::vector<uint8_t>(rows * shape.in, 255),
                   std::vector<int8_t>(shape.out * shape.in, value));
    }
}

TEST(ByteProducts, AreExactForEveryShape) {
  expect_exact_for_every_shape(multiply_bytes_exactly, {1, 2, 3, 4, 5, 9, 16, 17, 23, 263});
}

TEST(ByteProducts, TheLargestSumsHaveRoom) { expect_room_for_the_largest_sums(multiply_bytes_exactly, {1, 4, 40}); }

TEST(ByteDots, AreExactForEveryShape) {
  if (!has_vnni()) GTEST_SKIP() << "no AVX-512 VNNI here";
  std::vector<size_t> rows(max_dot_rows);
  std::iota(rows.begin(), rows.end(), 1);
  const Products in_two_parts = [](const uint8_t* x, size_t count, const Int8Weights& w, int32_t* sums) {
    const size_t middle = w.out / 2 / dotted_outputs * dotted_outputs;
    dot_bytes(x, count, w, middle, w.out, sums);
    dot_bytes(x, count, w, 0, middle, sums);
  };
  expect_exact_for_every_shape(in_two_parts, rows);
  expect_room_for_the_largest_sums(in_two_parts, {1, 4, max_dot_rows});
}

}  // namespace
}  // namespace hone::test::byte_products_test
