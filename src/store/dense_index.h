// DenseIndex: exact search by cosine among dense vectors in memory.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "hone/store.h"

namespace faiss {
struct IndexFlatIP;
}

namespace hone::store {

// Hidden states of a language model share a large common part: the mean over all rows is taken from rows and queries
// before they are compared.
class DenseIndex {
 public:
  // Row i of `vectors` belongs to chunk ids[i]; ids ascend, every value is finite.
  DenseIndex(std::vector<int64_t> ids, Matrix vectors);
  DenseIndex(DenseIndex&&) noexcept;
  DenseIndex& operator=(DenseIndex&&) noexcept;
  ~DenseIndex();

  // The `count` largest cosines with `query`, ties by id. A vector that is the mean itself has cosine 0 with all.
  std::vector<Neighbour> nearest(std::span<const float> query, size_t count) const;

 private:
  std::vector<int64_t> ids_;
  std::vector<float> mean_;
  std::unique_ptr<faiss::IndexFlatIP> index_;
};

}  // namespace hone::store
