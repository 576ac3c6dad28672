// What happens to the program when it is interrupted, shut out or cut off, and to the store that it was writing.
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "hone/store.h"
#include "tests/program.h"

namespace hone {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Program;
using test::Result;
using test::run_program;

const std::string kModel = (fs::path(HONE_SOURCE_DIR) / "tests" / "golden" / "models" / "llama.gguf").string();

class CommandLineHazards : public testing::Test {
 protected:
  std::string place(const std::string& name) const { return (scratch.path() / name).string(); }
  std::string documents(int files, int words) const {
    for (int f = 0; f < files; ++f) {
      std::string text;
      for (int w = 0; w < words; ++w) text += "w" + std::to_string(w * (f + 1) % 97) + " f" + std::to_string(f) + ". ";
      scratch.write("docs/f" + std::to_string(f), text);
    }
    return place("docs");
  }
  std::vector<std::string> index_command(const std::string& store) const {
    return {"index", kModel, place("docs"), "-o", store};
  }
  // Readers and the next writer find a sound store; nothing that it held was lost.
  void expect_usable(const std::string& store, size_t files) const {
    EXPECT_EQ(run_program({"search", store, "w5 f0"}).code, 0);
    const Result again = run_program(index_command(store));
    EXPECT_EQ(again.code, 0) << again.err;
    const Result unchanged = run_program({"index", kModel, place("docs"), "-o", store, "--json"});
    const json object = json::parse(unchanged.out, nullptr, false);
    ASSERT_TRUE(object.is_object()) << unchanged.out << unchanged.err;
    EXPECT_EQ(object["unchanged"], files);
    const Result answer = run_program(
        {"complete", kModel, "w5 f0.", "--store", store, "-n", "2", "--quiet", "--context-neighbours", "0"});
    EXPECT_EQ(answer.code, 0) << answer.err;
  }

  test::TemporaryFolder scratch;
};

TEST_F(CommandLineHazards, InterruptedIndexKeepsWhatItCommitted) {
  constexpr int kFiles = 200;
  documents(kFiles, 150);
  const std::string store = place("store");
  Program program(index_command(store));
  std::error_code absent;
  const fs::path log = fs::path(store) / "store.sqlite-wal";
  for (int i = 0; i < 20000 && !(fs::file_size(log, absent) > 100000 && !absent); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  program.interrupt();
  const Result result = program.wait();
  EXPECT_NE(result.code, 0);
  EXPECT_NE(result.err.find("cancelled"), std::string::npos) << result.err;
  const size_t kept = Store::open(store).chunk_count();
  EXPECT_GT(kept, 0u);
  expect_usable(store, kFiles);
  EXPECT_GE(Store::open(store).chunk_count(), kept);
}

TEST_F(CommandLineHazards, InterruptedCompleteEnds) {
  documents(5, 100);
  const std::string store = place("store");
  ASSERT_EQ(run_program(index_command(store)).code, 0);
  // A pipe that is almost full: the program waits for its reader in the middle of the answer.
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const int capacity = ::fcntl(ends[1], F_SETPIPE_SZ, 4096);
  ASSERT_GT(capacity, 0);
  const std::string filler(static_cast<size_t>(capacity) - 16, '.');
  ASSERT_EQ(::write(ends[1], filler.data(), filler.size()), static_cast<ssize_t>(filler.size()));
  Program program({"complete", kModel, "w5 f0. w10", "--store", store, "-n", "400", "--context-neighbours", "0"},
                  {.output = ends[1]});
  ::close(ends[1]);
  int waiting = 0;
  for (int i = 0; i < 20000 && waiting <= static_cast<int>(filler.size()); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_EQ(::ioctl(ends[0], FIONREAD, &waiting), 0);
  }
  program.interrupt();
  std::string rest(4096, '\0');
  while (::read(ends[0], rest.data(), rest.size()) > 0) {
  }
  ::close(ends[0]);
  const Result result = program.wait();
  EXPECT_EQ(result.code, 1);
  EXPECT_TRUE(result.err.starts_with("hone: ")) << result.err;
  expect_usable(store, 5);
}

TEST_F(CommandLineHazards, SecondWriterIsToldWhichStoreIsBusy) {
  documents(5, 100);
  const std::string store = place("store");
  std::vector<std::string> command = index_command(store);
  command.push_back("--json");
  const json identity = json::parse(run_program(command).out);
  {
    const Store writer = Store::create(store, {identity["model"], identity["base_hash"]});
    const Result second = run_program(command);
    EXPECT_EQ(second.code, 1);
    EXPECT_NE(second.err.find("'" + store + "'"), std::string::npos) << second.err;
    EXPECT_EQ(run_program({"search", store, "w5 f0"}).code, 0);
  }
  expect_usable(store, 5);
}

TEST_F(CommandLineHazards, TwoWritersAtTheSameTime) {
  documents(40, 100);
  const std::string store = place("store");
  Program first(index_command(store)), second(index_command(store));
  for (const Result& result : {first.wait(), second.wait()}) {
    if (result.code == 0) continue;
    EXPECT_EQ(result.code, 1);
    EXPECT_NE(result.err.find(store), std::string::npos) << result.err;
  }
  expect_usable(store, 40);
}

TEST_F(CommandLineHazards, FullDisk) {
  constexpr int kFiles = 40;
  documents(kFiles, 1000);
  fs::create_directory(place("disk"));
  const std::string disk = place("disk"), store = place("disk/store");
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=700k") != 0) GTEST_SKIP() << "cannot mount a tmpfs";
  const Result result = run_program(index_command(store));
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("disk is full"), std::string::npos) << result.err;
  EXPECT_GT(Store::open(store).chunk_count(), 0u);
  EXPECT_EQ(::mount("tmpfs", disk.c_str(), "tmpfs", MS_REMOUNT, "size=256m"), 0);
  expect_usable(store, kFiles);
  EXPECT_EQ(::umount(disk.c_str()), 0);
}

TEST_F(CommandLineHazards, FileSizeLimit) {
  constexpr int kFiles = 20;
  documents(kFiles, 1000);
  const std::string store = place("store");
  const Result result = run_program(index_command(store), {.ignored_signals = {SIGXFSZ}, .largest_file = 400 << 10});
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find(store), std::string::npos) << result.err;
  expect_usable(store, kFiles);
}

TEST_F(CommandLineHazards, NobodyReadsTheOutput) {
  const std::string text = place("docs/f0");
  documents(5, 100);
  const std::string store = place("store");
  const std::vector<std::vector<std::string>> commands = {
      index_command(store),
      {"model", kModel},
      {"tokenize", kModel},
      {"score", kModel, text},
      {"search", store, "w5 f0"},
      {"complete", kModel, "w5 f0. w10", "--store", store, "--context-neighbours", "0"},
      {"--help"}};
  for (const auto& command : commands) {
    SCOPED_TRACE(command.front());
    for (const std::vector<int>& ignored : {std::vector<int>{}, {SIGPIPE}}) {
      int ends[2];
      ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
      ::close(ends[0]);
      const Result result = run_program(command, {.output = ends[1], .ignored_signals = ignored});
      ::close(ends[1]);
      EXPECT_NE(result.code, 0);
      if (ignored.empty()) continue;
      EXPECT_EQ(result.code, 1);
      EXPECT_TRUE(result.err.starts_with("hone: ")) << result.err;
    }
    const Result closed = run_program(command, {.closed = true});
    EXPECT_EQ(closed.code, 1);
    EXPECT_TRUE(closed.err.find("standard") != std::string::npos) << closed.err;
    expect_usable(store, 5);
  }
}

TEST_F(CommandLineHazards, DiskOfTheOutputIsFull) {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (full < 0) GTEST_SKIP() << "needs /dev/full";
  const Result result = run_program({"model", kModel}, {.output = full});
  ::close(full);
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("standard output"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace hone
