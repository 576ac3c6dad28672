#include "heads/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace hone {

namespace {

void check_row(ConstMatrixView x, size_t i, std::string_view what) {
  const auto row = x.row(i);
  const auto bad = std::ranges::find_if_not(row, [](float value) { return std::isfinite(value); });
  if (bad != row.end())
    throw Error(ErrorCode::bad_input, fmt::format("{}: row {}, column {} is {}; leave the row out or fill the value in",
                                                  what, i, bad - row.begin(), *bad));
}

}  // namespace

void refuse(std::string message) { throw Error(ErrorCode::bad_input, std::move(message)); }

bool is_finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

bool is_finite(ConstMatrixView values) { return is_finite(std::span(values.data, values.rows * values.cols)); }

void check_finite(ConstMatrixView x, std::string_view what) {
  for (size_t i = 0; i < x.rows; ++i) check_row(x, i, what);
}

void check_point(ConstMatrixView x, std::span<const int> y, size_t classes, size_t i) {
  if (y[i] < 0 || static_cast<size_t>(y[i]) >= classes)
    throw Error(ErrorCode::bad_input,
                fmt::format("labels: row {} says {}, which is not in 0 … {}", i, y[i], classes - 1));
  check_row(x, i, "features");
}

void check_sizes(ConstMatrixView x, std::span<const int> y, size_t classes) {
  if (x.rows == 0 || x.cols == 0)
    throw Error(ErrorCode::bad_input, "features: no rows or no columns to train a head on");
  if (x.rows != y.size())
    throw Error(ErrorCode::bad_input, fmt::format("{} rows of features but {} labels", x.rows, y.size()));
  if (classes < 2)
    throw Error(ErrorCode::bad_input, "labels: one class leaves nothing to decide; a head needs two or more");
}

void check_points(ConstMatrixView x, std::span<const int> y, size_t classes) {
  check_sizes(x, y, classes);
  for (size_t i = 0; i < x.rows; ++i) check_point(x, y, classes, i);
}

}  // namespace hone
