// A range of a matrix's columns.
#pragma once

#include <algorithm>

#include "hone/base.h"

namespace hone {

// x[:, first … first + count), without a copy where these are all. Views x.
class Columns {
 public:
  Columns(ConstMatrixView x, size_t first, size_t count) : view_(x) {
    if (count == x.cols) return;
    copied_ = Matrix::uninitialized(x.rows, count);
    for (size_t r = 0; r < x.rows; ++r) std::ranges::copy(x.row(r).subspan(first, count), copied_.row(r).begin());
    view_ = copied_;
  }
  ConstMatrixView view() const { return view_; }

 private:
  Matrix copied_;
  ConstMatrixView view_;
};

}  // namespace hone
