// One convolution without padding, stride 1, through oneDNN.
#pragma once

#include <cstddef>
#include <memory>

namespace hone {

struct ConvolutionShape {
  size_t images;  // computed together; always so many
  size_t rows, cols, in_channels;
  size_t out_channels, kernel;

  size_t out_rows() const { return rows - kernel + 1; }
  size_t out_cols() const { return cols - kernel + 1; }
};

// Activations are [images, rows, columns, channels], weights w [out, in, kernel, kernel], bias b [out]. One thread does
// all the work, so that no sum depends on the number of threads; one object belongs to one thread at a time. Throws
// Error{unsupported} if oneDNN refuses.
class Convolution {
 public:
  explicit Convolution(const ConvolutionShape& shape);
  Convolution(Convolution&&) noexcept;
  ~Convolution();

  // y = w * x + b
  void forward(const float* x, const float* w, const float* b, float* y);
  // dw and db for the output's gradient dy; overwritten.
  void backward_weights(const float* x, const float* dy, float* dw, float* db);
  // dx for dy; overwritten.
  void backward_input(const float* dy, const float* w, float* dx);

 private:
  struct Primitives;
  std::unique_ptr<Primitives> primitives_;
};

}  // namespace hone
