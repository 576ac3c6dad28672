// Vectors: the file that caches dense vectors. A header that says whose they are, then commits, each with a checksum.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hone/store.h"

namespace hone::store {

inline constexpr const char* vectors_name = "vectors";

// What is good in a file of vectors.
class VectorFile {
 public:
  // Everything up to the first damage. Nothing if there is no file. Throws Error{corrupt} if not even the header is
  // good, Error{io}.
  static std::optional<VectorFile> read(const std::filesystem::path& path);

  const Encoder& encoder() const { return encoder_; }
  const std::string& base_hash() const { return base_hash_; }
  size_t size() const { return rows_.size(); }
  // content_hash of the chunk's text.
  std::string_view chunk_hash(size_t i) const;
  // Copies row i to `values` [dimension].
  void read_row(size_t i, std::span<float> values) const;
  // Where the next commit goes.
  uint64_t good_bytes() const { return good_bytes_; }

 private:
  std::string contents_;
  Encoder encoder_;
  std::string base_hash_;
  struct Row {
    size_t hash_at, values_at;  // in contents_
  };
  std::vector<Row> rows_;
  uint64_t good_bytes_ = 0;
};

// The bytes that a file starts with.
std::string vectors_header(const Encoder& encoder, const std::string& base_hash);
// The bytes of one commit: row i of `vectors` for the chunk whose content has the hash hashes[i].
std::string vectors_commit(const std::vector<std::string>& hashes, ConstMatrixView vectors);

}  // namespace hone::store
