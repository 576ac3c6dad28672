// What happens to the program when it is interrupted, shut out or cut off, and to the store that it was writing.
#include <gtest/gtest.h>
#include <sys/ioctl.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <span>
#include <thread>

#include "hone/store.h"
#include "tests/golden.h"
#include "tests/program.h"
#include "tests/small_disk.h"

namespace hone::command_line_hazards_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Program;
using test::Result;
using test::run_program;

const std::string model = test::tiny_model("llama").string();

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
    return {"index", model, place("docs"), "-o", store};
  }
  // Readers and the next writer find a sound store; nothing that it held was lost.
  void expect_usable(const std::string& store, size_t files) const {
    EXPECT_EQ(run_program({"search", store, "w5 f0"}).code, 0);
    const Result again = run_program(index_command(store));
    EXPECT_EQ(again.code, 0) << again.err;
    const Result unchanged = run_program({"index", model, place("docs"), "-o", store, "--json"});
    const json object = json::parse(unchanged.out, nullptr, false);
    ASSERT_TRUE(object.is_object()) << unchanged.out << unchanged.err;
    EXPECT_EQ(object["unchanged"], files);
    const Result answer =
        run_program({"complete", model, "w5 f0.", "--store", store, "-n", "2", "--quiet", "--context-neighbours", "0"});
    EXPECT_EQ(answer.code, 0) << answer.err;
  }

  test::TemporaryFolder scratch;
};

TEST_F(CommandLineHazards, PathsThatAreGone) {
  documents(3, 200);
  const std::string store = place("store"), one = place("docs/f1");
  const std::vector<std::string> files = {"index", model, place("docs/f0"), one, "-o", store, "--json"};
  ASSERT_EQ(run_program(files).code, 0);
  fs::remove(one);
  const Result again = run_program(files);
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(json::parse(again.out)["removed"], 1);
  EXPECT_EQ(run_program({"search", store, "f1"}).out.find("docs/f1"), std::string::npos);
  // What no store knows is an error, and makes none.
  fs::create_directories(place("empty"));
  for (const char* name : {"store", "empty", "new"}) {
    const Result unknown = run_program({"index", model, place("docs/nowhere"), "-o", place(name)});
    EXPECT_EQ(unknown.code, 1);
    EXPECT_NE(unknown.err.find("nowhere"), std::string::npos) << unknown.err;
  }
  EXPECT_TRUE(fs::is_empty(place("empty")));
  EXPECT_FALSE(fs::exists(place("new")));
}

TEST_F(CommandLineHazards, InterruptedIndexKeepsWhatItCommitted) {
  constexpr int file_count = 200;
  documents(file_count, 150);
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
  expect_usable(store, file_count);
  EXPECT_GE(Store::open(store).chunk_count(), kept);
}

// It says so, and what to do.
void expect_cancelled(const Result& result) {
  EXPECT_EQ(result.code, 1) << result.err;
  for (const char* part : {"hone: cancelled", "run it again"})
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
}

size_t files_in(const fs::path& folder) {
  if (!fs::exists(folder)) return 0;
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// Ever later: while the model is read, while indexing, while learning, while computing gradients. Each run goes on
// where the last one stopped.
TEST_F(CommandLineHazards, IndexInterruptedAgainAndAgain) {
  constexpr int file_count = 30;
  documents(file_count, 150);
  const std::string store = place("store");
  std::vector<std::string> command = index_command(store);
  command.insert(command.end(), {"--gradients", "--chunk-tokens", "64"});
  size_t chunks = 0, rows = 0;
  int stopped = 0;
  for (std::chrono::milliseconds delay(4);; delay += delay / 2) {
    Program program(command);
    program.wait_until_it_catches_interrupts();
    std::this_thread::sleep_for(delay);
    program.interrupt();
    const Result result = program.wait();
    if (!fs::exists(store)) {  // while the model was read
      expect_cancelled(result);
      if (HasFailure()) return;
      continue;
    }
    const size_t chunks_now = Store::open(store).chunk_count(), rows_now = files_in(fs::path(store) / "gradients");
    EXPECT_GE(chunks_now, chunks);
    EXPECT_GE(rows_now, rows);
    chunks = chunks_now;
    rows = rows_now;
    if (result.code == 0) break;
    ++stopped;
    expect_cancelled(result);
    EXPECT_EQ(run_program({"search", store, "w5 f0"}).code, 0);
    if (HasFailure()) return;
  }
  EXPECT_GT(stopped, 0);
  EXPECT_EQ(rows, chunks);
  expect_usable(store, file_count);
}

TEST_F(CommandLineHazards, InterruptedEvalScoreAndCompleteEnd) {
  documents(5, 100);
  const std::string store = place("store");
  ASSERT_EQ(run_program(index_command(store)).code, 0);
  std::string text;
  for (int w = 0; w < 20000; ++w) text += "w" + std::to_string(w % 89) + " of another text. ";
  const std::string file = scratch.write("long", text).string();
  const std::vector<std::vector<std::string>> commands = {
      {"eval", model, "--store", store, file, "--offset", "0", "--prefix", "64", "--continuation", "64", "--windows",
       "100000", "--context-neighbours", "0"},
      {"score", model, file, "--window", "64", "--stride", "8"},
      {"complete", model, "w5 f0. w10", "--store", store, "-n", "490", "--context-neighbours", "0"}};
  const auto expect_end = [&](const std::vector<std::string>& command, std::chrono::milliseconds after) {
    SCOPED_TRACE(command.front());
    Program program(command);
    program.wait_until_it_catches_interrupts();
    std::this_thread::sleep_for(after);
    program.interrupt();
    expect_cancelled(program.wait());
    expect_usable(store, 5);
  };
  for (const auto& command : commands) expect_end(command, std::chrono::milliseconds(0));  // the model is being read
  for (const auto& command : std::span(commands).first(2)) expect_end(command, std::chrono::milliseconds(200));
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
  Program program({"complete", model, "w5 f0. w10", "--store", store, "-n", "400", "--context-neighbours", "0"},
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
  constexpr int file_count = 40;
  documents(file_count, 1000);
  const test::SmallDisk disk(place("disk"), "700k");
  HONE_NEED_DISK(disk);
  const std::string store = place("disk/store");
  const Result result = run_program(index_command(store));
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("disk is full"), std::string::npos) << result.err;
  EXPECT_GT(Store::open(store).chunk_count(), 0u);
  disk.resize("256m");
  expect_usable(store, file_count);
}

// Not one byte is left: what is stored can be read and answers, nothing new is learned.
TEST_F(CommandLineHazards, FullDiskAfterIndexing) {
  documents(5, 100);
  const test::SmallDisk disk(place("disk"), "16m");
  HONE_NEED_DISK(disk);
  const std::string store = place("disk/store");
  ASSERT_EQ(run_program(index_command(store)).code, 0);
  const size_t chunks = Store::open(store).chunk_count();
  fs::remove_all(fs::path(store) / "gradients");
  const fs::path filler = disk.fill();
  std::vector<std::string> relearn = index_command(store);
  relearn.insert(relearn.end(), {"--relearn", "--gradients"});
  const Result result = run_program(relearn);
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find(store), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("free some space"), std::string::npos) << result.err;
  EXPECT_EQ(run_program({"search", store, "w5 f0"}).code, 0);
  const Result answer =
      run_program({"complete", model, "w5 f0.", "--store", store, "-n", "2", "--json", "--context-neighbours", "0"});
  EXPECT_EQ(answer.code, 0) << answer.err;
  EXPECT_GT(json::parse(answer.out)["hone"]["gradients_computed"], 0);
  EXPECT_EQ(files_in(fs::path(store) / "gradients"), 0u) << "a row that does not fit leaves nothing";
  fs::remove(filler);
  EXPECT_EQ(Store::open(store).chunk_count(), chunks);
  expect_usable(store, 5);
}

TEST_F(CommandLineHazards, FileSizeLimit) {
  constexpr int file_count = 20;
  documents(file_count, 1000);
  const std::string store = place("store");
  const Result result = run_program(index_command(store), {.ignored_signals = {SIGXFSZ}, .largest_file = 400 << 10});
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find(store), std::string::npos) << result.err;
  expect_usable(store, file_count);
}

// 100 MB without a line end. After a while its words come again, so that the store stays small.
std::string hundred_megabytes() {
  constexpr size_t size = 100'000'000;
  std::string line;
  line.reserve(size + 64);
  for (int i = 0; line.size() < size; ++i) line += "word" + std::to_string(i % 5003) + " of the line ";
  line.resize(size);
  return line;
}

TEST_F(CommandLineHazards, OneLineOf100Megabytes) {
  scratch.write("docs/line", hundred_megabytes());
  const std::string store = place("store");
  std::vector<std::string> command = index_command(store);
  command.push_back("--json");
  const Result result = run_program(command);
  EXPECT_EQ(result.code, 0) << result.err;
  const json report = json::parse(result.out, nullptr, false);
  EXPECT_EQ(report["indexed"], 1);
  EXPECT_EQ(report["skipped"], json::array());
  EXPECT_GT(report["chunks_duplicate"], report["chunks"]);
  const Store reader = Store::open(store);
  const std::vector<Neighbour> found = reader.neighbours("word4321", 1);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(reader.chunk(found[0].chunk_id).text.find("word4321"), std::string::npos);
  expect_usable(store, 1);
}

using CommandLineHazardsSlow = CommandLineHazards;

TEST_F(CommandLineHazardsSlow, OneLineOf100MegabytesForEverySubcommand) {
  documents(5, 100);
  const std::string store = place("store"), line = hundred_megabytes();
  ASSERT_EQ(run_program(index_command(store)).code, 0);
  const std::string file = scratch.write("line", line).string();
  const auto works = [&](const std::vector<std::string>& command, const std::string& input = "") {
    const Result result = run_program(command, {.input = input});
    EXPECT_EQ(result.code, 0) << command.front() << ": " << result.err;
    return result.out;
  };
  EXPECT_GT(works({"tokenize", model}, line).size(), line.size() / 4);
  EXPECT_GT(json::parse(works({"score", model, file, "--max-windows", "1", "--json"}))["bits"], 0);
  EXPECT_EQ(json::parse(works({"eval", model, "--store", store, file, "--json", "--prefix", "64", "--continuation",
                               "64", "--context-neighbours", "0"}))["windows"],
            1);
  const Result prompt = run_program({"complete", model, "-", "--store", store}, {.input = line});
  EXPECT_EQ(prompt.code, 1);
  for (const char* part : {"context", "shorten the prompt"})
    EXPECT_NE(prompt.err.find(part), std::string::npos) << prompt.err;
  // In a folder of its own: one document of one line, and a line that is none.
  const std::string jsonl = scratch.write("lines/texts.jsonl", "{\"text\": \"" + line + "\"}\n" + line + "\n").string();
  const json report = json::parse(works({"index", model, jsonl, "-o", place("lines.hone"), "--json"}));
  EXPECT_EQ(report["indexed"], 1);
  ASSERT_EQ(report["skipped"].size(), 1u);
  EXPECT_NE(report["skipped"][0]["reason"].get<std::string>().find("line 2: not valid JSON"), std::string::npos);
  const Result refused = run_program({"complete", file, "word"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_NE(refused.err.find("not a GGUF file"), std::string::npos) << refused.err;
}

TEST_F(CommandLineHazards, NobodyReadsTheOutput) {
  const std::string text = place("docs/f0");
  documents(5, 100);
  const std::string store = place("store");
  const std::vector<std::vector<std::string>> commands = {
      index_command(store),
      {"model", model},
      {"tokenize", model},
      {"score", model, text},
      {"search", store, "w5 f0"},
      {"complete", model, "w5 f0. w10", "--store", store, "--context-neighbours", "0"},
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

// What is said beside the answer may be lost, the answer may not.
TEST_F(CommandLineHazards, StandardErrorThatTakesNothing) {
  documents(2, 50);
  const std::string store = place("store");
  ASSERT_EQ(run_program(index_command(store)).code, 0);
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (full < 0) GTEST_SKIP() << "needs /dev/full";
  const std::vector<std::string> complete = {"complete", model, "w5 f0. w10", "--store", store, "-n", "4", "--base"};
  const Result heard = run_program(complete), unheard = run_program(complete, {.errors = full});
  EXPECT_EQ(heard.code, 0) << heard.err;
  EXPECT_EQ(unheard.code, 0);
  EXPECT_EQ(unheard.out, heard.out);
  EXPECT_EQ(run_program({"search", store, "nothing"}, {.errors = full}).code, 0);
  EXPECT_EQ(run_program({"search", place("absent"), "w5"}, {.errors = full}).code, 1);
  ::close(full);
}

TEST_F(CommandLineHazards, DiskOfTheOutputIsFull) {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (full < 0) GTEST_SKIP() << "needs /dev/full";
  const Result result = run_program({"model", model}, {.output = full});
  ::close(full);
  EXPECT_EQ(result.code, 1);
  for (const char* part : {"standard output", "free some space"})
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
}

}  // namespace
}  // namespace hone::command_line_hazards_test
