// store: a directory on disk that holds a text corpus in chunks, finds neighbours, and caches gradient rows.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hone/base.h"
#include "hone/tokenizer.h"

namespace hone {

// A stretch of one indexed file.
struct Chunk {
  int64_t id = 0;
  std::string hash;      // content_hash of `text`
  std::string path;      // of the file it came from, as given at indexing
  std::string location;  // the same, absolute
  int ordinal = 0;       // position within its file: the chunk after this one has ordinal + 1
  std::string text;
  std::vector<Token> tokens;
};

struct Neighbour {
  int64_t chunk_id = 0;
  double score = 0;  // larger is more similar; what it is, Retrieval says
};

// How neighbours are found.
enum class Retrieval {
  bm25,     // by words; the score is BM25
  vectors,  // by dense vectors; the score is a cosine
  fused,    // both lists by their ranks; the score is fuse()'s
  sift,     // by dense vectors, each so that with those before it it tells most about the text; the score is a cosine
};
std::string_view name(Retrieval retrieval);  // "bm25", "vectors", "fused", "sift"

// Reciprocal rank fusion (Cormack, Clarke & Büttcher 2009): a chunk scores Σ over the lists that hold it of
// 1 / (60 + its rank there), the first rank being 1. The `count` best; ties by id.
std::vector<Neighbour> fuse(std::span<const std::vector<Neighbour>> lists, size_t count);

// Who makes dense vectors: all that a store knows of it. Vectors under different names are never compared.
struct Encoder {
  std::string name;
  size_t dimension = 0;
  bool operator==(const Encoder&) const = default;
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

// One directory. SQLite (WAL) is the truth; dense vectors and gradient rows are caches that may be deleted at any time.
// A chunk is stored once, however many files hold its text: it shows the first of them, and stays until the last is
// gone. One writer and many readers, also across processes; killed at any moment it opens again and nothing committed
// is lost. An object may be used by one thread at a time; open the directory again for another thread.
class Store {
 public:
  // Creates the directory and its database, or opens it for writing. Throws Error{busy} if somebody else writes to it,
  // Error{bad_input} if it was built with another model (both models are named) or is a folder with other files in it,
  // Error{unsupported} if a newer hone made it, Error{corrupt, io}.
  static Store create(const std::filesystem::path& directory, const StoreIdentity& identity);
  // Opens for reading. Throws Error{not_found} that says to run `hone index`, otherwise as create() does.
  // An empty identity is not checked. Who may not write into the folder must not read it while it is being indexed.
  static Store open(const std::filesystem::path& directory, const StoreIdentity& identity = {});
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  ~Store();

  // Brings the store in line with `paths` (files and folders, recursively; .gitignore and .ignore files honoured,
  // hidden files and folders skipped): text, Markdown, source, and JSONL whose objects have a "text" field (one
  // document a line). Links to files are followed, links to folders are not. Only what changed is read again (size and
  // time, then content; everything after a change of chunk_tokens); files of an earlier call below the same paths that
  // are gone are removed, also where the path itself is gone, files that cannot be read now are kept. Each file is one
  // transaction; at the end the gradient rows of chunks that are gone are deleted. Throws Error{not_found} for a path
  // that does not exist and of which the store knows nothing, Error{bad_input} if nothing at all could be indexed or
  // removed, Error{cancelled, io}; what was committed stays.
  IndexReport index(const std::vector<std::filesystem::path>& paths, const Tokenizer& tokenizer,
                    const IndexOptions& options, const Watch& watch = {});

  const StoreIdentity& identity() const;
  const std::filesystem::path& directory() const;
  size_t chunk_count() const;
  // All ids, ascending.
  std::vector<int64_t> chunk_ids() const;
  // Throws Error{not_found, corrupt}.
  Chunk chunk(int64_t id) const;
  // The chunk that follows `id` in its document. Text that repeats itself can lead back to a chunk met before.
  std::optional<Chunk> successor(int64_t id) const;

  // The `count` most similar chunks to `text` by BM25 over its 48 most informative words (idf · (1 + ln count in the
  // text)), most similar first; ties by id. Empty if the store holds none of its words.
  std::vector<Neighbour> neighbours(std::string_view text, size_t count) const;

  // Dense vectors: a cache in one file, a vector for the content of each chunk, all of one encoder. Vectors of a chunk
  // that is removed and indexed again are found again until they are pruned.
  // Drops the vectors of chunks that are gone, and whatever is damaged or of another encoder or model. Needs create().
  // Throws Error{bad_input} for an encoder without name or dimension, Error{io}.
  void prune_vectors(const Encoder& encoder);
  // Chunks that have no vector of this encoder, ascending: all of them if the file is missing, damaged or another's.
  std::vector<int64_t> chunks_without_vector(const Encoder& encoder) const;
  // Keeps vectors [ids, dimension], of any length, for these chunks. Flushed to disk before it returns: a process
  // killed later loses none of them, one killed meanwhile none of the earlier. Needs create(). Throws Error{bad_input}
  // for rows of another shape or not finite and for vectors of another encoder beside those that are kept (prune
  // first), Error{not_found} for an id that is not stored, Error{io}.
  void keep_vectors(const Encoder& encoder, std::span<const int64_t> ids, ConstMatrixView vectors);
  // The `count` chunks whose vectors have the largest cosine with `query` [dimension], after the mean of all stored
  // vectors was subtracted from both; ties by id. Exact (no approximate index). Throws Error{not_found} if chunks have
  // no vector, Error{corrupt} if the file is damaged, Error{bad_input} if another encoder or model made it; each says
  // to run `hone index --vectors`. Error{bad_input} for a query of another length or not finite.
  std::vector<Neighbour> nearest(const Encoder& encoder, std::span<const float> query, size_t count) const;
  // SIFT (neighbours.h) among the 200 nearest (`count` if that is more) by the same cosines, noise .01, no repeats:
  // near duplicates of a chunk that was chosen are passed over. In the order of choice. Throws as nearest() does.
  std::vector<Neighbour> sift(const Encoder& encoder, std::span<const float> query, size_t count) const;

  // Small named values that live with the corpus (learned statistics). Writing throws Error{bad_input} if the store is
  // open for reading; both throw Error{corrupt, io}.
  void set_value(const std::string& name, std::span<const std::byte> value);
  std::optional<std::vector<std::byte>> value(const std::string& name) const;

  // Gradient rows: opaque bytes under a key, one file each, least recently used deleted beyond the budget. What stands
  // before a key's first '/' is the hash of the chunk that the row belongs to; a key without one belongs to none.
  // Safe with many processes; a damaged or missing row is std::nullopt, never an error.
  std::optional<StoredRow> find_row(const std::string& key) const;
  // What a row takes of a budget: itself, its key and a header.
  static uint64_t bytes_of_row(const std::string& key, size_t row_bytes);
  // Keeps at most `budget_bytes` of rows. A full disk is not an error: false, the row is not kept.
  bool keep_row(const std::string& key, std::span<const std::byte> row, uint64_t budget_bytes) const;

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hone
