#include "interpret/shuffle.h"

#include <fmt/format.h>

#include <numeric>

namespace hone {

void shuffle(std::span<uint32_t> values, uint64_t seed, std::string_view name) {
  RandomStream(seed, name).shuffle(values);
}

ShuffledOrder::ShuffledOrder(size_t count, uint64_t seed) : order_(count), seed_(seed) {}

uint32_t ShuffledOrder::at(uint64_t position) {
  const uint64_t epoch = position / order_.size();
  if (epoch != epoch_) {
    epoch_ = epoch;
    std::iota(order_.begin(), order_.end(), 0);
    shuffle(order_, seed_, fmt::format("epoch {}", epoch));
  }
  return order_[position % order_.size()];
}

}  // namespace hone
