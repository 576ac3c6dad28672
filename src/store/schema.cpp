#include "store/schema.h"

#include <fmt/format.h>

#include <optional>

#include "hone/base.h"

namespace hone::store {
namespace {

constexpr const char* store_format = "1";

// A chunk is stored once; occurrences say where it stands. Documents of one file are a gap apart in `ordinal`, so that
// the last chunk of one has no successor. Ids are never used again: caches are keyed by them.
constexpr const char* schema_sql = R"sql(
CREATE TABLE meta (name TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE file (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  location TEXT NOT NULL UNIQUE,
  path TEXT NOT NULL,
  size INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL,
  hash TEXT NOT NULL,
  chunk_tokens INTEGER NOT NULL,
  documents INTEGER NOT NULL,
  skipped TEXT NOT NULL);
CREATE TABLE chunk (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  hash TEXT NOT NULL UNIQUE,
  text TEXT NOT NULL,
  tokens BLOB NOT NULL,
  tokens_hash TEXT NOT NULL);
CREATE TABLE occurrence (
  file INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  chunk INTEGER NOT NULL,
  PRIMARY KEY (file, ordinal)) WITHOUT ROWID;
CREATE INDEX occurrence_chunk ON occurrence (chunk, file, ordinal);
CREATE TABLE value (name TEXT PRIMARY KEY, bytes BLOB NOT NULL, hash TEXT NOT NULL) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5 (text, content = 'chunk', content_rowid = 'id', tokenize = 'unicode61');
CREATE VIRTUAL TABLE vocabulary USING fts5vocab ('words', 'row');
)sql";

std::optional<std::string> meta(const Database& database, std::string_view name) {
  Statement select = database.prepare("SELECT content FROM meta WHERE name = ?1");
  if (!select.bind(1, name).step()) return std::nullopt;
  return select.text(0);
}

}  // namespace

bool has_schema(const Database& database) {
  // In this order: somebody who makes the store meanwhile is no damage.
  const int64_t pages = database.integer("PRAGMA page_count");
  if (database.integer("SELECT count(*) FROM sqlite_schema") > 0) return true;
  if (pages > 1) database.fail_corrupt("its tables are missing");
  return false;
}

void create_schema(const Database& database, const StoreIdentity& identity) {
  Transaction transaction(database);
  database.execute(schema_sql);
  Statement insert = database.prepare("INSERT INTO meta (name, content) VALUES (?1, ?2)");
  insert.bind(1, "format").bind(2, store_format).run();
  insert.bind(1, "model_name").bind(2, identity.model_name).run();
  insert.bind(1, "base_hash").bind(2, identity.base_hash).run();
  transaction.commit();
}

StoreIdentity read_identity(const Database& database, const std::string& name) {
  const auto format = meta(database, "format");
  if (!format) database.fail_corrupt("its format version is missing");
  if (*format != store_format)
    throw Error(ErrorCode::unsupported,
                fmt::format("store '{}' has format {}, this hone reads format {}; index into a new store", name,
                            printable(*format), store_format));
  const auto model_name = meta(database, "model_name");
  const auto base_hash = meta(database, "base_hash");
  if (!model_name || !base_hash) database.fail_corrupt("the name of its model is missing");
  return {*model_name, *base_hash};
}

}  // namespace hone::store
