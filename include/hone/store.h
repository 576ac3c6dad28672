// store: a directory on disk that holds a text corpus in chunks, finds neighbours, and caches gradient rows.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hone/base.h"
#include "hone/tokenizer.h"

namespace hone {

// A stretch of one indexed file.
struct Chunk {
  int64_t id = 0;
  std::string hash;  // content_hash of `text`
  std::string path;  // of the file it came from, as given at indexing
  int ordinal = 0;   // position within its file: the chunk after this one has ordinal + 1
  std::string text;
  std::vector<Token> tokens;
};

struct Neighbour {
  int64_t chunk_id = 0;
  double score = 0;  // BM25, larger is more similar
};

struct IndexOptions {
  size_t chunk_tokens = 256;               // a chunk has at most this many tokens; 16 or more
  uint64_t max_file_bytes = 256ull << 20;  // larger files are skipped and reported
};

struct IndexReport {
  size_t files_seen = 0;
  size_t files_indexed = 0;  // new or changed
  size_t files_unchanged = 0;
  size_t files_removed = 0;  // were indexed, are gone
  size_t chunks_added = 0;
  size_t chunks_duplicate = 0;  // dropped: their content is already stored
  size_t chunks_total = 0;
  struct Skipped {
    std::string path;
    std::string reason;
  };
  std::vector<Skipped> skipped;  // binary, unreadable, too large, ...
};

class MappedFile;

// A gradient row, mapped from a store's file or in memory. Copies share it; immutable.
class StoredRow {
 public:
  explicit StoredRow(std::vector<std::byte> bytes);
  // The last `size` bytes of the file.
  StoredRow(std::shared_ptr<const MappedFile> file, size_t size);

  std::span<const std::byte> bytes() const { return bytes_; }
  // Gives the memory of a mapped row back to the system; reading it again is slower, nothing else changes.
  void drop_pages() const;

 private:
  std::shared_ptr<const MappedFile> file_;
  std::shared_ptr<const std::vector<std::byte>> memory_;
  std::span<const std::byte> bytes_;
};

// What a store was built for; checked whenever it is opened with a model.
struct StoreIdentity {
  std::string model_name;
  std::string base_hash;  // of the model's weights
};

// One directory. SQLite (WAL) is the truth; gradient rows are caches that may be deleted at any time.
// A chunk is stored once, however many files hold its text: it shows the first of them, and stays until the last is
// gone. One writer and many readers, also across processes; killed at any moment it opens again and nothing committed
// is lost. An object may be used by one thread at a time; open the directory again for another thread.
class Store {
 public:
  // Creates the directory and its database, or opens it for writing. Throws Error{busy} if somebody else writes to it,
  // Error{bad_input} if it was built with another model (both models are named) or is a folder with other files in it,
  // Error{unsupported} if a newer hone made it, Error{corrupt, io}.
  static Store create(const std::filesystem::path& directory, const StoreIdentity& identity);
  // Opens for reading. Throws Error{not_found} that says to run `hone index`, Error{bad_input} for another model.
  // An empty identity is not checked.
  static Store open(const std::filesystem::path& directory, const StoreIdentity& identity = {});
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  ~Store();

  // Brings the store in line with `paths` (files and folders, recursively; .gitignore and .ignore files honoured,
  // hidden files and folders skipped): text, Markdown, source, and JSONL whose objects have a "text" field (one
  // document a line). Links to files are followed, links to folders are not. Only what changed is read again (size and
  // time, then content; everything after a change of chunk_tokens); files of an earlier call below the same paths that
  // are gone are removed, files that cannot be read now are kept. Each file is one transaction. Throws Error{not_found}
  // for a path that does not exist, Error{bad_input} if nothing at all could be indexed, Error{cancelled, io}; what was
  // committed stays.
  IndexReport index(const std::vector<std::filesystem::path>& paths, const Tokenizer& tokenizer,
                    const IndexOptions& options, const Watch& watch = {});

  const StoreIdentity& identity() const;
  const std::filesystem::path& directory() const;
  size_t chunk_count() const;
  // All ids, ascending.
  std::vector<int64_t> chunk_ids() const;
  // Throws Error{not_found}.
  Chunk chunk(int64_t id) const;
  // The chunk that follows `id` in its document. Text that repeats itself can lead back to a chunk met before.
  std::optional<Chunk> successor(int64_t id) const;

  // The `count` most similar chunks to `text` by BM25 over its 48 most informative words (idf · (1 + ln count in the
  // text)), most similar first; ties by id. Empty if the store holds none of its words.
  std::vector<Neighbour> neighbours(std::string_view text, size_t count) const;

  // Small named values that live with the corpus (learned statistics). Writing needs create().
  void set_value(const std::string& name, std::span<const std::byte> value);
  std::optional<std::vector<std::byte>> value(const std::string& name) const;

  // Gradient rows: opaque bytes under a key, one file each, least recently used deleted beyond the budget.
  // Safe with many processes; a damaged or missing row is std::nullopt, never an error.
  std::optional<StoredRow> find_row(const std::string& key) const;
  // Keeps at most `budget_bytes` of rows. A full disk is not an error: the row is not kept.
  void keep_row(const std::string& key, std::span<const std::byte> row, uint64_t budget_bytes) const;

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hone
