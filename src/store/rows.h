// Gradient rows: a cache of opaque bytes, one file a key. It may be deleted at any time, by anybody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hone/store.h"

namespace hone::store {

inline constexpr const char* rows_folder = "gradients";

// Marks the row as used now. Damaged files are deleted where that is allowed.
std::optional<StoredRow> find_row(const std::filesystem::path& folder, const std::string& key);
// Of the row's file.
uint64_t bytes_of_row(const std::string& key, size_t row_bytes);
// Writes the row, then deletes the least recently used ones until all files together have at most `budget_bytes`.
// False where the row cannot be written, or is larger than the budget on its own: it is not kept.
bool keep_row(const std::filesystem::path& folder, const std::string& key, std::span<const std::byte> row,
              uint64_t budget_bytes);
// Deletes the rows of chunks that are not stored: what stands before a key's first '/' is the chunk's hash, a key
// without one is no chunk's.
void delete_rows_of_gone_chunks(const std::filesystem::path& folder,
                                const std::function<bool(std::string_view hash)>& is_stored);

}  // namespace hone::store
