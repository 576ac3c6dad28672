// The built program in a child process, its output caught.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/files.h"
#include "tests/paths.h"
#include "tests/temporary_folder.h"

namespace hone::test {

struct Surroundings {
  std::string input = {};  // what standard input holds
  int output = -1;         // descriptor to write to, instead of Result::out
  int errors = -1;         // instead of Result::err
  bool closed = false;     // standard input and output are
  std::vector<int> ignored_signals = {};
  size_t largest_file = 0;  // bytes that the program may write to one file; 0: any
};

struct Result {
  int code = -1;  // 128 + the signal if one ended it
  std::string out, err;
};

class Program {
 public:
  explicit Program(const std::vector<std::string>& arguments, const Surroundings& surroundings = {}) {
    const std::string input = streams_.write("in", surroundings.input).string();
    streams_.write("out", "");
    streams_.write("err", "");
    std::string program = program_path();
    std::vector<char*> command = {program.data()};
    for (const std::string& argument : arguments) command.push_back(const_cast<char*>(argument.c_str()));
    command.push_back(nullptr);
    child_ = ::fork();
    if (child_ < 0) throw std::runtime_error("cannot fork");
    if (child_ > 0) return;
    ::setenv("OMP_NUM_THREADS", "1", 1);
    for (const int signal : {SIGINT, SIGPIPE}) ::signal(signal, SIG_DFL);
    for (const int signal : surroundings.ignored_signals) ::signal(signal, SIG_IGN);
    if (surroundings.largest_file > 0) {
      const rlimit limit{surroundings.largest_file, surroundings.largest_file};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    ::dup2(::open(input.c_str(), O_RDONLY), STDIN_FILENO);
    ::dup2(surroundings.output >= 0 ? surroundings.output : ::open(stream("out").c_str(), O_WRONLY), STDOUT_FILENO);
    ::dup2(surroundings.errors >= 0 ? surroundings.errors : ::open(stream("err").c_str(), O_WRONLY), STDERR_FILENO);
    if (surroundings.closed) {
      ::close(STDIN_FILENO);
      ::close(STDOUT_FILENO);
    }
    ::close_range(STDERR_FILENO + 1, ~0u, 0);
    ::execv(command.front(), command.data());
    ::_exit(127);
  }
  ~Program() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // NAME=value, each ended by a zero byte.
  std::string environment() const {
    std::ifstream file("/proc/" + std::to_string(child_) + "/environ", std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void interrupt() const { ::kill(child_, SIGINT); }
  // True once it has an answer of its own to Ctrl-C.
  bool catches_interrupts() const {
    std::ifstream status("/proc/" + std::to_string(child_) + "/status");
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("SigCgt:")) return (std::stoull(line.substr(7), nullptr, 16) >> (SIGINT - 1) & 1) != 0;
    return false;
  }
  // Waits until it does, a minute at most.
  void wait_until_it_catches_interrupts() const {
    for (int i = 0; i < 60000 && !catches_interrupts(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  Result wait() {
    int status = 0;
    if (::waitpid(child_, &status, 0) != child_) throw std::runtime_error("cannot wait for " + program_path());
    child_ = -1;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(stream("out")),
            read_file(stream("err"))};
  }

 private:
  std::filesystem::path stream(const char* name) const { return streams_.path() / name; }

  TemporaryFolder streams_;
  pid_t child_ = -1;
};

inline Result run_program(const std::vector<std::string>& arguments, const Surroundings& surroundings = {}) {
  return Program(arguments, surroundings).wait();
}

// The one JSON object that the program prints, with exit code 0 and nothing on stderr.
inline nlohmann::json object_of(const std::vector<std::string>& arguments, const Surroundings& surroundings = {}) {
  const Result result = run_program(arguments, surroundings);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  nlohmann::json object = nlohmann::json::parse(result.out, nullptr, false);
  EXPECT_TRUE(object.is_object()) << result.out;
  return object;
}

// The program fails and says `words` on stderr, nothing on stdout.
inline void expect_failure(const std::vector<std::string>& arguments, const std::string& words, int code = 1) {
  const Result result = run_program(arguments);
  EXPECT_EQ(result.code, code) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find(words), std::string::npos) << result.err;
}

}  // namespace hone::test
