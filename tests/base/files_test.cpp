// Folders: what is there, what is made, and what the system refuses.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/files.h"
#include "tests/expect_error.h"
#include "tests/temporary_folder.h"

namespace hone::test::files_test {
namespace {

namespace fs = std::filesystem;

TEST(Folders, EntriesByName) {
  const TemporaryFolder folder;
  for (const char* name : {"b", "a/inner", "c"}) folder.write(name, "x");
  EXPECT_EQ(folder_entries(folder.path()),
            (std::vector<fs::path>{folder.path() / "a", folder.path() / "b", folder.path() / "c"}));
  EXPECT_TRUE(folder_entries(folder.path() / "absent").empty());
  HONE_EXPECT_ERROR(folder_entries(folder.path() / "b"), ErrorCode::io, "cannot read the folder");
}

fs::perms permissions_of(const fs::path& path) { return fs::status(path).permissions(); }

TEST(Files, ANewFileHasTheUsualPermissionsAndAnOldOneKeepsIts) {
  const TemporaryFolder folder;
  const fs::path fresh = folder.path() / "fresh", kept = folder.write("kept", "before");
  fs::permissions(kept, fs::perms::owner_read | fs::perms::owner_write | fs::perms::group_read);
  const mode_t before = ::umask(0077);
  write_file_atomically(fresh, "mine");
  ::umask(0022);
  write_file_atomically(kept, "after");
  ::umask(before);
  EXPECT_EQ(permissions_of(fresh), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(permissions_of(kept), fs::perms::owner_read | fs::perms::owner_write | fs::perms::group_read);
  EXPECT_EQ(read_file(kept), "after");
  EXPECT_EQ(folder_entries(folder.path()).size(), 2U);
}

TEST(Files, ALinkStaysAndWhatItLeadsToIsReplaced) {
  const TemporaryFolder folder;
  const fs::path file = folder.write("there/file", "before"), link = folder.path() / "link";
  fs::create_symlink("there/file", link);
  write_file_atomically(link, "after");
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(read_file(file), "after");
  EXPECT_EQ(folder_entries(folder.path() / "there").size(), 1U);
  const fs::path to_nothing = folder.path() / "to nothing", circle = folder.path() / "circle";
  fs::create_symlink(folder.path() / "there" / "new", to_nothing);
  write_file_atomically(to_nothing, "made");
  EXPECT_TRUE(fs::is_symlink(to_nothing));
  EXPECT_EQ(read_file(folder.path() / "there" / "new"), "made");
  fs::create_symlink("circle", circle);
  HONE_EXPECT_ERROR(write_file_atomically(circle, "x"), ErrorCode::io, "circle");
}

TEST(Files, APipeIsWrittenTo) {
  const TemporaryFolder folder;
  const fs::path pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  write_file_atomically(pipe, "for the reader");
  std::string got(100, '\0');
  got.resize(static_cast<size_t>(std::max<ssize_t>(0, ::read(reader, got.data(), got.size()))));
  ::close(reader);
  EXPECT_EQ(got, "for the reader");
  EXPECT_TRUE(fs::is_fifo(pipe));
  EXPECT_EQ(folder_entries(folder.path()).size(), 1U);
}

TEST(Folders, AreMadeOnce) {
  const TemporaryFolder folder;
  const fs::path inner = folder.path() / "a" / "b";
  EXPECT_FALSE(is_there(inner));
  make_folder(inner);
  EXPECT_TRUE(is_there(inner));
  make_folder(inner);
  const fs::path file = folder.write("file", "x");
  for (const fs::path& place : {file, file / "below"})
    HONE_EXPECT_ERROR(make_folder(place), ErrorCode::io, "cannot make the folder '" + place.string());
  EXPECT_FALSE(is_there(file / "below"));
  EXPECT_FALSE(is_there(folder.path() / std::string(5000, 'x')));
}

}  // namespace
}  // namespace hone::test::files_test
