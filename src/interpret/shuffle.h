// All of [0, count), shuffled anew for every epoch.
#pragma once

#include <cstdint>
#include <vector>

#include "base/random.h"
#include "hone/sae.h"

namespace hone {

// From the stream (seed, name).
void shuffle(std::span<uint32_t> values, uint64_t seed, std::string_view name);

class ShuffledOrder {
 public:
  ShuffledOrder(size_t count, uint64_t seed);
  // What stands at a position of the endless sequence of epochs. It depends on count, seed and position alone.
  uint32_t at(uint64_t position);

 private:
  std::vector<uint32_t> order_;
  uint64_t seed_;
  uint64_t epoch_ = UINT64_MAX;
};

}  // namespace hone
