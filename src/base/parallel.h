// The one thread pool: libgomp, wrapped so that exceptions in workers reach the caller.
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>

#include "hone/base.h"

namespace hone {

// Calls body(i) for every i in [0, count), each once, on up to threads() threads; items are handed out as threads
// become free. The first exception is rethrown here after all workers stopped. A nested call runs serially.
template <class Body>
void parallel_for(size_t count, const Body& body) {
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads()) if (count > 1)
  for (size_t i = 0; i < count; ++i) {
    try {
      body(i);
    } catch (...) {
#pragma omp critical(hone_parallel_failure)
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

// Splits [0, count) into about threads() ranges of at least `grain` items and calls body(begin, end) for each.
template <class Body>
void parallel_ranges(size_t count, size_t grain, const Body& body) {
  const size_t parts = std::max<size_t>(1, std::min<size_t>(threads(), count / std::max<size_t>(grain, 1)));
  parallel_for(parts, [&](size_t p) { body(count * p / parts, count * (p + 1) / parts); });
}

}  // namespace hone
