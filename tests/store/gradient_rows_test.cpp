#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "base/files.h"
#include "base/random.h"
#include "hone/base.h"
#include "store/rows.h"
#include "tests/row_bytes.h"
#include "tests/small_disk.h"
#include "tests/temporary_folder.h"

namespace hone::store::gradient_rows_test {
namespace {

namespace fs = std::filesystem;
using test::bytes_of;
using test::TemporaryFolder;

constexpr uint64_t plenty = 1 << 30;

std::vector<std::byte> row_of(size_t size, int value) { return std::vector<std::byte>(size, std::byte(value)); }

uint64_t bytes_in(const fs::path& folder) {
  uint64_t sum = 0;
  for (const auto& entry : fs::directory_iterator(folder)) sum += entry.file_size();
  return sum;
}

TEST(GradientRows, RoundTrip) {
  const TemporaryFolder scratch;
  EXPECT_FALSE(find_row(scratch.path() / "rows", "a"));
  keep_row(scratch.path() / "rows", "a", row_of(1000, 1), plenty);
  keep_row(scratch.path() / "rows", "empty", {}, plenty);
  keep_row(scratch.path() / "rows", "a", row_of(10, 2), plenty);
  EXPECT_EQ(bytes_of(find_row(scratch.path() / "rows", "a")), row_of(10, 2));
  EXPECT_EQ(bytes_of(find_row(scratch.path() / "rows", "empty")), row_of(0, 0));
  EXPECT_FALSE(find_row(scratch.path() / "rows", "b"));
}

TEST(GradientRows, LeastRecentlyUsedGoFirst) {
  const TemporaryFolder scratch;
  const fs::path folder = scratch.path() / "rows";
  const uint64_t each = 1000 + 32 + 1;
  for (int i = 0; i < 4; ++i) keep_row(folder, std::to_string(i), row_of(1000, i), 4 * each);
  EXPECT_TRUE(find_row(folder, "0"));
  keep_row(folder, "4", row_of(1000, 4), 4 * each);
  EXPECT_TRUE(find_row(folder, "0"));
  EXPECT_FALSE(find_row(folder, "1"));
  keep_row(folder, "5", row_of(1000, 5), 2 * each);
  EXPECT_TRUE(find_row(folder, "5"));
  EXPECT_TRUE(find_row(folder, "0"));
  EXPECT_FALSE(find_row(folder, "4"));
  EXPECT_EQ(bytes_in(folder), 2 * each);
}

TEST(GradientRows, RowBeyondTheBudgetIsNotKept) {
  const TemporaryFolder scratch;
  keep_row(scratch.path() / "rows", "small", row_of(10, 1), 100);
  keep_row(scratch.path() / "rows", "large", row_of(100, 1), 100);
  EXPECT_FALSE(find_row(scratch.path() / "rows", "large"));
  EXPECT_TRUE(find_row(scratch.path() / "rows", "small"));
}

TEST(GradientRows, DamagedRowsAreMissingAndDeleted) {
  const TemporaryFolder scratch;
  const fs::path folder = scratch.path() / "rows";
  keep_row(folder, "key", row_of(40, 7), plenty);
  const fs::path file = folder / content_hash("key");
  const std::string whole = read_file(file);
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x41);
    scratch.write("rows/" + file.filename().string(), damaged);
    ASSERT_FALSE(find_row(folder, "key")) << "byte " << i;
    ASSERT_FALSE(fs::exists(file)) << "byte " << i;
  }
  for (size_t size = 0; size < whole.size(); ++size) {
    scratch.write("rows/" + file.filename().string(), whole.substr(0, size));
    ASSERT_FALSE(find_row(folder, "key")) << "cut to " << size;
  }
  scratch.write("rows/" + file.filename().string(), whole + "x");
  EXPECT_FALSE(find_row(folder, "key"));
  scratch.write("rows/" + file.filename().string(), whole);
  EXPECT_EQ(bytes_of(find_row(folder, "key")), row_of(40, 7));
}

TEST(GradientRows, AnotherKeyUnderTheSameNameIsMissing) {
  const TemporaryFolder scratch;
  keep_row(scratch.path() / "rows", "one", row_of(4, 1), plenty);
  fs::copy_file(scratch.path() / "rows" / content_hash("one"), scratch.path() / "rows" / content_hash("two"));
  EXPECT_FALSE(find_row(scratch.path() / "rows", "two"));
  EXPECT_TRUE(find_row(scratch.path() / "rows", "one"));
}

TEST(GradientRows, AbandonedTemporariesAreDeleted) {
  const TemporaryFolder scratch;
  const fs::path old = scratch.write("rows/tmp-oldold", "x");
  const fs::path fresh = scratch.write("rows/tmp-fresh1", "x");
  fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(2));
  keep_row(scratch.path() / "rows", "a", row_of(4, 1), plenty);
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(fresh));
}

TEST(GradientRows, PlaceThatCannotBeWrittenIsNoError) {
  const TemporaryFolder scratch;
  scratch.write("file", "x");
  keep_row(scratch.path() / "file/rows", "a", row_of(4, 1), plenty);
  EXPECT_FALSE(find_row(scratch.path() / "file/rows", "a"));
}

TEST(GradientRows, FullDiskIsNoError) {
  const TemporaryFolder scratch;
  const test::SmallDisk disk(scratch.path() / "disk", "64k");
  HONE_NEED_DISK(disk);
  const fs::path folder = disk.path() / "rows";
  keep_row(folder, "small", row_of(20000, 1), plenty);
  keep_row(folder, "large", row_of(60000, 2), plenty);
  EXPECT_TRUE(find_row(folder, "small"));
  EXPECT_FALSE(find_row(folder, "large"));
  size_t files = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder)) ++files;
  EXPECT_EQ(files, 1u);
  disk.make_read_only();
  EXPECT_EQ(bytes_of(find_row(folder, "small")), row_of(20000, 1));
}

TEST(GradientRows, ManyProcessesAtOnce) {
  const TemporaryFolder scratch;
  const fs::path folder = scratch.path() / "rows";
  const uint64_t budget = 20 * (500 + 40);
  std::vector<pid_t> children;
  for (int c = 0; c < 3; ++c) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      RandomStream random(static_cast<uint64_t>(c), "rows");
      bool good = true;
      for (int i = 0; i < 400; ++i) {
        const int key = static_cast<int>(random.below(40));
        if (const auto row = bytes_of(find_row(folder, std::to_string(key)))) good = good && *row == row_of(500, key);
        keep_row(folder, std::to_string(key), row_of(500, key), budget);
      }
      ::_exit(good ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  keep_row(folder, "last", row_of(500, 1), budget);
  EXPECT_LE(bytes_in(folder), budget);
  for (const auto& entry : fs::directory_iterator(folder))
    EXPECT_EQ(entry.path().filename().string().size(), 32u) << entry.path();
}

}  // namespace
}  // namespace hone::store::gradient_rows_test
