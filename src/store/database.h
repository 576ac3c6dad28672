// Database: a thin owner of one SQLite connection. Every failure becomes hone::Error that names the store.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace hone::store {

class Database;

// What a damaged file says, short enough and harmless for a message.
std::string printable(std::string_view text);

// A prepared statement. Parameters are numbered from 1, columns from 0. Must not outlive its Database.
class Statement {
 public:
  Statement& bind(int parameter, int64_t value);
  Statement& bind(int parameter, std::string_view text);
  Statement& bind(int parameter, std::span<const std::byte> bytes);

  // True while there is a row; after the last one the statement can be bound and stepped anew.
  bool step();
  // For statements without rows.
  void run();
  // Gives up the remaining rows, and the locks they hold.
  void reset();

  int64_t integer(int column) const;
  double real(int column) const;
  std::string text(int column) const;
  // Valid until the next step().
  std::span<const std::byte> bytes(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  Statement(const Database& database, sqlite3_stmt* statement) : database_(&database), statement_(statement) {}
  void check_bound(int code, size_t bytes) const;

  const Database* database_;
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

// One connection in WAL mode: work that was committed survives a killed process.
class Database {
 public:
  enum class Access { read, write };

  // `name` is what error messages call the store. Access::write creates the file. A file in a folder that cannot be
  // written opens for reading too.
  Database(const std::filesystem::path& file, Access access, std::string name);

  Statement prepare(std::string_view sql) const;
  void execute(const std::string& sql) const;
  // The first column of the first row, 0 if there is none.
  int64_t integer(std::string_view sql) const;
  int64_t last_insert_id() const { return sqlite3_last_insert_rowid(connection_.get()); }
  sqlite3* handle() const { return connection_.get(); }
  const std::string& name() const { return name_; }

  // Throws the Error that fits an SQLite result code.
  [[noreturn]] void fail(int code) const;
  // Throws Error{corrupt}: `what` is damaged.
  [[noreturn]] void fail_corrupt(std::string_view what) const;

 private:
  struct Close {
    void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
  };
  void connect(const std::string& uri, int flags);
  void use_write_ahead_log();
  bool readable() const;

  std::string name_;
  std::unique_ptr<sqlite3, Close> connection_;
};

// Rolls back unless committed.
class Transaction {
 public:
  explicit Transaction(const Database& database);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  const Database& database_;
  bool open_ = true;
};

}  // namespace hone::store
