// The one thread pool: libgomp, wrapped so that exceptions in workers reach the caller.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>

#include "hone/base.h"

namespace hone {

#if defined(__SANITIZE_THREAD__)
// The thread sanitizer does not see libgomp's barriers: its builds use threads that it does see.
void run_on_threads(const std::function<void()>& loop, size_t count);
#else
template <class Loop>
void run_on_threads(const Loop& loop, size_t count) {
#pragma omp parallel num_threads(threads()) if (count > 1)
  loop();
}
#endif

// Calls body(i) for every i in [0, count), each once, on up to threads() threads; items are handed out as threads
// become free. After an exception no further item begins; the first is rethrown here once all workers have stopped. A
// nested call runs serially.
template <class Body>
void parallel_for(size_t count, const Body& body) {
  std::atomic<size_t> next = 0;
  std::exception_ptr failure;
  std::mutex failure_lock;
  run_on_threads(
      [&] {
        for (size_t i = next++; i < count; i = next++) {
          try {
            body(i);
          } catch (...) {
            const std::lock_guard lock(failure_lock);
            if (!failure) failure = std::current_exception();
            next = count;
          }
        }
      },
      count);
  if (failure) std::rethrow_exception(failure);
}

// Splits [0, count) into about threads() ranges of at least `grain` items and calls body(begin, end) for each.
template <class Body>
void parallel_ranges(size_t count, size_t grain, const Body& body) {
  const size_t parts = std::max<size_t>(1, std::min<size_t>(threads(), count / std::max<size_t>(grain, 1)));
  parallel_for(parts, [&](size_t p) { body(count * p / parts, count * (p + 1) / parts); });
}

}  // namespace hone
