// IDX, the format of MNIST: a big-endian header and unsigned bytes.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "hone/base.h"

namespace hone {

// The bytes of an IDX file, decompressed if they are gzip.
bool is_idx(std::span<const std::byte> bytes);
Matrix idx_images(std::span<const std::byte> bytes, const std::string& source);
std::vector<int> idx_labels(std::span<const std::byte> bytes, const std::string& source);

}  // namespace hone
