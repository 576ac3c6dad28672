// base: what every room stands on. Errors, matrices, progress and cancellation. Knows nothing above it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hone {

enum class ErrorCode {
  bad_input,    // the caller's text, file or option cannot be used as it is
  not_found,    // a file or an entry is missing
  corrupt,      // a file is damaged or is not what its name says
  unsupported,  // valid, but not something hone can do
  io,           // the system refused: permissions, full disk
  busy,         // somebody else holds it
  cancelled,    // the caller's CancelToken
};

// The one exception type of the public API. The message names the file or field and says what to do.
class Error : public std::exception {
 public:
  Error(ErrorCode error_code, std::string text) : code(error_code), message(std::move(text)) {}
  const char* what() const noexcept override { return message.c_str(); }

  ErrorCode code;
  std::string message;
};

// "bad_input", "not_found", ...
std::string_view name(ErrorCode code);

// A read-only view of a row-major fp32 matrix [rows, cols]; does not own its memory.
struct ConstMatrixView {
  const float* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;

  std::span<const float> row(size_t i) const { return {data + i * cols, cols}; }
  ConstMatrixView row_range(size_t first, size_t count) const { return {data + first * cols, count, cols}; }
};

// A writable view of a row-major fp32 matrix [rows, cols]; does not own its memory.
struct MatrixView {
  float* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;

  std::span<float> row(size_t i) const { return {data + i * cols, cols}; }
  MatrixView row_range(size_t first, size_t count) const { return {data + first * cols, count, cols}; }
  operator ConstMatrixView() const { return {data, rows, cols}; }
};

// A row-major fp32 matrix [rows, cols] that owns its memory (64-byte aligned). Moves; copying is spelled copy().
class Matrix {
 public:
  Matrix() = default;
  // Zero-filled. Throws std::bad_alloc.
  Matrix(size_t rows, size_t cols);
  // Contents are undefined until written.
  static Matrix uninitialized(size_t rows, size_t cols);
  Matrix(Matrix&& other) noexcept;
  Matrix& operator=(Matrix&& other) noexcept;
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;

  Matrix copy() const;
  size_t rows() const { return rows_; }
  size_t cols() const { return cols_; }
  size_t size() const { return rows_ * cols_; }
  bool empty() const { return size() == 0; }
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  std::span<float> row(size_t i) { return {data_.get() + i * cols_, cols_}; }
  std::span<const float> row(size_t i) const { return {data_.get() + i * cols_, cols_}; }
  MatrixView view() { return {data_.get(), rows_, cols_}; }
  ConstMatrixView view() const { return {data_.get(), rows_, cols_}; }
  operator MatrixView() { return view(); }
  operator ConstMatrixView() const { return view(); }

 private:
  struct Free {
    void operator()(float* p) const;
  };
  std::unique_ptr<float[], Free> data_;
  size_t rows_ = 0;
  size_t cols_ = 0;
};

// How far a long operation is. `total` is 0 while it is unknown.
struct Progress {
  std::string_view stage;
  size_t done = 0;
  size_t total = 0;
};

// Shared by whoever may cancel and whoever does the work; copies refer to the same flag. Thread-safe.
class CancelToken {
 public:
  CancelToken() : flag_(std::make_shared<std::atomic<bool>>(false)) {}
  void cancel() const { flag_->store(true); }
  bool cancelled() const { return flag_->load(); }
  // Throws Error{cancelled} once cancel() was called.
  void check() const;

 private:
  std::shared_ptr<std::atomic<bool>> flag_;
};

// Handed to every long operation: where to report progress to (may be empty), and when to stop.
struct Watch {
  std::function<void(const Progress&)> progress;
  CancelToken cancel;

  // Throws Error{cancelled} if cancelled, then reports.
  void report(std::string_view stage, size_t done, size_t total) const;
};

constexpr int most_threads = 1024;
// Threads of the kernels that the calling thread calls (default: the machine's cores), 1 to most_threads: what is
// beyond counts as the nearest. One thread calls kernels at a time.
void set_threads(int count);
int threads();

}  // namespace hone
