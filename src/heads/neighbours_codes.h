// Points and queries as bytes: products of bytes, with a bound on what rounding to bytes did to them, tell which points
// cannot be among a query's nearest. What they cannot tell is left to exact distances.
//
// With c the points' mean, u = x − c and v = q − c, a point's score is
//   s(x) = b(x) − v·u,   b = ½‖u‖² (l2: s is half the squared distance, less ½‖v‖²) or −c·u (cosine: less 1 − q·c),
// and with u = σ_u U + e_u, v = σ_v V + e_v, U and V bytes,
//   |v·u − σ_u σ_v U·V| ≤ ‖v‖ ‖e_u‖ + ‖e_v‖ ‖σ_u U‖.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hone/neighbours.h"

namespace hone {

class CodedPoints {
 public:
  // Whether this processor multiplies bytes as the search needs it (AVX-512 VNNI).
  static bool supported();

  // Of finite points [n, d], n below 2³². One byte a value is kept.
  CodedPoints(ConstMatrixView points, Metric metric);

  // For each of the queries [Q, d] the ids, in no order, of points among which are the k nearest; empty where more than
  // `most` points would be left. 0 < k ≤ most. Throws Error{cancelled}.
  std::vector<std::vector<uint32_t>> candidates(ConstMatrixView queries, size_t k, size_t most,
                                                const Watch& watch) const;

 private:
  struct Queries;

  // `u` and `bytes` are scratch of d values.
  void encode(std::span<const float> row, size_t place, std::span<double> u, std::span<int8_t> bytes);

  Metric metric_;
  size_t points_ = 0;
  size_t groups_ = 0;            // of four values
  std::vector<double> centre_;   // c
  std::vector<uint32_t> ids_;    // the points in the order they are kept in, drawn: the first are a sample of all
  std::vector<uint8_t> codes_;   // U + 128 [panels, groups, points of a panel, 4]
  std::vector<float> scales_;    // σ_u
  std::vector<float> biases_;    // b
  std::vector<float> residual_;  // ‖e_u‖
  std::vector<float> length_;    // ‖σ_u U‖
};

}  // namespace hone
