#include "base/random.h"

#include <xxhash.h>

#include <cmath>
#include <numbers>
#include <numeric>

#include "base/parallel.h"

namespace hone {
namespace {

constexpr uint64_t increment = 0x9e3779b97f4a7c15ULL;

// SplitMix64 (Steele, Lea & Flood 2014): the output of one state.
uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

}  // namespace

RandomStream::RandomStream(uint64_t seed, std::string_view name)
    : state_(XXH3_64bits_withSeed(name.data(), name.size(), seed)) {}

uint64_t RandomStream::next() { return mix(state_ += increment); }

double RandomStream::uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

double RandomStream::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

// Box & Muller's method gives two values from two draws; the state counts, so every pair can start where it has to.
void RandomStream::normals(std::span<float> to, float deviation) {
  const size_t pairs = (to.size() + 1) / 2;
  const uint64_t start = state_;
  parallel_ranges(pairs, 1 << 10, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      constexpr float step = 0x1.0p-24f;
      const auto uniform = [&](uint64_t draw) {
        return static_cast<float>(mix(start + draw * increment) >> 40) * step;
      };
      const float radius = deviation * std::sqrt(-2 * std::log(1 - uniform(2 * i + 1)));
      const float angle = 2 * std::numbers::pi_v<float> * uniform(2 * i + 2);
      to[2 * i] = radius * std::cos(angle);
      if (2 * i + 1 < to.size()) to[2 * i + 1] = radius * std::sin(angle);
    }
  });
  state_ += 2 * pairs * increment;
}

uint64_t RandomStream::below(uint64_t bound) {
  const uint64_t limit = ~uint64_t{0} - ~uint64_t{0} % bound;
  uint64_t x = next();
  while (x >= limit) x = next();
  return x % bound;
}

std::vector<size_t> RandomStream::draw(size_t size, size_t count) {
  std::vector<size_t> order(size);
  std::iota(order.begin(), order.end(), size_t{0});
  draw(std::span(order), count);
  order.resize(count);
  return order;
}

}  // namespace hone
