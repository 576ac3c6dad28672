// What a Store holds, shared by the files that implement its methods.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "hone/store.h"
#include "store/database.h"
#include "store/dense_index.h"

namespace hone {

// Held while the store is open for writing; the system releases it however the process ends.
class WriterLock {
 public:
  WriterLock() = default;
  // Throws Error{busy, io} naming the store.
  WriterLock(const std::filesystem::path& file, const std::string& store);
  WriterLock(WriterLock&& other) noexcept;
  ~WriterLock();
  bool held() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Document frequencies of query words, remembered until the store changes.
struct WordCounts {
  int64_t version = -1;  // of the database, as `PRAGMA data_version` counts it
  int64_t chunks = 0;
  std::unordered_map<std::string, int64_t> chunks_with;
};

// Dense vectors, remembered until the store or their file changes.
struct LoadedVectors {
  int64_t version = -1;  // of the database, as `PRAGMA data_version` counts it
  std::string file;      // which file it was: inode, size and time
  Encoder encoder;
  std::optional<store::DenseIndex> index;
};

// Where the next vectors go, once the file was read. Nobody else writes while the lock is held.
struct VectorsEnd {
  Encoder encoder;
  uint64_t bytes = 0;
};

struct Store::Impl {
  Impl(std::filesystem::path where, store::Database::Access access);

  std::filesystem::path directory;
  WriterLock lock;
  store::Database database;
  StoreIdentity identity;
  WordCounts counts;
  LoadedVectors loaded_vectors;
  std::optional<VectorsEnd> vectors_end;

  // Of all chunks' vectors, loaded anew where something changed. Throws as Store::nearest.
  const store::DenseIndex& dense_index(const Encoder& encoder, std::span<const float> query);
  // Throws Error{bad_input} if the store is open for reading; `purpose`: "to index".
  void require_writable(std::string_view purpose) const;
};

}  // namespace hone
