// The inner loops of exact search, for each instruction set.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace hone {

// Points whose products with some queries stay in a core's cache.
constexpr size_t tile_points = 512;
// Of no more queries than this the products' vector lanes would be empty: point by point is faster.
constexpr size_t few_queries = 3;

struct Candidate {
  float score = 0;  // smaller is nearer
  uint32_t id = 0;

  bool operator<(const Candidate& other) const { return score != other.score ? score < other.score : id < other.id; }
};

// Keeps the `keep` least of many candidates, or up to twice as many.
class Least {
 public:
  explicit Least(size_t keep) : keep_(keep) { kept_.reserve(2 * keep); }
  void push(Candidate candidate) {
    kept_.push_back(candidate);
    if (kept_.size() == 2 * keep_) shrink();
  }
  std::span<const Candidate> kept() const { return kept_; }
  // No candidate that was pushed and is not kept, or that was not below it when it came, has a score below this.
  float limit() const { return limit_; }

 private:
  void shrink();

  size_t keep_;
  std::vector<Candidate> kept_;
  float limit_ = std::numeric_limits<float>::infinity();
};

// Pushes {bias[i] − products[i], first + i} for every i < count whose score is below least.limit().
void push_scores(const float* products, const float* bias, size_t count, uint32_t first, Least& least);

// Σ (a_i − b_i)² and Σ a_i b_i, every operation in fp64, in an order that the length alone decides.
double squared_distance(const float* a, const float* b, size_t length);
double inner_product(const float* a, const float* b, size_t length);

}  // namespace hone
