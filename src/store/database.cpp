#include "store/database.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <new>

#include "hone/base.h"
#include "store/documents.h"

namespace hone::store {
namespace {

constexpr int busy_milliseconds = 10000;
constexpr size_t most_shown = 120;

std::string percent_encoded(const std::string& path) {
  std::string uri;
  for (const char c : path) {
    if (c == '?' || c == '#' || c == '%')
      uri += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    else
      uri += c;
  }
  return uri;
}

// SQLite refuses to write where the system does, and where the database's own header says so.
bool system_lets_write(sqlite3* connection) {
  const char* file = sqlite3_db_filename(connection, "main");
  return file && ::access(file, W_OK) == 0;
}

// SQLite cannot open a database whose write-ahead log was written by another version, or has its version damaged.
bool has_log_of_another_version(sqlite3* connection) {
  constexpr std::array<char, 4> known = {0, 0x2D, '\xE2', 0x18};  // 3007000
  const char* file = sqlite3_db_filename(connection, "main");
  std::ifstream log(file ? file + std::string("-wal") : "", std::ios::binary);
  std::array<char, 4> magic{}, version{};
  return log.read(magic.data(), magic.size()) && log.read(version.data(), version.size()) && version != known;
}

bool is_full_disk(int reason) { return reason == ENOSPC || reason == EDQUOT || reason == EFBIG; }

}  // namespace

std::string printable(std::string_view text) {
  std::string shown(text.substr(0, most_shown));
  make_valid_utf8(shown);
  for (char& c : shown)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  return text.size() > most_shown ? shown + "..." : shown;
}

void Statement::check_bound(int code, size_t bytes) const {
  if (code == SQLITE_TOOBIG)
    throw Error(ErrorCode::bad_input, fmt::format("store '{}' cannot keep {} bytes in one piece; index shorter chunks",
                                                  database_->name(), bytes));
  if (code != SQLITE_OK) database_->fail(code);
}

Statement& Statement::bind(int parameter, int64_t value) {
  check_bound(sqlite3_bind_int64(statement_.get(), parameter, value), sizeof value);
  return *this;
}

Statement& Statement::bind(int parameter, std::string_view text) {
  const char* data = text.data() ? text.data() : "";
  check_bound(sqlite3_bind_text64(statement_.get(), parameter, data, text.size(), SQLITE_TRANSIENT, SQLITE_UTF8),
              text.size());
  return *this;
}

Statement& Statement::bind(int parameter, std::span<const std::byte> bytes) {
  const int code = bytes.empty()
                       ? sqlite3_bind_zeroblob(statement_.get(), parameter, 0)
                       : sqlite3_bind_blob64(statement_.get(), parameter, bytes.data(), bytes.size(), SQLITE_TRANSIENT);
  check_bound(code, bytes.size());
  return *this;
}

bool Statement::step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  sqlite3_reset(statement_.get());
  if (code != SQLITE_DONE) database_->fail(code);
  return false;
}

void Statement::run() {
  while (step()) {
  }
}

void Statement::reset() { sqlite3_reset(statement_.get()); }

int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }

double Statement::real(int column) const { return sqlite3_column_double(statement_.get(), column); }

std::string Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  if (!data) return {};
  return {data, static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

std::span<const std::byte> Statement::bytes(int column) const {
  const auto* data = static_cast<const std::byte*>(sqlite3_column_blob(statement_.get(), column));
  if (!data) return {};
  return {data, static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

Database::Database(const std::filesystem::path& file, Access access, std::string name) : name_(std::move(name)) {
  std::error_code error;
  const std::string absolute = std::filesystem::absolute(file, error).string();
  if (error) throw Error(ErrorCode::io, fmt::format("cannot open the store '{}': {}", name_, error.message()));
  const std::string uri = "file://" + percent_encoded(absolute);  // the authority is empty, also for //folder
  if (access == Access::write) {
    connect(uri, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    use_write_ahead_log();
  } else {
    connect(uri, SQLITE_OPEN_READONLY);
    const std::string log = file.string() + "-wal";
    std::error_code ignored;
    const bool has_log = std::filesystem::exists(log, ignored) && std::filesystem::file_size(log, ignored) > 0;
    if (!readable() && !has_log) connect(uri + "?immutable=1", SQLITE_OPEN_READONLY);
  }
  execute("PRAGMA cell_size_check = ON; PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY");
}

void Database::connect(const std::string& uri, int flags) {
  sqlite3* connection = nullptr;
  const int code = sqlite3_open_v2(uri.c_str(), &connection,
                                   flags | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, nullptr);
  connection_.reset(connection);
  if (!connection) throw std::bad_alloc();
  if (code != SQLITE_OK) fail(code);
  sqlite3_extended_result_codes(connection, 1);
  sqlite3_busy_timeout(connection, busy_milliseconds);
  sqlite3_db_config(connection, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(connection, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
}

// With synchronous = NORMAL a commit survives the process; a power cut may take the last ones, and damages nothing.
void Database::use_write_ahead_log() {
  Statement mode = prepare("PRAGMA journal_mode = WAL");
  if (!mode.step() || mode.text(0) != "wal")
    throw Error(ErrorCode::io,
                fmt::format("store '{}': its file system has no shared memory; put the store on a local disk", name_));
  mode.reset();
  execute("PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 67108864");
}

// A WAL database needs its shared-memory file; where the folder cannot be written, or its disk is full, that file
// cannot be made.
bool Database::readable() const {
  const int code = sqlite3_exec(handle(), "SELECT count(*) FROM sqlite_schema", nullptr, nullptr, nullptr) & 0xff;
  return code != SQLITE_CANTOPEN && code != SQLITE_READONLY && code != SQLITE_FULL && code != SQLITE_IOERR;
}

Statement Database::prepare(std::string_view sql) const {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(handle(), sql.data(), static_cast<int>(sql.size()), &statement, nullptr);
  if (code != SQLITE_OK) fail(code);
  return {*this, statement};
}

void Database::execute(const std::string& sql) const {
  const int code = sqlite3_exec(handle(), sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) fail(code);
}

int64_t Database::integer(std::string_view sql) const {
  Statement statement = prepare(sql);
  return statement.step() ? statement.integer(0) : 0;
}

void Database::fail(int code) const {
  const std::string reason = sqlite3_errmsg(handle());
  const int system = sqlite3_system_errno(handle());
  switch (code & 0xff) {
    case SQLITE_NOMEM: throw std::bad_alloc();
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      throw Error(ErrorCode::busy, fmt::format("store '{}' is in use by another process; try again later", name_));
    case SQLITE_INTERRUPT:
      throw Error(ErrorCode::cancelled, "cancelled; nothing that was committed is lost, run it again to go on");
    case SQLITE_FULL:
    case SQLITE_IOERR:
      if ((code & 0xff) == SQLITE_FULL || is_full_disk(system))
        throw Error(ErrorCode::io, fmt::format("store '{}': the disk is full; free some space and run it again, "
                                               "what was committed is kept",
                                               name_));
      [[fallthrough]];
    case SQLITE_READONLY:
      if (code == SQLITE_READONLY && system_lets_write(handle())) fail_corrupt("it says that it may not be written");
      [[fallthrough]];
    case SQLITE_CANTOPEN:
      if ((code & 0xff) == SQLITE_CANTOPEN && has_log_of_another_version(handle()))
        fail_corrupt("its write-ahead log has another version");
      [[fallthrough]];
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_NOLFS:
    case SQLITE_PROTOCOL:
      throw Error(ErrorCode::io, fmt::format("store '{}': {}{}{}; check the folder's permissions and its disk", name_,
                                             reason, system ? ": " : "", system ? std::strerror(system) : ""));
    default: fail_corrupt(reason);
  }
}

void Database::fail_corrupt(std::string_view what) const {
  throw Error(
      ErrorCode::corrupt,
      fmt::format("store '{}' is damaged ({}); delete its folder and run `hone index` again", name_, printable(what)));
}

Transaction::Transaction(const Database& database) : database_(database) { database_.execute("BEGIN IMMEDIATE"); }

Transaction::~Transaction() {
  if (open_ && !sqlite3_get_autocommit(database_.handle()))
    sqlite3_exec(database_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

void Transaction::commit() {
  database_.execute("COMMIT");
  open_ = false;
}

}  // namespace hone::store
