// Rows of a matrix picked by an index.
#pragma once

#include <algorithm>

#include "base/parallel.h"
#include "hone/base.h"

namespace hone {

// y[q] = x[rows[q]].
inline Matrix gather_rows(ConstMatrixView x, std::span<const size_t> rows) {
  Matrix y = Matrix::uninitialized(rows.size(), x.cols);
  parallel_ranges(rows.size(), 64, [&](size_t begin, size_t end) {
    for (size_t q = begin; q < end; ++q) std::ranges::copy(x.row(rows[q]), y.row(q).begin());
  });
  return y;
}

// y[rows[q]] = x[q].
inline void scatter_rows(ConstMatrixView x, std::span<const size_t> rows, MatrixView y) {
  for (size_t q = 0; q < rows.size(); ++q) std::ranges::copy(x.row(q), y.row(rows[q]).begin());
}

// x[rows], without a copy where `rows` is empty, which means all of x in its order. Views x.
class GatheredRows {
 public:
  GatheredRows(ConstMatrixView x, std::span<const size_t> rows) : view_(x) {
    if (rows.empty()) return;
    gathered_ = gather_rows(x, rows);
    view_ = gathered_;
  }
  ConstMatrixView view() const { return view_; }
  operator ConstMatrixView() const { return view_; }
  Matrix copy() const {
    Matrix result = Matrix::uninitialized(view_.rows, view_.cols);
    std::copy_n(view_.data, result.size(), result.data());
    return result;
  }

 private:
  Matrix gathered_;
  ConstMatrixView view_;
};

}  // namespace hone
