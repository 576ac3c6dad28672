// What happens to a store among other processes, on a full disk, and to damaged files.
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
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
#include "tests/small_disk.h"
#include "tests/temporary_folder.h"

namespace hone::store_hazards_test {
namespace {

namespace fs = std::filesystem;

const StoreIdentity fake_identity = {"fake", "0123456789abcdef"};

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
  Store create() const { return Store::create(place(), fake_identity); }

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
  constexpr int file_count = 60;
  write_documents(file_count, 300);
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
    const Store store = Store::open(place(), fake_identity);
    EXPECT_FALSE(store.neighbours("f0w1 f3w7", 5).empty());
    const size_t found = whole_files(store, 300);
    EXPECT_GE(found, before);
    before = found;
  }
  EXPECT_EQ(status, 0);
  EXPECT_EQ(before, static_cast<size_t>(file_count));
}

TEST_F(StoreHazards, KilledWriterLeavesWholeFiles) {
  constexpr int file_count = 40;
  write_documents(file_count, 1500);
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
    if (found < file_count) continue;
    ++complete;
    before = 0;
    fs::remove_all(place());
  }
  create().index({docs()}, tokenizer, {});
  EXPECT_EQ(whole_files(Store::open(place()), 1500), static_cast<size_t>(file_count));
  RecordProperty("complete", static_cast<int>(complete));
}

TEST_F(StoreHazards, FullDiskLeavesTheStoreUsable) {
  write_documents(40, 2000);
  const test::SmallDisk disk(scratch.path() / "disk", "1500k");
  HONE_NEED_DISK(disk);
  {
    Store store = Store::create(disk.path() / "store", fake_identity);
    HONE_EXPECT_ERROR(store.index({docs()}, tokenizer, {}), ErrorCode::io, "disk is full");
    const size_t files = whole_files(store, 2000);
    EXPECT_GT(files, 0u);
    EXPECT_FALSE(store.neighbours("f0w17", 1).empty());
    disk.resize("64m");
    EXPECT_EQ(store.index({docs()}, tokenizer, {}).files_unchanged, files);
    EXPECT_EQ(whole_files(store, 2000), 40u);
  }
  EXPECT_EQ(integrity(disk.path() / "store"), "ok");
}

TEST_F(StoreHazards, FullDiskKeepsTheOldValue) {
  write_documents(3, 200);
  const test::SmallDisk disk(scratch.path() / "disk", "4m");
  HONE_NEED_DISK(disk);
  Store store = Store::create(disk.path() / "store", fake_identity);
  store.index({docs()}, tokenizer, {});
  const std::vector<std::byte> old(100, std::byte{1}), large(1 << 20, std::byte{2});
  store.set_value("statistics", old);
  const fs::path filler = disk.fill();
  HONE_EXPECT_ERROR(store.set_value("statistics", large), ErrorCode::io, "free some space");
  EXPECT_EQ(store.value("statistics"), old);
  store.keep_row("key", large, 1 << 30);
  EXPECT_FALSE(store.find_row("key"));
  fs::remove(filler);
  store.set_value("statistics", large);
  EXPECT_EQ(store.value("statistics"), large);
  EXPECT_EQ(whole_files(store, 200), 3u);
}

TEST_F(StoreHazards, ReadsFromAFullDisk) {
  write_documents(3, 200);
  const test::SmallDisk disk(scratch.path() / "disk", "4m");
  HONE_NEED_DISK(disk);
  Store::create(disk.path() / "store", fake_identity).index({docs()}, tokenizer, {});
  disk.fill();
  const Store store = Store::open(disk.path() / "store", fake_identity);
  EXPECT_EQ(whole_files(store, 200), 3u);
  EXPECT_FALSE(store.neighbours("f1w5", 1).empty());
  HONE_EXPECT_ERROR(Store::create(disk.path() / "store", fake_identity), ErrorCode::io, "free some space");
}

TEST_F(StoreHazards, ReadsFromAReadOnlyDisk) {
  write_documents(3, 200);
  const test::SmallDisk disk(scratch.path() / "disk", "16m");
  HONE_NEED_DISK(disk);
  Store::create(disk.path() / "store", fake_identity).index({docs()}, tokenizer, {});
  disk.make_read_only();
  const Store store = Store::open(disk.path() / "store", fake_identity);
  EXPECT_EQ(whole_files(store, 200), 3u);
  EXPECT_FALSE(store.neighbours("f1w5", 1).empty());
  store.keep_row("key", {}, 1000);
  EXPECT_FALSE(store.find_row("key"));
  HONE_EXPECT_ERROR(Store::create(disk.path() / "store", fake_identity), ErrorCode::io, "choose a place");
}

}  // namespace
}  // namespace hone::store_hazards_test
