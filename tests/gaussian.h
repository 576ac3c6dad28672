// Standard normal numbers, the same for the same name.
#pragma once

#include "base/random.h"
#include "hone/base.h"

namespace hone::test {

inline Matrix gaussian(size_t rows, size_t cols, const char* stream) {
  Matrix matrix = Matrix::uninitialized(rows, cols);
  RandomStream(1, stream).normals({matrix.data(), matrix.size()}, 1);
  return matrix;
}

}  // namespace hone::test
