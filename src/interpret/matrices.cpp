#include "interpret/matrices.h"

#include <fmt/format.h>

#include <cmath>

#include "base/parallel.h"

namespace hone {

Matrix read_matrix(const SafeTensors& file, const std::filesystem::path& path, std::string_view name, size_t rows,
                   size_t cols) {
  Matrix values = file.matrix(name);
  if (values.rows() != rows || values.cols() != cols)
    throw Error(ErrorCode::corrupt, fmt::format("'{}': tensor \"{}\": its shape is [{}, {}]; [{}, {}] is needed",
                                                path.string(), name, values.rows(), values.cols(), rows, cols));
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values.data()[i]))
      throw Error(ErrorCode::corrupt, fmt::format("'{}': tensor \"{}\": value {} is not finite; get the file again",
                                                  path.string(), name, i));
  return values;
}

std::vector<float> read_vector(const SafeTensors& file, const std::filesystem::path& path, std::string_view name,
                               size_t size) {
  const Matrix values = read_matrix(file, path, name, 1, size);
  return {values.data(), values.data() + size};
}

Matrix transposed(ConstMatrixView values) {
  Matrix result = Matrix::uninitialized(values.cols, values.rows);
  parallel_ranges(values.cols, 16, [&](size_t begin, size_t end) {
    for (size_t c = begin; c < end; ++c)
      for (size_t r = 0; r < values.rows; ++r) result.row(c)[r] = values.data[r * values.cols + c];
  });
  return result;
}

}  // namespace hone
