// What a NeighbourIndex holds, shared by the files that implement its methods.
#pragma once

#include <memory>
#include <optional>

#include "heads/neighbours_faiss.h"
#include "heads/neighbours_flat.h"

namespace hone {

constexpr size_t most_links = 256;

struct NeighbourIndex::Impl {
  NeighbourOptions options;
  size_t size = 0;
  size_t dimension = 0;
  // flat: the points as they are compared, and their search
  Matrix points;
  std::optional<ExactSearch> exact;
  // ivf, hnsw: FAISS keeps the points
  std::unique_ptr<ApproximateSearch> approximate;

  Neighbours search(ConstMatrixView queries, size_t k, size_t effort, const Watch& watch) const {
    return exact ? exact->search(queries, k, watch) : approximate->search(queries, k, effort, watch);
  }
};

}  // namespace hone
