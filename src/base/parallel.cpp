#include "base/parallel.h"

#include <omp.h>

#if defined(__SANITIZE_THREAD__)
#include <condition_variable>
#include <thread>
#endif

namespace hone {

void set_threads(int count) { omp_set_num_threads(std::clamp(count, 1, most_threads)); }
int threads() { return omp_get_max_threads(); }

#if defined(__SANITIZE_THREAD__)
namespace {

// Threads that wait for a loop, run it once each, and wait for the next.
class Workers {
 public:
  explicit Workers(int count) {
    for (int t = 0; t < count; ++t) threads_.emplace_back([this] { work(); });
  }
  ~Workers() {
    {
      const std::lock_guard lock(lock_);
      loop_ = nullptr;
      ++round_;
    }
    start_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  size_t size() const { return threads_.size(); }
  void run(const std::function<void()>& loop) {
    std::unique_lock lock(lock_);
    loop_ = &loop;
    running_ = threads_.size();
    ++round_;
    start_.notify_all();
    done_.wait(lock, [this] { return running_ == 0; });
  }

 private:
  void work() {
    std::unique_lock lock(lock_);
    for (size_t seen = 0;;) {
      start_.wait(lock, [&] { return round_ != seen; });
      seen = round_;
      if (!loop_) return;
      lock.unlock();
      (*loop_)();
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex lock_;
  std::condition_variable start_, done_;
  const std::function<void()>* loop_ = nullptr;
  size_t running_ = 0, round_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace

void run_on_threads(const std::function<void()>& loop, size_t count) {
  thread_local bool inside = false;
  thread_local std::unique_ptr<Workers> workers;
  if (inside || count < 2) return loop();
  if (!workers || workers->size() != static_cast<size_t>(threads())) workers = std::make_unique<Workers>(threads());
  workers->run([&] {
    inside = true;
    loop();
  });
}
#endif

}  // namespace hone
