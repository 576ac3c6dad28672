// For work that is spread over threads by its caller, or whose sums must not depend on their number.
#pragma once

#include "hone/base.h"

namespace hone {

// While it lives, kernels that the calling thread calls use no other thread.
class OneThread {
 public:
  OneThread() : before_(threads()) { set_threads(1); }
  ~OneThread() { set_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

}  // namespace hone
