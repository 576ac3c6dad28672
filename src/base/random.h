// Every random choice comes from a named stream of one seed: streams with different names are independent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace hone {

class RandomStream {
 public:
  RandomStream(uint64_t seed, std::string_view name);
  uint64_t next();
  double uniform();                                    // in [0, 1)
  double normal();                                     // mean 0, variance 1
  void normals(std::span<float> to, float deviation);  // mean 0; the same whatever the number of threads
  uint64_t below(uint64_t bound);                      // uniform in [0, bound), bound > 0

  // Fisher and Yates's, from the last value to the first: all in a random order.
  template <class T>
  void shuffle(std::span<T> values) {
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }
  // The same from the first value on, which ends after `count` of them, at most all: some of all in a random order. A
  // larger count begins with what a smaller one is.
  template <class T>
  void draw(std::span<T> values, size_t count) {
    for (size_t i = 0; i < count; ++i) std::swap(values[i], values[i + below(values.size() - i)]);
  }
  // `count` of [0, size) in that order.
  std::vector<size_t> draw(size_t size, size_t count);

 private:
  uint64_t state_;
};

}  // namespace hone
