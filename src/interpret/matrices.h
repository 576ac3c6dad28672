// Tensors of known shape out of safetensors files.
#pragma once

#include <filesystem>
#include <vector>

#include "model/safetensors.h"

namespace hone {

// [rows, cols], all finite. Throws Error{not_found, corrupt, unsupported} naming file and tensor.
Matrix read_matrix(const SafeTensors& file, const std::filesystem::path& path, std::string_view name, size_t rows,
                   size_t cols);
// [size], or [1, size].
std::vector<float> read_vector(const SafeTensors& file, const std::filesystem::path& path, std::string_view name,
                               size_t size);
Matrix transposed(ConstMatrixView values);

}  // namespace hone
