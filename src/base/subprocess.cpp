#include "base/subprocess.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <string_view>
#include <thread>
#include <utility>

namespace hone {
namespace {

constexpr int cannot_start = 127;

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (std::string& string : strings) result.push_back(string.data());
  result.push_back(nullptr);
  return result;
}

std::vector<std::string> environment(const std::map<std::string, std::string>& variables) {
  std::vector<std::string> result;
  for (char** variable = ::environ; variable && *variable; ++variable) {
    const std::string_view text = *variable;
    if (!variables.contains(std::string(text.substr(0, text.find('='))))) result.emplace_back(text);
  }
  for (const auto& [name, value] : variables) result.push_back(name + "=" + value);
  return result;
}

class FileActions {
 public:
  explicit FileActions(bool quiet) {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (quiet) ::posix_spawn_file_actions_addopen(&actions_, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions_, STDERR_FILENO, STDOUT_FILENO);
  }
  ~FileActions() { ::posix_spawn_file_actions_destroy(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;

  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

int wait_for(pid_t child, const CancelToken& cancel) {
  bool ended_by_us = false;
  int status = 0;
  while (true) {
    const pid_t done = ::waitpid(child, &status, WNOHANG);
    if (done < 0 && errno != EINTR)
      throw Error(ErrorCode::io, fmt::format("cannot wait for a program: {}", std::strerror(errno)));
    if (done == child) break;
    if (cancel.cancelled() && !std::exchange(ended_by_us, true)) ::kill(child, SIGTERM);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  cancel.check();
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

int run_process(const std::vector<std::string>& command, const ProcessOptions& options, const CancelToken& cancel) {
  cancel.check();
  std::vector<std::string> arguments = command;
  std::vector<std::string> variables = environment(options.variables);
  const FileActions actions(options.quiet);
  pid_t child = 0;
  const int failed = ::posix_spawnp(&child, arguments.at(0).c_str(), actions.get(), nullptr, pointers(arguments).data(),
                                    pointers(variables).data());
  if (failed == ENOENT || failed == EACCES || failed == ENOEXEC) return cannot_start;
  if (failed != 0)
    throw Error(ErrorCode::io, fmt::format("cannot start '{}': {}", arguments[0], std::strerror(failed)));
  return wait_for(child, cancel);
}

}  // namespace hone
