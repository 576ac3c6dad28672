// What happens to a store among other processes, on a full disk, and to damaged files.
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <thread>

#include "base/files.h"
#include "base/random.h"
#include "hone/store.h"
#include "tests/expect_error.h"
#include "tests/fake_tokenizer.h"
#include "tests/temporary_folder.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

const StoreIdentity kIdentity = {"fake", "0123456789abcdef"};

std::string numbered(int file, int words) {
  std::string text;
  for (int i = 0; i < words; ++i) text += "f" + std::to_string(file) + "w" + std::to_string(i) + " ";
  return text;
}

class StoreHazards : public testing::Test {
 protected:
  fs::path docs() const { return scratch.path() / "docs"; }
  fs::path place() const { return scratch.path() / "store"; }
  void write_documents(int count, int words) const {
    for (int i = 0; i < count; ++i) scratch.write("docs/f" + std::to_string(i), numbered(i, words));
  }
  Store create() const { return Store::create(place(), kIdentity); }

  test::TemporaryFolder scratch;
  test::ByteTokenizer tokenizer;
};

// Runs body() in a child process, which exits 0 if it returns true.
template <class Body>
pid_t in_child(const Body& body) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  bool good = false;
  try {
    good = body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "child: %s\n", error.what());
  }
  ::_exit(good ? 0 : 1);
}

bool succeeded(pid_t child) {
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

std::string integrity(const fs::path& store) {
  sqlite3* connection = nullptr;
  std::string result;
  if (sqlite3_open((store / "store.sqlite").c_str(), &connection) == SQLITE_OK) {
    const auto collect = [](void* text, int, char** columns, char**) {
      *static_cast<std::string*>(text) += columns[0];
      return 0;
    };
    sqlite3_exec(connection, "PRAGMA integrity_check", collect, &result, nullptr);
    char* message = nullptr;
    sqlite3_exec(connection, "INSERT INTO words (words, rank) VALUES ('integrity-check', 1)", nullptr, nullptr,
                 &message);
    if (message) result += message;
    sqlite3_free(message);
  }
  sqlite3_close(connection);
  return result;
}

// Each file that has chunks has all of them.
size_t whole_files(const Store& store, int words) {
  std::map<int, std::map<int, std::string>> parts;
  for (const int64_t id : store.chunk_ids()) {
    const Chunk chunk = store.chunk(id);
    parts[std::stoi(fs::path(chunk.path).filename().string().substr(1))][chunk.ordinal] = chunk.text;
  }
  for (const auto& [file, chunks] : parts) {
    std::string text;
    for (const auto& [ordinal, part] : chunks) text += part;
    EXPECT_EQ(text, numbered(file, words));
  }
  return parts.size();
}

TEST_F(StoreHazards, SecondWriterIsToldWhichStoreIsBusy) {
  Store first = create();
  HONE_EXPECT_ERROR(create(), ErrorCode::busy, place().string());
  EXPECT_TRUE(succeeded(in_child([&] {
    try {
      create();
    } catch (const Error& error) {
      return error.code == ErrorCode::busy;
    }
    return false;
  })));
}

TEST_F(StoreHazards, ReadersWhileWriting) {
  constexpr int kFiles = 60;
  write_documents(kFiles, 300);
  {
    Store store = create();
    store.index({docs() / "f0"}, tokenizer, {});
  }
  const pid_t writer = in_child([&] {
    Store store = create();
    store.index({docs()}, tokenizer, {});
    return true;
  });
  size_t before = 0;
  int status = 0;
  pid_t ended = 0;
  while (ended == 0) {
    ended = ::waitpid(writer, &status, WNOHANG);
    const Store store = Store::open(place(), kIdentity);
    EXPECT_FALSE(store.neighbours("f0w1 f3w7", 5).empty());
    const size_t found = whole_files(store, 300);
    EXPECT_GE(found, before);
    before = found;
  }
  EXPECT_EQ(status, 0);
  EXPECT_EQ(before, static_cast<size_t>(kFiles));
}

TEST_F(StoreHazards, KilledWriterLeavesWholeFiles) {
  constexpr int kFiles = 40;
  write_documents(kFiles, 1500);
  RandomStream random(11, "kill");
  size_t before = 0;
  size_t complete = 0;
  for (int round = 0; round < 24; ++round) {
    const pid_t child = in_child([&] {
      create().index({docs()}, tokenizer, {});
      return true;
    });
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(60000)));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    if (!fs::exists(place() / "store.sqlite")) continue;
    const Store store = create();
    const size_t found = whole_files(store, 1500);
    EXPECT_GE(found, before) << "committed files were lost";
    EXPECT_EQ(integrity(place()), "ok");
    if (HasFailure()) return;
    before = found;
    if (found < kFiles) continue;
    ++complete;
    before = 0;
    fs::remove_all(place());
  }
  create().index({docs()}, tokenizer, {});
  EXPECT_EQ(whole_files(Store::open(place()), 1500), static_cast<size_t>(kFiles));
  RecordProperty("complete", static_cast<int>(complete));
}

TEST_F(StoreHazards, FullDiskLeavesTheStoreUsable) {
  write_documents(40, 2000);
  fs::create_directory(scratch.path() / "disk");
  const fs::path disk = scratch.path() / "disk";
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=1500k") != 0) GTEST_SKIP() << "cannot mount a tmpfs";
  {
    Store store = Store::create(disk / "store", kIdentity);
    HONE_EXPECT_ERROR(store.index({docs()}, tokenizer, {}), ErrorCode::io, "disk is full");
    const size_t files = whole_files(store, 2000);
    EXPECT_GT(files, 0u);
    EXPECT_FALSE(store.neighbours("f0w17", 1).empty());
    EXPECT_EQ(::mount("tmpfs", disk.c_str(), "tmpfs", MS_REMOUNT, "size=64m"), 0);
    EXPECT_EQ(store.index({docs()}, tokenizer, {}).files_unchanged, files);
    EXPECT_EQ(whole_files(store, 2000), 40u);
  }
  EXPECT_EQ(integrity(disk / "store"), "ok");
  EXPECT_EQ(::umount(disk.c_str()), 0);
}

TEST_F(StoreHazards, ReadsFromAReadOnlyDisk) {
  write_documents(3, 200);
  const fs::path disk = scratch.path() / "disk";
  fs::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=16m") != 0) GTEST_SKIP() << "cannot mount a tmpfs";
  Store::create(disk / "store", kIdentity).index({docs()}, tokenizer, {});
  EXPECT_EQ(::mount("tmpfs", disk.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, ""), 0);
  {
    const Store store = Store::open(disk / "store", kIdentity);
    EXPECT_EQ(whole_files(store, 200), 3u);
    EXPECT_FALSE(store.neighbours("f1w5", 1).empty());
    store.keep_row("key", {}, 1000);
    EXPECT_FALSE(store.find_row("key"));
    HONE_EXPECT_ERROR(Store::create(disk / "store", kIdentity), ErrorCode::io, "store");
  }
  EXPECT_EQ(::umount(disk.c_str()), 0);
}

// Everything a reader does.
void read_everything(const fs::path& place) {
  const Store store = Store::open(place);
  (void)store.identity();
  (void)store.chunk_count();
  (void)store.value("statistics");
  for (const int64_t id : store.chunk_ids()) {
    (void)store.chunk(id);
    (void)store.successor(id);
  }
  for (const char* query : {"f0w1 f1w2 f2w3", "f1w1"}) {
    for (const Neighbour& neighbour : store.neighbours(query, 3)) (void)store.chunk(neighbour.chunk_id);
  }
}

TEST_F(StoreHazards, DamagedDatabaseGivesErrorsNotCrashes) {
  write_documents(4, 150);
  {
    Store store = create();
    store.index({docs()}, tokenizer, {.chunk_tokens = 64});
    store.set_value("statistics", std::vector<std::byte>(50, std::byte{9}));
  }
  const std::string whole = read_file(place() / "store.sqlite");
  read_everything(place());
  RandomStream random(13, "damage");
  size_t refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string damaged = whole;
    for (uint64_t n = 1 + random.below(8); n > 0; --n)
      damaged[random.below(damaged.size())] = static_cast<char>(random.below(256));
    if (random.below(20) == 0) damaged.resize(random.below(damaged.size()));
    if (random.below(10) == 0) damaged[random.below(100)] = static_cast<char>(random.below(256));
    scratch.write("store/store.sqlite", damaged);
    for (const char* suffix : {"-wal", "-shm"}) fs::remove(place() / (std::string("store.sqlite") + suffix));
    try {
      read_everything(place());
    } catch (const Error& error) {
      ++refused;
      EXPECT_TRUE(error.code == ErrorCode::corrupt || error.code == ErrorCode::not_found ||
                  error.code == ErrorCode::unsupported || error.code == ErrorCode::io)
          << error.what();
      EXPECT_NE(error.message.find("store"), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(refused, 0u);
  RecordProperty("refused", static_cast<int>(refused));
}

TEST_F(StoreHazards, WritingToADamagedDatabaseGivesErrorsNotCrashes) {
  write_documents(4, 150);
  create().index({docs()}, tokenizer, {.chunk_tokens = 64});
  const std::string whole = read_file(place() / "store.sqlite");
  RandomStream random(17, "damage");
  for (int i = 0; i < 300; ++i) {
    std::string damaged = whole;
    for (int n = 0; n < 20; ++n) damaged[random.below(damaged.size())] = static_cast<char>(random.below(256));
    scratch.write("store/store.sqlite", damaged);
    for (const char* suffix : {"-wal", "-shm"}) fs::remove(place() / (std::string("store.sqlite") + suffix));
    scratch.write("docs/f1", numbered(1, 100 + i % 50));
    try {
      create().index({docs()}, tokenizer, {.chunk_tokens = 64});
    } catch (const Error& error) {
      EXPECT_NE(error.code, ErrorCode::busy) << error.what();
    }
  }
}

}  // namespace
}  // namespace hone
