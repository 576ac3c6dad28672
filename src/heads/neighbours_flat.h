// Exact search: products of bytes or in fp32 find candidates, distances in fp64 decide.
#pragma once

#include <optional>
#include <vector>

#include "heads/neighbours_codes.h"
#include "hone/neighbours.h"

namespace hone {

// Throws Error{bad_input} that names the first row of `what` ("points", "queries") that holds NaN, infinity or
// a number beyond 1e15.
void require_finite(ConstMatrixView rows, std::string_view what);
// The rows at length 1, or 0 where they are 0.
Matrix at_length_one(ConstMatrixView rows);

// Refers to `points` [n, d], which have length 1 (or 0) if the metric is the cosine. n is below 2³².
class ExactSearch {
 public:
  ExactSearch(ConstMatrixView points, Metric metric);

  // For queries [Q, d], of length 1 likewise; 0 < k ≤ n. Throws Error{cancelled}.
  Neighbours search(ConstMatrixView queries, size_t k, const Watch& watch) const;

 private:
  float distance(const float* query, size_t point) const;
  // Each fills `found`, of all the queries; by_codes tells for which of them it could not.
  std::vector<size_t> by_codes(ConstMatrixView queries, Neighbours& found, const Watch& watch) const;
  void without_codes(ConstMatrixView queries, Neighbours& found, const Watch& watch) const;
  void by_products(ConstMatrixView queries, Neighbours& found, const Watch& watch) const;
  void by_distance(const float* query, std::span<int64_t> ids, std::span<float> distances, const Watch& watch) const;

  ConstMatrixView points_;
  Metric metric_;
  std::vector<float> bias_;  // a point's score is bias − q·x: ½‖x‖² or 0
  double longest_ = 0;       // of the points' lengths
  std::optional<CodedPoints> codes_;
};

}  // namespace hone
