// DenseIndex: exact search by cosine among dense vectors in memory.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "hone/neighbours.h"
#include "hone/store.h"

namespace hone::store {

// Hidden states of a language model share a large common part: the mean over all rows is taken from rows and queries
// before they are compared.
class DenseIndex {
 public:
  // Row i of `vectors` belongs to chunk ids[i]; ids ascend, every value is finite.
  DenseIndex(std::vector<int64_t> ids, Matrix vectors);

  // The `count` largest cosines with `query`, ties by id. A vector that is the mean itself has cosine 0 with all.
  std::vector<Neighbour> nearest(std::span<const float> query, size_t count) const;
  // As Store::sift.
  std::vector<Neighbour> sift(std::span<const float> query, size_t count) const;

 private:
  std::vector<Neighbour> as_chunks(const Neighbours& found) const;

  std::vector<int64_t> ids_;
  std::vector<float> mean_;
  std::optional<NeighbourIndex> index_;  // none without vectors
};

}  // namespace hone::store
