#include "hone/store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "base/files.h"
#include "store/impl.h"
#include "store/rows.h"
#include "store/schema.h"
#include "store/vectors.h"

namespace hone {
namespace {

namespace fs = std::filesystem;
using store::Database;
using store::Statement;

constexpr const char* database_file = "store.sqlite";
constexpr const char* lock_file = "lock";
constexpr const char* ignore_file = ".ignore";

// Keeps `hone index DOCUMENTS -o DOCUMENTS` from writing into somebody's folder.
void require_store_or_empty(const fs::path& directory) {
  const std::set<std::string> own = {database_file,
                                     fmt::format("{}-wal", database_file),
                                     fmt::format("{}-shm", database_file),
                                     lock_file,
                                     ignore_file,
                                     store::rows_folder,
                                     store::vectors_name};
  std::error_code error;
  if (fs::exists(directory / database_file, error)) return;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    if (!own.contains(entry->path().filename().string()))
      throw Error(ErrorCode::bad_input,
                  fmt::format("'{}' is a folder with other files in it, not a store; give the store a new name",
                              directory.string()));
  }
}

void make_directory(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  std::error_code unknown;
  if (!fs::is_directory(directory, unknown))
    throw Error(is_there(directory) ? ErrorCode::bad_input : ErrorCode::io,
                fmt::format("cannot make the store '{}': {}; choose another place", directory.string(),
                            error ? error.message() : "it is a file"));
  require_store_or_empty(directory);
}

void require_same_model(const fs::path& directory, const StoreIdentity& built, const StoreIdentity& wanted) {
  if (wanted.base_hash.empty() || wanted.base_hash == built.base_hash) return;
  throw Error(
      ErrorCode::bad_input,
      fmt::format("store '{}' was built with model {} ({}), not {} ({}); use that model or index into a new store",
                  directory.string(), store::printable(built.model_name),
                  store::printable(built.base_hash.substr(0, 12)), wanted.model_name, wanted.base_hash.substr(0, 12)));
}

std::vector<Token> tokens_of(std::span<const std::byte> bytes) {
  std::vector<Token> tokens(bytes.size() / sizeof(Token));
  if (!tokens.empty()) std::memcpy(tokens.data(), bytes.data(), tokens.size() * sizeof(Token));
  return tokens;
}

}  // namespace

WriterLock::WriterLock(const fs::path& file, const std::string& store)
    : fd_(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
  if (fd_ >= 0 && ::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int reason = errno;
  if (fd_ >= 0) ::close(fd_);
  if (reason == EWOULDBLOCK)
    throw Error(ErrorCode::busy,
                fmt::format("store '{}' is being written by another process; wait until it is done", store));
  throw Error(ErrorCode::io,
              fmt::format("cannot write to the store '{}': {}; {}", store, std::strerror(reason), advice_for(reason)));
}

WriterLock::WriterLock(WriterLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

WriterLock::~WriterLock() {
  if (fd_ >= 0) ::close(fd_);
}

Store::Impl::Impl(fs::path where, Database::Access access)
    : directory(std::move(where)),
      lock(access == Database::Access::write ? WriterLock(directory / lock_file, directory.string()) : WriterLock()),
      database(directory / database_file, access, directory.string()) {}

void Store::Impl::require_writable(std::string_view purpose) const {
  if (!lock.held())
    throw Error(ErrorCode::bad_input, fmt::format("store '{}' is open for reading; open it with Store::create {}",
                                                  directory.string(), purpose));
}

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;
Store::~Store() = default;

Store Store::create(const fs::path& directory, const StoreIdentity& identity) {
  make_directory(directory);
  auto impl = std::make_unique<Impl>(directory, Database::Access::write);
  if (!is_there(directory / ignore_file)) write_file_atomically(directory / ignore_file, "*\n");
  if (!store::has_schema(impl->database)) store::create_schema(impl->database, identity);
  impl->identity = store::read_identity(impl->database, directory.string());
  require_same_model(directory, impl->identity, identity);
  return Store(std::move(impl));
}

Store Store::open(const fs::path& directory, const StoreIdentity& identity) {
  std::error_code error;
  const auto missing = [&] {
    return Error(ErrorCode::not_found, fmt::format("no store at '{}'; make one with `hone index MODEL PATH... -o {}`",
                                                   directory.string(), directory.string()));
  };
  if (!fs::exists(directory / database_file, error)) {
    if (!error) throw missing();
    throw Error(ErrorCode::io, fmt::format("cannot open the store '{}': {}; {}", directory.string(), error.message(),
                                           advice_for(error.value())));
  }
  auto impl = std::make_unique<Impl>(directory, Database::Access::read);
  if (!store::has_schema(impl->database)) throw missing();
  impl->identity = store::read_identity(impl->database, directory.string());
  require_same_model(directory, impl->identity, identity);
  return Store(std::move(impl));
}

const StoreIdentity& Store::identity() const { return impl_->identity; }

const fs::path& Store::directory() const { return impl_->directory; }

size_t Store::chunk_count() const { return static_cast<size_t>(impl_->database.integer("SELECT count(*) FROM chunk")); }

std::vector<int64_t> Store::chunk_ids() const {
  std::vector<int64_t> ids;
  Statement select = impl_->database.prepare("SELECT id FROM chunk ORDER BY id");
  while (select.step()) ids.push_back(select.integer(0));
  return ids;
}

Chunk Store::chunk(int64_t id) const {
  const Database& database = impl_->database;
  Statement select = database.prepare(
      "SELECT chunk.hash, chunk.text, chunk.tokens, chunk.tokens_hash, file.path, occurrence.ordinal, file.id,"
      " file.location"
      " FROM chunk LEFT JOIN occurrence ON occurrence.chunk = chunk.id LEFT JOIN file ON file.id = occurrence.file"
      " WHERE chunk.id = ?1 ORDER BY occurrence.file, occurrence.ordinal LIMIT 1");
  if (!select.bind(1, id).step())
    throw Error(
        ErrorCode::not_found,
        fmt::format("store '{}' has no chunk {}: its file was removed since, or the store is damaged; ask again, "
                    "and if that does not help, delete its folder and run `hone index` again",
                    impl_->directory.string(), id));
  if (select.integer(6) == 0) database.fail_corrupt(fmt::format("chunk {} belongs to no file", id));
  Chunk chunk{id,
              select.text(0),
              select.text(4),
              select.text(7),
              static_cast<int>(select.integer(5)),
              select.text(1),
              tokens_of(select.bytes(2))};
  if (content_hash(chunk.text) != chunk.hash || content_hash(select.bytes(2)) != select.text(3))
    database.fail_corrupt(fmt::format("chunk {} does not have its checksum", id));
  return chunk;
}

std::optional<Chunk> Store::successor(int64_t id) const {
  Statement select = impl_->database.prepare(
      "SELECT next.chunk FROM (SELECT file, ordinal FROM occurrence WHERE chunk = ?1 ORDER BY file, ordinal LIMIT 1)"
      " AS here JOIN occurrence AS next ON next.file = here.file AND next.ordinal = here.ordinal + 1");
  if (!select.bind(1, id).step()) return std::nullopt;
  return chunk(select.integer(0));
}

void Store::set_value(const std::string& name, std::span<const std::byte> value) {
  impl_->require_writable("to write");
  impl_->database.prepare("INSERT OR REPLACE INTO value (name, bytes, hash) VALUES (?1, ?2, ?3)")
      .bind(1, name)
      .bind(2, value)
      .bind(3, content_hash(value))
      .run();
}

std::optional<std::vector<std::byte>> Store::value(const std::string& name) const {
  Statement select = impl_->database.prepare("SELECT bytes, hash FROM value WHERE name = ?1");
  if (!select.bind(1, name).step()) return std::nullopt;
  const std::span<const std::byte> bytes = select.bytes(0);
  if (content_hash(bytes) != select.text(1))
    impl_->database.fail_corrupt(fmt::format("value '{}' does not have its checksum", name));
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

StoredRow::StoredRow(std::vector<std::byte> bytes)
    : memory_(std::make_shared<std::vector<std::byte>>(std::move(bytes))), bytes_(*memory_) {}

StoredRow::StoredRow(std::shared_ptr<const MappedFile> file, size_t size)
    : file_(std::move(file)), bytes_(file_->bytes().last(size)) {}

void StoredRow::drop_pages() const {
  if (file_) file_->drop_pages();
}

std::optional<StoredRow> Store::find_row(const std::string& key) const {
  return store::find_row(impl_->directory / store::rows_folder, key);
}

uint64_t Store::bytes_of_row(const std::string& key, size_t row_bytes) { return store::bytes_of_row(key, row_bytes); }

bool Store::keep_row(const std::string& key, std::span<const std::byte> row, uint64_t budget_bytes) const {
  return store::keep_row(impl_->directory / store::rows_folder, key, row, budget_bytes);
}

}  // namespace hone
