// Products in int8 against the same products in double on the weights that the bytes stand for.
#include "model/int8.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "tests/gaussian.h"

namespace hone::test::int8_test {
namespace {

// Weights in int8, and what they stand for.
struct Weights {
  Weights(size_t out, size_t in, float mean = 0)
      : exact(gaussian(out, in, "weights")),
        values(out * in),
        columns(out * in),
        scales(out),
        row_sums(out),
        column_sums((out + backward_outputs - 1) / backward_outputs * in) {
    for (size_t i = 0; i < exact.size(); ++i) exact.data()[i] += mean;
    quantize_weights(exact, values.data(), scales.data(), row_sums.data());
    transpose(values.data(), out, in, columns.data());
    sum_columns(columns.data(), out, in, column_sums.data());
    for (size_t o = 0; o < out; ++o)
      for (size_t i = 0; i < in; ++i) exact.row(o)[i] = scales[o] * static_cast<float>(values[o * in + i]);
  }
  Int8Weights view() const {
    return {exact.rows(),  exact.cols(),    values.data(),     columns.data(),
            scales.data(), row_sums.data(), column_sums.data()};
  }

  Matrix exact;
  std::vector<int8_t> values, columns;
  std::vector<float> scales;
  std::vector<int32_t> row_sums, column_sums;
};

// x W (or x Wᵀ), summed in double.
Matrix product(ConstMatrixView x, ConstMatrixView w, bool transposed) {
  Matrix y(x.rows, transposed ? w.rows : w.cols);
  for (size_t p = 0; p < y.rows(); ++p)
    for (size_t j = 0; j < y.cols(); ++j) {
      double sum = 0;
      for (size_t k = 0; k < x.cols; ++k)
        sum += static_cast<double>(x.row(p)[k]) * (transposed ? w.row(j)[k] : w.row(k)[j]);
      y.row(p)[j] = static_cast<float>(sum);
    }
  return y;
}

double relative_error(std::span<const float> got, std::span<const float> wanted) {
  double error = 0, square = 0;
  for (size_t j = 0; j < got.size(); ++j) {
    error += std::pow(static_cast<double>(got[j]) - wanted[j], 2);
    square += std::pow(static_cast<double>(wanted[j]), 2);
  }
  return std::sqrt(error / square);
}

// Rows of p − [v = target] with logits of deviation 3: a few large values, and most of the mass's number in small ones.
Matrix softmax_gradients(size_t rows, size_t cols) {
  Matrix d = gaussian(rows, cols, "logits");
  for (size_t p = 0; p < rows; ++p) {
    double sum = 0;
    for (float& value : d.row(p)) sum += value = std::exp(3 * value);
    for (float& value : d.row(p)) value = static_cast<float>(value / sum);
    d.row(p)[(7 * p + 3) % cols] -= 1;
  }
  return d;
}

TEST(Int8Rows, TheLargestStayAsTheyAre) {
  for (const size_t cols : {size_t{5}, size_t{64}, size_t{203}}) {
    Matrix x = gaussian(30, cols, "x");
    for (size_t p = 0; p < 30; ++p)  // several in one vector, and beyond the last whole one
      for (size_t k = 0; k < 3; ++k) x.row(p)[(p + 2 * k) % cols] = (k == 1 ? -10.0F : 10.0F) + static_cast<float>(p);
    x.row(7)[cols - 1] = 99;
    const Int8Rows quantized = quantize_rows(x);
    for (size_t p = 0; p < 30; ++p) {
      std::vector<size_t> order(cols);
      std::iota(order.begin(), order.end(), size_t{0});
      std::ranges::stable_sort(order, std::greater(), [&](size_t i) { return std::fabs(x.row(p)[i]); });
      for (size_t k = 0; k < outliers_per_row; ++k) {
        EXPECT_EQ(quantized.outliers[p][k].column, order[k]) << "row " << p << " of " << cols << " columns";
        EXPECT_EQ(quantized.outliers[p][k].value, x.row(p)[order[k]]);
        EXPECT_EQ(quantized.values[p * cols + order[k]], 128);
      }
    }
  }
}

TEST(Int8Products, ForwardIsThatOfTheWeights) {
  const Weights w(130, 200);
  for (const size_t rows : {9, 40}) {  // few are multiplied in another way
    Matrix x = gaussian(rows, 200, "x");
    x.row(2)[17] = 300;  // an outlier
    std::ranges::fill(x.row(4), 0.0f);
    Matrix y = Matrix::uninitialized(rows, 130);
    int8_forward(quantize_rows(x), 0, rows, w.view(), y);
    const Matrix wanted = product(x, w.exact, true);
    for (size_t p = 0; p < rows; ++p) {
      if (p == 4)
        EXPECT_TRUE(std::ranges::all_of(y.row(p), [](float value) { return value == 0; }));
      else
        EXPECT_LT(relative_error(y.row(p), wanted.row(p)), 0.02) << p << " of " << rows;
    }
  }
}

TEST(Int8Products, FewRowsHaveTheBitsOfMany) {
  constexpr size_t rows = 40, out = 301;
  const Weights w(out, 96);
  const Int8Rows x = quantize_rows(gaussian(rows, 96, "x"));
  const Matrix bias = gaussian(1, out, "bias"), steps = gaussian(1, rows, "steps"), before = gaussian(rows, out, "y");
  Matrix biased = Matrix::uninitialized(rows, out), added = before.copy();
  int8_forward(x, 0, rows, w.view(), biased, nullptr, bias.data());
  int8_forward(x, 0, rows, w.view(), added, steps.data());
  for (const size_t count : {1, 2, 3, 4, 5, 8, 12, 13}) {
    const size_t first = rows - count - 3;
    Matrix some = Matrix::uninitialized(count, out), more = Matrix::uninitialized(count, out);
    std::copy_n(before.row(first).data(), more.size(), more.data());
    int8_forward(x, first, count, w.view(), some, nullptr, bias.data());
    int8_forward(x, first, count, w.view(), more, steps.data() + first);
    EXPECT_TRUE(std::equal(some.data(), some.data() + some.size(), biased.row(first).data())) << count;
    EXPECT_TRUE(std::equal(more.data(), more.data() + more.size(), added.row(first).data())) << count;
  }
}

TEST(Int8Products, BackwardIsThatOfTheWeights) {
  for (const size_t out : {size_t{5}, size_t{300}, backward_outputs, 3 * backward_outputs + 77}) {
    SCOPED_TRACE(out);
    const Weights w(out, 70);
    const Matrix dy = gaussian(21, out, "dy"), wanted = product(dy, w.exact, false);
    Matrix dx = Matrix::uninitialized(21, 70);
    int8_backward_input(dy, w.view(), dx);
    for (size_t p = 0; p < 21; ++p) EXPECT_LT(relative_error(dx.row(p), wanted.row(p)), 0.02) << p;
    const Matrix once = dx.copy();
    int8_backward_input(dy, w.view(), dx, true);
    for (size_t i = 0; i < dx.size(); ++i) EXPECT_NEAR(dx.data()[i], 2 * once.data()[i], 1e-4 * std::sqrt(out));
  }
}

// With one scale a row the small probabilities would be rounded to 0, and what they have in common, the mean of the
// tokens' weights, would be lost: .1 to .3 of the whole here.
TEST(Int8Products, BackwardKeepsTheTailOfASoftmax) {
  const size_t out = 20000;
  const Weights w(out, 64, 2);
  const Matrix dy = softmax_gradients(24, out), wanted = product(dy, w.exact, false);
  Matrix dx = Matrix::uninitialized(24, 64);
  int8_backward_input(dy, w.view(), dx);
  for (size_t p = 0; p < 24; ++p) EXPECT_LT(relative_error(dx.row(p), wanted.row(p)), 0.05) << p;
}

TEST(Int8Products, ARowDoesNotDependOnTheOthers) {
  const Weights w(2500, 96);
  const Matrix dy = gaussian(40, 2500, "dy");
  Matrix all = Matrix::uninitialized(40, 96), one = Matrix::uninitialized(1, 96);
  int8_backward_input(dy, w.view(), all);
  for (const size_t p : {size_t{0}, size_t{13}, size_t{39}}) {
    int8_backward_input(dy.view().row_range(p, 1), w.view(), one);
    EXPECT_TRUE(std::ranges::equal(one.row(0), all.row(p)));
  }
}

}  // namespace
}  // namespace hone::test::int8_test
