// Search in inverted lists: list by list, with the products of all queries that look into it.
#pragma once

#include <vector>

#include "heads/neighbours_kernels.h"
#include "hone/neighbours.h"

namespace hone {

struct PointList {
  ConstMatrixView points;  // [n, d], of length 1 (or 0) if the metric is the cosine
  const int64_t* ids;      // [n]
};

// Refers to the lists' points and ids, fewer than 2³² in all.
class ListSearch {
 public:
  ListSearch(std::vector<PointList> lists, Metric metric);

  // The nearest k of each query among the points of its lists, where.ids_of(query); nearest first, ties by id. What is
  // missing where those hold fewer has id −1 and an infinite distance. Products in fp32 find candidates, distances in
  // fp64 decide. Throws Error{cancelled}.
  Neighbours search(ConstMatrixView queries, const Neighbours& where, size_t k, const Watch& watch) const;

  // How many queries to give to one search: the more, the less is read, but candidates of all are held.
  size_t batch(size_t k) const;

 private:
  size_t parts() const;  // the lists are shared out to
  void scan(size_t list, ConstMatrixView queries, std::span<const size_t> asking, std::vector<Least>& least) const;
  std::pair<float, int64_t> neighbour(const float* query, uint32_t point) const;  // distance, id

  std::vector<PointList> lists_;
  Metric metric_;
  std::vector<uint32_t> first_;  // [lists + 1] number of a list's first point among those of all lists
  std::vector<float> bias_;      // [points] a point's score is bias − q·x: ½‖x‖² or 0
};

}  // namespace hone
