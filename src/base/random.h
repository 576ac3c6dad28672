// Every random choice comes from a named stream of one seed: streams with different names are independent.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace hone {

class RandomStream {
 public:
  RandomStream(uint64_t seed, std::string_view name);
  uint64_t next();
  double uniform();                                    // in [0, 1)
  double normal();                                     // mean 0, variance 1
  void normals(std::span<float> to, float deviation);  // mean 0; the same whatever the number of threads
  uint64_t below(uint64_t bound);                      // uniform in [0, bound), bound > 0

 private:
  uint64_t state_;
};

}  // namespace hone
