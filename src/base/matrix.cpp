#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "hone/base.h"

namespace hone {

void Matrix::Free::operator()(float* p) const { std::free(p); }

Matrix Matrix::uninitialized(size_t rows, size_t cols) {
  Matrix m;
  constexpr size_t alignment = 64;
  const size_t bytes = (rows * cols * sizeof(float) + alignment - 1) / alignment * alignment;
  m.data_.reset(static_cast<float*>(std::aligned_alloc(alignment, std::max(bytes, alignment))));
  if (!m.data_) throw std::bad_alloc();
  m.rows_ = rows;
  m.cols_ = cols;
  return m;
}

Matrix::Matrix(size_t rows, size_t cols) {
  *this = uninitialized(rows, cols);
  std::memset(data_.get(), 0, size() * sizeof(float));
}

Matrix::Matrix(Matrix&& other) noexcept
    : data_(std::move(other.data_)), rows_(std::exchange(other.rows_, 0)), cols_(std::exchange(other.cols_, 0)) {}

Matrix& Matrix::operator=(Matrix&& other) noexcept {
  data_ = std::move(other.data_);
  rows_ = std::exchange(other.rows_, 0);
  cols_ = std::exchange(other.cols_, 0);
  return *this;
}

Matrix Matrix::copy() const {
  Matrix m = uninitialized(rows_, cols_);
  if (!empty()) std::memcpy(m.data(), data(), size() * sizeof(float));
  return m;
}

}  // namespace hone
