#include "base/random.h"

#include <xxhash.h>

#include <cmath>
#include <numbers>

namespace hone {

RandomStream::RandomStream(uint64_t seed, std::string_view name)
    : state_(XXH3_64bits_withSeed(name.data(), name.size(), seed)) {}

// SplitMix64 (Steele, Lea & Flood 2014).
uint64_t RandomStream::next() {
  uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

double RandomStream::uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

double RandomStream::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

uint64_t RandomStream::below(uint64_t bound) {
  const uint64_t limit = ~uint64_t{0} - ~uint64_t{0} % bound;
  uint64_t x = next();
  while (x >= limit) x = next();
  return x % bound;
}

}  // namespace hone
