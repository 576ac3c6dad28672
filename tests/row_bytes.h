// The bytes of a stored row, to compare.
#pragma once

#include <optional>
#include <vector>

#include "hone/store.h"

namespace hone::test {

inline std::optional<std::vector<std::byte>> bytes_of(const std::optional<StoredRow>& row) {
  if (!row) return std::nullopt;
  return std::vector<std::byte>(row->bytes().begin(), row->bytes().end());
}

}  // namespace hone::test
