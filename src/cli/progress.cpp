#include "cli/progress.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <mutex>

#include "cli/streams.h"

namespace hone::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds redraw(100);
constexpr double rate_from = 0.5;  // seconds before a rate means anything

class ProgressLine {
 public:
  ProgressLine() = default;
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine() { wipe(); }

  void show(const Progress& progress) {
    const std::lock_guard lock(mutex_);
    const Clock::time_point now = Clock::now();
    if (progress.stage != stage_ || progress.done < first_done_) {
      stage_ = progress.stage;
      first_done_ = progress.done;
      start_ = now;
      drawn_at_ = {};
    }
    if (now - drawn_at_ < redraw) return;
    drawn_at_ = now;
    drawn_ = true;
    remark("\r{}\x1b[K", text(progress));
    std::fflush(stderr);
  }

 private:
  std::string text(const Progress& progress) const {
    std::string line = fmt::format("{}  {}", progress.stage, progress.done);
    if (progress.total > 0) line += fmt::format("/{}", progress.total);
    const double seconds = seconds_since(start_);
    const auto done = static_cast<double>(progress.done - first_done_);
    if (seconds < rate_from || done <= 0) return line;
    const double rate = done / seconds;
    line += rate < 100 ? fmt::format("  {:.2g}/s", rate) : fmt::format("  {:.0f}/s", rate);
    if (progress.total > progress.done)
      line +=
          fmt::format("  {} left", duration_text(static_cast<double>(progress.total - progress.done) * seconds / done));
    return line;
  }

  void wipe() {
    if (!drawn_) return;
    remark("\r\x1b[K");
    std::fflush(stderr);
  }

  std::mutex mutex_;
  std::string stage_;
  size_t first_done_ = 0;
  Clock::time_point start_;
  Clock::time_point drawn_at_;
  bool drawn_ = false;
};

// A signal handler has no argument to carry the token; it only sets the token's lock-free flag.
const CancelToken& interrupt_token() {
  static const CancelToken token;
  return token;
}

}  // namespace

const CancelToken& cancel_on_interrupt() {
  const CancelToken& token = interrupt_token();
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_handler = [](int) { interrupt_token().cancel(); };
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    return ::sigaction(SIGINT, &action, nullptr) == 0;
  }();
  (void)installed;
  return token;
}

Watch terminal_watch(bool quiet) {
  Watch watch{{}, cancel_on_interrupt()};
  if (quiet || ::isatty(STDERR_FILENO) == 0) return watch;
  watch.progress = [line = std::make_shared<ProgressLine>()](const Progress& progress) { line->show(progress); };
  return watch;
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double peak_rss_mb() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

std::string duration_text(double seconds) {
  const int64_t whole = std::llround(seconds);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace hone::cli
