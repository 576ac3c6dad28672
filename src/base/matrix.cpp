#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "hone/base.h"

namespace hone {

void Matrix::Free::operator()(float* p) const { std::free(p); }

Matrix Matrix::uninitialized(size_t rows, size_t cols) {
  Matrix m;
  constexpr size_t cache_line = 64, huge_page = size_t{2} << 20;
  size_t wanted = 0;
  if (__builtin_mul_overflow(rows, cols, &wanted) || __builtin_mul_overflow(wanted, sizeof(float), &wanted) ||
      wanted > std::numeric_limits<size_t>::max() / 2)
    throw std::bad_alloc();
  wanted = std::max(wanted, cache_line);
  const size_t alignment = wanted >= 2 * huge_page ? huge_page : cache_line;
  const size_t bytes = (wanted + cache_line - 1) / cache_line * cache_line;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, bytes) != 0) throw std::bad_alloc();
  // Large matrices are made and dropped in every layer: in huge pages their first touch costs an eighth.
  if (alignment == huge_page) ::madvise(memory, bytes / huge_page * huge_page, MADV_HUGEPAGE);
  m.data_.reset(static_cast<float*>(memory));
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
