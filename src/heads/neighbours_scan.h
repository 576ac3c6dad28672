// The inner loop of a search in bytes: scores of a panel of points for some queries, and what is left of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace hone {

inline constexpr size_t panel_points = 64;

// Points as neighbours_codes.h has them, in whole panels.
struct PanelView {
  const uint8_t* codes = nullptr;  // [panels, groups, panel_points, 4]
  size_t groups = 0;
  const uint32_t* ids = nullptr;
  const float* scales = nullptr;
  const float* biases = nullptr;
  const float* widths = nullptr;  // times the query's length: how far a product of bytes may be from the product
};

struct QueryScan {
  const int8_t* codes = nullptr;  // [groups, 4]
  int32_t offset = 0;             // takes back what codes of points have too much
  float scale = 0;
  float length = 0;
  float slack = 0;  // rounding of a score
};

// The points of a query whose lowest possible score is below a limit: a guess from a sample of the points, then, as
// soon as they are many, the k-th least of their highest possible scores.
class Survivors {
 public:
  Survivors() = default;
  // Gives up when more than `most` are left.
  Survivors(size_t k, size_t most, float guess) : k_(k), most_(most), limit_(guess) {}

  // No score from here on matters; −infinity once it has given up.
  float limit() const { return limit_; }
  // Adds those of a panel, from point `first` on, whose bits are set.
  void add(const PanelView& points, size_t first, uint64_t which, std::span<const float> lowest,
           const QueryScan& query);
  // Takes what is there as the sample of a larger search, and its limit as the guess.
  void widen(size_t k, size_t most);
  // Adds those of another range of points.
  void merge(const Survivors& other);
  // Leaves the points that may be among the k nearest; false if it gave up, or if the guess was too low.
  bool finish(const QueryScan& query);
  std::span<const uint32_t> ids() const { return std::span(ids_).first(size_); }

 private:
  void resize(size_t room);
  void shrink(const QueryScan& query);

  size_t k_ = 0, most_ = 0, size_ = 0;
  float limit_ = 0;
  bool proven_ = false;  // k of the highest possible scores are below the limit
  std::vector<float> lowest_, highest_;
  std::vector<uint32_t> ids_;
};

// Whether this processor has products of bytes.
bool byte_products_supported();
// Adds the panel's points to every query's survivors.
void scan_panel(const PanelView& points, size_t panel, std::span<const QueryScan> queries,
                std::span<Survivors> survivors);

}  // namespace hone
