// Store::index: brings the database in line with files on disk, one transaction a file.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <unordered_set>

#include "base/files.h"
#include "hone/store.h"
#include "store/chunking.h"
#include "store/documents.h"
#include "store/impl.h"
#include "store/rows.h"
#include "store/walk.h"

namespace hone {
namespace {

namespace fs = std::filesystem;
using store::Database;
using store::Statement;
using store::Transaction;
using store::WalkedFile;

constexpr int64_t unsettled_ns = 2'000'000'000;
constexpr int64_t unknown_time = 0;
constexpr size_t optimize_share = 10;

// The time to remember for a file. One that changed moments ago may change again within the same time stamp: it is
// compared by content next time.
int64_t settled_mtime(int64_t mtime_ns) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const int64_t now_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  return mtime_ns > now_ns - unsettled_ns ? unknown_time : mtime_ns;
}

// What the database knows about a file.
struct Known {
  int64_t id = 0;
  std::string path;
  uint64_t size = 0;
  int64_t mtime_ns = 0;
  std::string hash;
  size_t chunk_tokens = 0;
  size_t documents = 0;
  std::string skipped = {};
};

class Indexer {
 public:
  Indexer(const Database& database, const Tokenizer& tokenizer, const IndexOptions& options, const Watch& watch,
          IndexReport& report)
      : database_(database), tokenizer_(tokenizer), options_(options), watch_(watch), report_(report) {}

  void bring_in_line(const WalkedFile& file) {
    ++report_.files_seen;
    const std::optional<Known> known = find(file.location);
    if (file.size > options_.max_file_bytes) {
      skip(file, fmt::format("{} bytes, more than the limit of {}", file.size, options_.max_file_bytes));
      if (known) remove(known->id);
      return;
    }
    const bool same_chunks = known && known->size == file.size && known->chunk_tokens == options_.chunk_tokens;
    if (same_chunks && known->mtime_ns == file.mtime_ns) return keep(*known, file, file.mtime_ns);
    std::string contents;
    try {
      contents = read_file(file.path);
    } catch (const Error& error) {
      return skip(file, error.message);
    }
    const std::string hash = content_hash(contents);
    const int64_t mtime_ns = settled_mtime(file.mtime_ns);
    if (same_chunks && known->hash == hash) return keep(*known, file, mtime_ns);
    Known entry{.id = known ? known->id : 0,
                .path = file.path.string(),
                .size = contents.size(),
                .mtime_ns = mtime_ns,
                .hash = hash,
                .chunk_tokens = options_.chunk_tokens};
    replace(entry, file.location, std::move(contents));
    if (!entry.skipped.empty()) skip(file, entry.skipped);
    if (entry.documents > 0)
      ++report_.files_indexed;
    else if (known && known->documents > 0)
      ++report_.files_removed;
  }

  bool knows_below(const std::string& location) const {
    Statement select = database_.prepare("SELECT location FROM file");
    while (select.step())
      if (store::is_below(select.text(0), location)) return true;
    return false;
  }

  // Files of earlier calls below the roots that this walk did not find.
  void remove_gone(const store::Walk& walk) {
    std::unordered_set<std::string> seen;
    for (const WalkedFile& file : walk.files) seen.insert(file.location);
    const auto below = [](const std::vector<std::string>& folders, const std::string& location) {
      return std::any_of(folders.begin(), folders.end(),
                         [&](const std::string& folder) { return store::is_below(location, folder); });
    };
    std::vector<int64_t> gone;
    Statement select = database_.prepare("SELECT id, location FROM file ORDER BY location");
    while (select.step()) {
      const std::string location = select.text(1);
      if (below(walk.roots, location) && !below(walk.unreadable, location) && !seen.contains(location))
        gone.push_back(select.integer(0));
    }
    for (const int64_t id : gone) remove(id);
  }

  bool has_chunk(std::string_view hash) const {
    return database_.prepare("SELECT 1 FROM chunk WHERE hash = ?1").bind(1, hash).step();
  }

 private:
  void skip(const WalkedFile& file, std::string reason) {
    report_.skipped.push_back({file.path.string(), std::move(reason)});
  }

  std::optional<Known> find(const std::string& location) {
    Statement select = database_.prepare(
        "SELECT id, path, size, mtime_ns, hash, chunk_tokens, documents, skipped FROM file WHERE location = ?1");
    if (!select.bind(1, location).step()) return std::nullopt;
    return Known{select.integer(0),
                 select.text(1),
                 static_cast<uint64_t>(select.integer(2)),
                 select.integer(3),
                 select.text(4),
                 static_cast<size_t>(select.integer(5)),
                 static_cast<size_t>(select.integer(6)),
                 select.text(7)};
  }

  void keep(const Known& known, const WalkedFile& file, int64_t mtime_ns) {
    if (known.documents > 0) ++report_.files_unchanged;
    if (!known.skipped.empty()) skip(file, known.skipped);
    if (known.mtime_ns == mtime_ns && known.path == file.path.string()) return;
    database_.prepare("UPDATE file SET mtime_ns = ?2, path = ?3 WHERE id = ?1")
        .bind(1, known.id)
        .bind(2, mtime_ns)
        .bind(3, file.path.string())
        .run();
  }

  // One transaction: the file's row, its new chunks, and the end of old chunks that nothing refers to any more.
  void replace(Known& entry, const std::string& location, std::string contents) {
    Transaction transaction(database_);
    if (entry.id == 0) entry.id = insert_file(location);
    const std::vector<int64_t> before = forget_occurrences(entry.id);
    add_documents(entry, std::move(contents));
    remove_unreferenced(before);
    update_file(entry);
    transaction.commit();
  }

  void remove(int64_t id) {
    Transaction transaction(database_);
    const bool indexed = database_.prepare("SELECT 1 FROM file WHERE id = ?1 AND documents > 0").bind(1, id).step();
    remove_unreferenced(forget_occurrences(id));
    database_.prepare("DELETE FROM file WHERE id = ?1").bind(1, id).run();
    transaction.commit();
    if (indexed) ++report_.files_removed;
  }

  int64_t insert_file(const std::string& location) {
    database_
        .prepare(
            "INSERT INTO file (location, path, size, mtime_ns, hash, chunk_tokens, documents, skipped)"
            " VALUES (?1, '', 0, 0, '', 0, 0, '')")
        .bind(1, location)
        .run();
    return database_.last_insert_id();
  }

  void update_file(const Known& entry) {
    database_
        .prepare(
            "UPDATE file SET path = ?2, size = ?3, mtime_ns = ?4, hash = ?5, chunk_tokens = ?6, documents = ?7,"
            " skipped = ?8 WHERE id = ?1")
        .bind(1, entry.id)
        .bind(2, entry.path)
        .bind(3, static_cast<int64_t>(entry.size))
        .bind(4, entry.mtime_ns)
        .bind(5, entry.hash)
        .bind(6, static_cast<int64_t>(entry.chunk_tokens))
        .bind(7, static_cast<int64_t>(entry.documents))
        .bind(8, entry.skipped)
        .run();
  }

  std::vector<int64_t> forget_occurrences(int64_t file) {
    std::vector<int64_t> chunks;
    Statement select = database_.prepare("SELECT DISTINCT chunk FROM occurrence WHERE file = ?1 ORDER BY chunk");
    select.bind(1, file);
    while (select.step()) chunks.push_back(select.integer(0));
    database_.prepare("DELETE FROM occurrence WHERE file = ?1").bind(1, file).run();
    return chunks;
  }

  void add_documents(Known& entry, std::string contents) {
    Statement find_chunk = database_.prepare(
        "SELECT id, EXISTS (SELECT 1 FROM occurrence WHERE chunk = chunk.id) FROM chunk WHERE hash = ?1");
    Statement insert_chunk =
        database_.prepare("INSERT INTO chunk (hash, text, tokens, tokens_hash) VALUES (?1, ?2, ?3, ?4)");
    Statement insert_words = database_.prepare("INSERT INTO words (rowid, text) VALUES (?1, ?2)");
    Statement insert_occurrence =
        database_.prepare("INSERT INTO occurrence (file, ordinal, chunk) VALUES (?1, ?2, ?3)");
    int64_t ordinal = 0;
    const auto add_chunk = [&](std::string_view text, std::span<const Token> tokens) {
      watch_.cancel.check();
      const std::string hash = content_hash(text);
      int64_t id = 0;
      if (find_chunk.bind(1, hash).step()) {
        id = find_chunk.integer(0);
        report_.chunks_duplicate += find_chunk.integer(1) != 0;
        find_chunk.reset();
      } else {
        const auto bytes = std::as_bytes(tokens);
        insert_chunk.bind(1, hash).bind(2, text).bind(3, bytes).bind(4, content_hash(bytes)).run();
        id = database_.last_insert_id();
        insert_words.bind(1, id).bind(2, text).run();
        ++report_.chunks_added;
      }
      insert_occurrence.bind(1, entry.id).bind(2, ordinal++).bind(3, id).run();
    };
    const store::DocumentScan scan =
        store::for_each_document(entry.path, std::move(contents), [&](std::string_view document) {
          store::for_each_chunk(document, tokenizer_, options_.chunk_tokens, add_chunk);
          ++ordinal;
        });
    entry.documents = scan.documents;
    entry.skipped = scan.skipped;
  }

  void remove_unreferenced(const std::vector<int64_t>& chunks) {
    Statement select = database_.prepare(
        "SELECT text FROM chunk WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM occurrence WHERE chunk = ?1)");
    Statement delete_words = database_.prepare("INSERT INTO words (words, rowid, text) VALUES ('delete', ?1, ?2)");
    Statement delete_chunk = database_.prepare("DELETE FROM chunk WHERE id = ?1");
    for (const int64_t id : chunks) {
      watch_.cancel.check();
      if (!select.bind(1, id).step()) continue;
      delete_words.bind(1, id).bind(2, select.text(0)).run();
      select.reset();
      delete_chunk.bind(1, id).run();
    }
  }

  const Database& database_;
  const Tokenizer& tokenizer_;
  const IndexOptions& options_;
  const Watch& watch_;
  IndexReport& report_;
};

// Where a path that is gone was, as the walk would have written it.
std::string location_of_gone(const fs::path& path) {
  std::error_code error;
  fs::path location = fs::weakly_canonical(fs::absolute(path, error), error);
  if (error) return {};
  if (!location.has_filename()) location = location.parent_path();
  return location.string();
}

std::string nothing_indexed(const std::vector<fs::path>& paths, const IndexReport& report) {
  std::string message = "nothing to index below";
  for (const fs::path& path : paths) message += fmt::format(" '{}'", path.string());
  if (report.skipped.empty())
    return message + ": no files that are not hidden or ignored; name a file or a folder with texts";
  const auto& [path, reason] = report.skipped.front();
  return message + fmt::format(": {} skipped, the first is '{}': {}; name a file or a folder with texts",
                               report.skipped.size(), path, reason);
}

}  // namespace

IndexReport Store::index(const std::vector<fs::path>& paths, const Tokenizer& tokenizer, const IndexOptions& options,
                         const Watch& watch) {
  impl_->require_writable("to index");
  if (options.chunk_tokens < store::min_chunk_tokens)
    throw Error(ErrorCode::bad_input, fmt::format("a chunk of {} tokens is too short; use {} or more",
                                                  options.chunk_tokens, store::min_chunk_tokens));
  impl_->counts.version = -1;
  impl_->loaded_vectors.version = -1;
  IndexReport report;
  Indexer indexer(impl_->database, tokenizer, options, watch, report);
  std::vector<fs::path> there;
  std::vector<std::string> gone;
  for (const fs::path& path : paths)
    if (const std::string location = is_there(path) ? "" : location_of_gone(path);
        !location.empty() && indexer.knows_below(location))
      gone.push_back(location);
    else
      there.push_back(path);
  store::Walk walk = store::walk(there, watch.cancel);
  walk.roots.insert(walk.roots.end(), gone.begin(), gone.end());
  report.skipped = walk.skipped;
  for (size_t i = 0; i < walk.files.size(); ++i) {
    watch.report("index", i, walk.files.size());
    indexer.bring_in_line(walk.files[i]);
  }
  indexer.remove_gone(walk);
  store::delete_rows_of_gone_chunks(impl_->directory / store::rows_folder,
                                    [&](std::string_view hash) { return indexer.has_chunk(hash); });
  watch.report("index", walk.files.size(), walk.files.size());
  report.chunks_total = chunk_count();
  if (report.chunks_added > report.chunks_total / optimize_share)
    impl_->database.execute("INSERT INTO words (words) VALUES ('optimize')");
  if (gone.empty() && report.files_indexed + report.files_unchanged + report.files_removed == 0)
    throw Error(ErrorCode::bad_input, nothing_indexed(paths, report));
  return report;
}

}  // namespace hone
