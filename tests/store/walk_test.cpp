#include "store/walk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/random.h"
#include "store/ignore.h"
#include "tests/expect_error.h"
#include "tests/temporary_folder.h"

namespace hone::store::walk_test {
namespace {

namespace fs = std::filesystem;
using test::TemporaryFolder;

std::vector<std::string> names(const Walk& walk, const fs::path& root) {
  std::vector<std::string> result;
  for (const WalkedFile& file : walk.files) result.push_back(file.path.lexically_relative(root).string());
  return result;
}

std::vector<std::string> walked(const TemporaryFolder& scratch) {
  return names(walk({scratch.path()}, {}), scratch.path());
}

using Names = std::vector<std::string>;

TEST(Glob, MatchesAsGitDoes) {
  struct Case {
    const char* pattern;
    const char* path;
    bool matches;
  };
  const Case cases[] = {
      {"*.o", "a.o", true},
      {"*.o", "a/b.o", false},
      {"**/*.o", "a/b.o", true},
      {"**/*.o", "b.o", true},
      {"a/**/b", "a/b", true},
      {"a/**/b", "a/x/y/b", true},
      {"a/**/b", "a/xb", false},
      {"a/**", "a/x/y", true},
      {"a/**", "a", false},
      {"**", "x/y", true},
      {"a**b", "axxb", true},
      {"a**b", "ax/b", false},
      {"?", "a", true},
      {"?", "/", false},
      {"?", "\xC3\xA9", true},
      {"[a-c]x", "bx", true},
      {"[a-c]x", "dx", false},
      {"[!a-c]x", "dx", true},
      {"[^a-c]x", "ax", false},
      {"[]a]", "]", true},
      {"[a", "[a", false},
      {"a[/]b", "a/b", false},
      {"\\*", "*", true},
      {"\\*", "x", false},
      {"[[:digit:]]", "7", true},
      {"[[:alpha:]_]", "_", true},
      {"[a\\]b]", "]", true},
      {"[a-]", "-", true},
      {"x\\", "x\\", false},
      {"a/*/c", "a/b/c", true},
      {"a/*/c", "a/b/d/c", false},
      {"**/a/**/z", "q/a/z", true},
      {"", "", true},
  };
  for (const Case& c : cases) EXPECT_EQ(Glob(c.pattern).matches(c.path), c.matches) << c.pattern << " on " << c.path;
}

TEST(Glob, TakesLinearTimeOnHostilePatterns) {
  std::string pattern;
  for (int i = 0; i < 200; ++i) pattern += "*a**/";
  EXPECT_FALSE(Glob(pattern + "b").matches(std::string(4000, 'a')));
}

TEST(Glob, SurvivesRandomPatterns) {
  RandomStream random(1, "glob");
  const std::string letters = "ab/*?[]!\\-^:.";
  for (int i = 0; i < 20000; ++i) {
    std::string pattern;
    std::string path;
    for (uint64_t n = random.below(12); n > 0; --n) pattern += letters[random.below(letters.size())];
    for (uint64_t n = random.below(12); n > 0; --n) path += letters[random.below(letters.size())];
    (void)Glob(pattern).matches(path);
    IgnoreRules rules;
    rules.add(pattern);
    (void)rules.judge(path, true);
  }
}

TEST(Walk, IsSortedAndSkipsHidden) {
  const TemporaryFolder scratch;
  for (const char* name : {"b.txt", "a/z.md", "a/b.md", ".secret", ".git/config", "c/.x/y", "a.txt"})
    scratch.write(name, "x");
  EXPECT_EQ(walked(scratch), (Names{"a/b.md", "a/z.md", "a.txt", "b.txt"}));
}

TEST(Walk, HonoursIgnoreFilesOfEveryFolder) {
  const TemporaryFolder scratch;
  scratch.write(".gitignore", "# comment\r\n*.log\n!keep.log\n/build\nout/\ndocs/*.tmp\n\\#odd\nspace\\ \ntrail  \n");
  scratch.write("sub/.gitignore", "!b.log\n/local\n");
  scratch.write("sub/.ignore", "*.bak\n");
  for (const char* name :
       {"a.log", "keep.log", "build/x", "sub/build/x", "out/x", "sub/out/x", "docs/a.tmp", "sub/docs/a.tmp", "#odd",
        "space ", "trail", "sub/b.log", "sub/c.log", "sub/local", "sub/deep/local", "sub/x.bak", "x.bak", "plain/out"})
    scratch.write(name, "x");
  EXPECT_EQ(walked(scratch),
            (Names{"keep.log", "plain/out", "sub/b.log", "sub/build/x", "sub/deep/local", "sub/docs/a.tmp", "x.bak"}));
}

TEST(Walk, IgnoreOutranksGitignoreAndExcludedFoldersStayClosed) {
  const TemporaryFolder scratch;
  scratch.write(".gitignore", "a.txt\nclosed/\n!closed/in.txt\n");
  scratch.write(".ignore", "!a.txt\n");
  scratch.write("a.txt", "x");
  scratch.write("closed/in.txt", "x");
  EXPECT_EQ(walked(scratch), (Names{"a.txt"}));
}

TEST(Walk, TakesWhatIsNamedEvenIfHidden) {
  const TemporaryFolder scratch;
  scratch.write(".notes/a.txt", "x");
  scratch.write(".b", "x");
  const Walk found = walk({scratch.path() / ".notes", scratch.path() / ".b"}, {});
  EXPECT_EQ(names(found, scratch.path()), (Names{".notes/a.txt", ".b"}));
}

TEST(Walk, SeesEachFileOnceWhateverThePathsOverlap) {
  const TemporaryFolder scratch;
  scratch.write("a/x", "1");
  const Walk found =
      walk({scratch.path() / "a", scratch.path(), scratch.path() / "a/../a/x", scratch.path() / "a/"}, {});
  ASSERT_EQ(found.files.size(), 1u);
  EXPECT_EQ(found.files[0].size, 1u);
}

TEST(Walk, LinksCannotHangIt) {
  const TemporaryFolder scratch;
  scratch.write("a/x.txt", "x");
  fs::create_directory_symlink(scratch.path(), scratch.path() / "a/loop");
  fs::create_symlink("self", scratch.path() / "self");
  fs::create_symlink("a/x.txt", scratch.path() / "file");
  const Walk found = walk({scratch.path()}, {});
  EXPECT_EQ(names(found, scratch.path()), (Names{"a/x.txt", "file"}));
  ASSERT_EQ(found.skipped.size(), 2u);
  EXPECT_NE(found.skipped[0].reason.find("link to a folder"), std::string::npos);
  EXPECT_NE(found.skipped[1].reason.find("nowhere"), std::string::npos);
}

TEST(Walk, IgnoreFilesThatCannotBeReadAreReported) {
  const TemporaryFolder scratch;
  scratch.write("x.txt", "x");
  fs::create_symlink(".gitignore", scratch.path() / ".gitignore");
  const Walk found = walk({scratch.path()}, {});
  EXPECT_EQ(names(found, scratch.path()), Names{"x.txt"});
  ASSERT_EQ(found.skipped.size(), 1u);
  EXPECT_NE(found.skipped[0].path.find(".gitignore"), std::string::npos);
}

TEST(Walk, TimesThatNanosecondsDoNotReach) {
  const TemporaryFolder scratch;
  const fs::path file = scratch.write("a", "x");
  const timespec far[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, {.tv_sec = 10'413'792'000, .tv_nsec = 0}};  // 2300
  ASSERT_EQ(::utimensat(AT_FDCWD, file.c_str(), far, 0), 0);
  const Walk found = walk({scratch.path()}, {});
  ASSERT_EQ(found.files.size(), 1u);
  EXPECT_GT(found.files[0].mtime_ns, 2'000'000'000'000'000'000);
}

TEST(Walk, PassesOverPipes) {
  const TemporaryFolder scratch;
  scratch.write("a", "x");
  ASSERT_EQ(::mkfifo((scratch.path() / "pipe").c_str(), 0600), 0);
  const Walk found = walk({scratch.path()}, {});
  EXPECT_EQ(found.files.size(), 1u);
  ASSERT_EQ(found.skipped.size(), 1u);
  EXPECT_EQ(found.skipped[0].reason, "not a regular file");
}

// A folder that may be listed but not entered hides what its files are.
TEST(Walk, ReportsFoldersItMayNotRead) {
  const TemporaryFolder scratch;
  scratch.write("listed/c", "x");
  scratch.write("open/a", "x");
  scratch.write("shut/b", "x");
  fs::permissions(scratch.path() / "listed", fs::perms::others_read | fs::perms::group_read | fs::perms::owner_read);
  fs::permissions(scratch.path() / "shut", fs::perms::none);
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(scratch.path().c_str(), 65534, 65534), 0);
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const Walk found = walk({scratch.path()}, {});
  if (::getuid() == 0) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  for (const char* folder : {"listed", "shut"}) fs::permissions(scratch.path() / folder, fs::perms::owner_all);
  EXPECT_EQ(names(found, scratch.path()), (Names{"open/a"}));
  const std::string root = fs::canonical(scratch.path()).string();
  EXPECT_EQ(found.unreadable, (std::vector{root + "/listed/c", root + "/shut"}));
}

TEST(Walk, MissingPathIsNamed) {
  const TemporaryFolder scratch;
  HONE_EXPECT_ERROR(walk({scratch.path() / "absent"}, {}), ErrorCode::not_found, "absent");
}

TEST(Walk, CanBeCancelled) {
  const TemporaryFolder scratch;
  const CancelToken cancel;
  cancel.cancel();
  HONE_EXPECT_ERROR(walk({scratch.path()}, cancel), ErrorCode::cancelled, "cancelled");
}

TEST(Walk, BelowIsByWholeNames) {
  EXPECT_TRUE(is_below("/a/b", "/a"));
  EXPECT_TRUE(is_below("/a", "/a"));
  EXPECT_TRUE(is_below("/a", "/"));
  EXPECT_FALSE(is_below("/ab", "/a"));
}

}  // namespace
}  // namespace hone::store::walk_test
