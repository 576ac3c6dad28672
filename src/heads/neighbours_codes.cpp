#include "heads/neighbours_codes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/parallel.h"
#include "base/random.h"
#include "heads/neighbours_scan.h"

namespace hone {
namespace {

constexpr size_t tile_queries = 64;
constexpr size_t range_points = 4096;  // at least, where points are shared out among threads
constexpr double up = 1 + 0x1p-22;     // what is rounded to float stays a bound

struct Code {
  double scale = 0, residual = 0, length = 0;
};

// Every value as a multiple of the scale, in −127 … 127.
Code round_to_bytes(std::span<const double> values, int8_t* bytes) {
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  Code code{.scale = static_cast<float>(largest / 127)};
  if (code.scale < std::numeric_limits<float>::min()) code.scale = 0;
  const double inverse = code.scale > 0 ? 1 / code.scale : 0;
  double residual = 0, length = 0;
  for (size_t j = 0; j < values.size(); ++j) {
    const int multiple = static_cast<int>(values[j] * inverse + std::copysign(0.5, values[j]));
    bytes[j] = static_cast<int8_t>(std::clamp(multiple, -127, 127));
    const double kept = code.scale * bytes[j];
    residual += (values[j] - kept) * (values[j] - kept);
    length += kept * kept;
  }
  code.residual = std::sqrt(residual);
  code.length = std::sqrt(length);
  return code;
}

std::vector<double> mean_of(ConstMatrixView points) {
  std::vector<double> mean(points.cols);
  parallel_ranges(points.cols, 16, [&](size_t begin, size_t end) {
    for (size_t i = 0; i < points.rows; ++i)
      for (size_t j = begin; j < end; ++j) mean[j] += points.row(i)[j];
    for (size_t j = begin; j < end; ++j) mean[j] /= static_cast<double>(points.rows);
  });
  return mean;
}

// A sample's rank that hardly ever is above the k-th of all, where the sample has this share of them.
size_t rank_in_sample(size_t k, double share) {
  const double mean = static_cast<double>(k) * share;
  return static_cast<size_t>(std::ceil(mean + 4 * std::sqrt(mean) + 4));
}

}  // namespace

bool CodedPoints::supported() { return byte_products_supported(); }

CodedPoints::CodedPoints(ConstMatrixView points, Metric metric)
    : metric_(metric), points_(points.rows), groups_((points.cols + 3) / 4), centre_(mean_of(points)) {
  const size_t panels = (points_ + panel_points - 1) / panel_points, padded = panels * panel_points;
  const std::vector<size_t> order = RandomStream(0, "coded points").draw(points_, points_);
  ids_.assign(order.begin(), order.end());
  ids_.resize(padded);
  codes_.resize(padded * groups_ * 4, 128);
  scales_.resize(padded);
  residual_.resize(padded);
  length_.resize(padded);
  biases_.resize(padded, std::numeric_limits<float>::infinity());  // padding is never near
  parallel_ranges(points_, 64, [&](size_t begin, size_t end) {
    std::vector<double> u(centre_.size());
    std::vector<int8_t> bytes(u.size());
    for (size_t i = begin; i < end; ++i) encode(points.row(ids_[i]), i, u, bytes);
  });
}

void CodedPoints::encode(std::span<const float> row, size_t place, std::span<double> u, std::span<int8_t> bytes) {
  double square = 0, along_centre = 0;
  for (size_t j = 0; j < u.size(); ++j) {
    u[j] = row[j] - centre_[j];
    square += u[j] * u[j];
    along_centre += u[j] * centre_[j];
  }
  const Code code = round_to_bytes(u, bytes.data());
  scales_[place] = static_cast<float>(code.scale);
  residual_[place] = static_cast<float>(code.residual * up);
  length_[place] = static_cast<float>(code.length * up);
  biases_[place] = static_cast<float>(metric_ == Metric::l2 ? square / 2 : -along_centre);
  uint8_t* panel = codes_.data() + place / panel_points * panel_points * groups_ * 4;
  for (size_t j = 0; j < u.size(); ++j)
    panel[(j / 4 * panel_points + place % panel_points) * 4 + j % 4] = static_cast<uint8_t>(bytes[j] + 128);
}

// Queries as bytes, and what the scan needs of each.
struct CodedPoints::Queries {
  Queries(const CodedPoints& points, ConstMatrixView queries);

  std::vector<int8_t> codes;
  std::vector<QueryScan> scans;
  std::vector<float> widths;  // of the points, for any of these queries
};

CodedPoints::Queries::Queries(const CodedPoints& points, ConstMatrixView queries)
    : codes(queries.rows * 4 * points.groups_), scans(queries.rows), widths(points.biases_.size()) {
  std::vector<double> residual_shares(queries.rows);  // ‖e_v‖ / ‖v‖
  parallel_ranges(queries.rows, 16, [&](size_t begin, size_t end) {
    std::vector<double> v(queries.cols);
    for (size_t q = begin; q < end; ++q) {
      double square = 0;
      for (size_t j = 0; j < v.size(); ++j) {
        v[j] = queries.row(q)[j] - points.centre_[j];
        square += v[j] * v[j];
      }
      int8_t* bytes = codes.data() + q * 4 * points.groups_;
      const Code code = round_to_bytes(v, bytes);
      scans[q] = {.codes = bytes,
                  .offset = -128 * std::accumulate(bytes, bytes + v.size(), 0),
                  .scale = static_cast<float>(code.scale),
                  .length = static_cast<float>(std::sqrt(square) * up)};
      if (square > 0) residual_shares[q] = code.residual / std::sqrt(square);
    }
  });
  const double share = *std::ranges::max_element(residual_shares);
  float bias = 0, length = 0;  // the largest
  for (size_t i = 0; i < points.points_; ++i) {
    widths[i] = static_cast<float>((points.residual_[i] + share * points.length_[i]) * up);
    bias = std::max(bias, std::abs(points.biases_[i]));
    length = std::max(length, points.length_[i] + widths[i]);
  }
  // A score is rounded to float five times, and the distances that decide once: what is equal then is not told apart.
  const float least = points.metric_ == Metric::cosine ? 1 : 1e-24f;
  for (QueryScan& scan : scans) scan.slack = 0x1p-20f * (least + bias + scan.length * (scan.length + length));
}

std::vector<std::vector<uint32_t>> CodedPoints::candidates(ConstMatrixView queries, size_t k, size_t most,
                                                           const Watch& watch) const {
  std::vector<std::vector<uint32_t>> candidates(queries.rows);
  if (queries.rows == 0) return candidates;
  const Queries coded(*this, queries);
  const PanelView view{codes_.data(), groups_, ids_.data(), scales_.data(), biases_.data(), coded.widths.data()};
  const size_t panels = biases_.size() / panel_points, tiles = (queries.rows + tile_queries - 1) / tile_queries;
  const auto scans_of = [&](size_t tile) {
    const size_t first = tile * tile_queries;
    return std::span(coded.scans).subspan(first, std::min(tile_queries, queries.rows - first));
  };
  const auto scan = [&](size_t tile, size_t begin, size_t end, std::span<Survivors> survivors) {
    for (size_t panel = begin; panel < end; ++panel) {
      if (panel % 64 == 0) watch.cancel.check();
      scan_panel(view, panel, scans_of(tile), survivors);
    }
  };

  constexpr float none = std::numeric_limits<float>::infinity();
  size_t sample = panels / 16;
  const size_t rank = rank_in_sample(k, static_cast<double>(sample) / static_cast<double>(panels));
  if (2 * rank > sample * panel_points) sample = 0;
  std::vector<std::vector<Survivors>> sampled(tiles);
  parallel_for(tiles, [&](size_t tile) {
    sampled[tile].assign(scans_of(tile).size(), Survivors(rank, points_, none));
    scan(tile, 0, sample, sampled[tile]);
    for (size_t i = 0; i < sampled[tile].size(); ++i) {
      sampled[tile][i].finish(scans_of(tile)[i]);
      sampled[tile][i].widen(k, most);
    }
  });

  const size_t wanted = 2 * static_cast<size_t>(threads());
  const size_t ranges =
      tiles >= wanted ? 1 : std::clamp<size_t>(points_ / range_points, 1, (wanted + tiles - 1) / tiles);
  std::vector<std::vector<Survivors>> survivors(tiles * ranges);
  const auto finish = [&](size_t tile) {
    std::vector<Survivors>& all = survivors[tile * ranges];
    for (size_t i = 0; i < all.size(); ++i) {
      for (size_t range = 1; range < ranges; ++range) all[i].merge(survivors[tile * ranges + range][i]);
      if (!all[i].finish(scans_of(tile)[i])) continue;
      candidates[tile * tile_queries + i].assign(all[i].ids().begin(), all[i].ids().end());
    }
    all.clear();
  };
  for (size_t tile = 0; tile < tiles; ++tile) {
    for (size_t range = 1; range < ranges; ++range)
      for (const Survivors& some : sampled[tile]) survivors[tile * ranges + range].emplace_back(k, most, some.limit());
    survivors[tile * ranges] = std::move(sampled[tile]);
  }
  parallel_for(tiles * ranges, [&](size_t task) {
    const size_t tile = task / ranges, range = task % ranges, rest = panels - sample;
    scan(tile, sample + rest * range / ranges, sample + rest * (range + 1) / ranges, survivors[task]);
    if (ranges == 1) finish(tile);
  });
  if (ranges > 1) parallel_for(tiles, finish);
  return candidates;
}

}  // namespace hone
