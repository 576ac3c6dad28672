// Approximate search: FAISS's inverted lists and its graph, behind one interface.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "hone/neighbours.h"

namespace hone {

class ApproximateSearch {
 public:
  virtual ~ApproximateSearch() = default;

  // As NeighbourIndex::search; queries have length 1 (or 0) if the metric is the cosine.
  virtual Neighbours search(ConstMatrixView queries, size_t k, size_t effort, const Watch& watch) const = 0;
  // Appends FAISS's own format.
  virtual void append_to(std::string& bytes) const = 0;

  // `points` have length 1 (or 0) if the metric is the cosine; options.lists is set. Throws Error{cancelled}.
  static std::unique_ptr<ApproximateSearch> build(ConstMatrixView points, const NeighbourOptions& options,
                                                  const Watch& watch);
  // Throws Error{corrupt} without the file's name unless the bytes are such an index of n points of d values.
  static std::unique_ptr<ApproximateSearch> read(std::span<const std::byte> bytes, const NeighbourOptions& options,
                                                 size_t n, size_t d);
};

}  // namespace hone
