#include <algorithm>
#include <cmath>

#include "heads/local_trainer.h"

namespace hone {

PointRoom::PointRoom(size_t most_points, size_t dimension)
    : values_(1, tile_list_size(dimension + 1, most_points) + tile_list_size(most_points, dimension + 1) +
                     2 * tile_list_size(1, most_points)),
      dimension_(dimension) {
  rows_.reserve(most_points);
  points.features = dimension + 1;
}

void PointRoom::gather(ConstMatrixView x, std::span<const int> y, std::span<const int64_t> ids, size_t first,
                       size_t step) {
  rows_.clear();
  for (size_t i = first; i < ids.size(); i += step)
    if (ids[i] >= 0) rows_.push_back(x.row(static_cast<size_t>(ids[i])).data());
  fill();
  float* label = points.labels;
  for (size_t i = first; i < ids.size(); i += step)
    if (ids[i] >= 0) *label++ = static_cast<float>(y[static_cast<size_t>(ids[i])]);
}

void PointRoom::gather(std::span<const float> query) {
  rows_.assign(1, query.data());
  fill();
}

// Lays both orientations, labels and shares out for as many points as there are rows.
void PointRoom::fill() {
  const size_t width = tile_width(), features = points.features, count = rows_.size();
  points.points = count;
  points.by_feature = values_.data();
  points.by_point = points.by_feature + tile_list_size(features, count);
  points.labels = points.by_point + tile_list_size(count, features);
  points.shares = points.labels + tile_list_size(1, count);
  for (size_t tile = 0; tile < tiles(features); ++tile) {
    const size_t first = tile * width, some = std::min(width, dimension_ - std::min(dimension_, first));
    float* to = points.by_point + tile * count * width;
    for (size_t i = 0; i < count; ++i, to += width) {
      std::copy_n(rows_[i] + first, some, to);
      std::fill_n(to + some, width - some, 0.0F);
      if (some < width) to[some] = dimension_ - first == some ? 1.0F : 0.0F;
    }
  }
  constexpr size_t step = 16;
  for (size_t tile = 0; tile < tiles(count); ++tile) {
    const size_t some = std::min(width, count - tile * width);
    float* to = points.by_feature + tile * features * width;
    for (size_t f0 = 0; f0 < dimension_; f0 += step) {
      const size_t f1 = std::min(f0 + step, dimension_);
      for (size_t lane = 0; lane < some; ++lane) {
        const float* from = rows_[tile * width + lane];
        for (size_t f = f0; f < f1; ++f) to[f * width + lane] = from[f];
      }
      for (size_t f = f0; f < f1; ++f) std::fill_n(to + f * width + some, width - some, 0.0F);
    }
    std::fill_n(to + dimension_ * width, some, 1.0F);
    std::fill_n(to + dimension_ * width + some, width - some, 0.0F);
  }
  const size_t lanes = tile_list_size(1, count);
  std::fill_n(points.labels, lanes, 0.0F);
  std::fill_n(points.shares, count, 1 / static_cast<float>(std::max<size_t>(count, 1)));
  std::fill_n(points.shares + count, lanes - count, 0.0F);
}

GramBasis::GramBasis(size_t most_points, size_t most_asked)
    : upper_(1, tile_list_size(most_points, most_points)),
      by_point_(1, tile_list_size(most_points, most_points)),
      asked_(1, tile_list_size(most_points, most_asked)),
      inverse_pivots_(most_points) {}

const LocalPoints& GramBasis::reduce(const LocalPoints& points) {
  constexpr float rounding = 1e-6F;  // of a Gram's diagonal: less is not a direction of its own
  const size_t width = tile_width(), n = points.points;
  float* u = upper_.data();
  const auto entry = [&](size_t r, size_t c) -> float& { return u[(c / width * n + r) * width + c % width]; };
  local_logits(points, points.by_point, n, u);
  std::vector<float>& inverse = inverse_pivots_;
  for (size_t j = 0; j < n; ++j) inverse[j] = entry(j, j);
  for (size_t j = 0; j < n; ++j) {
    const float pivot = entry(j, j);
    inverse[j] = pivot > rounding * inverse[j] ? 1 / std::sqrt(pivot) : 0;
    for (size_t c = 0; c < n; ++c) entry(j, c) *= c < j ? 0 : inverse[j];
    for (size_t i = j + 1; i < n; ++i) {
      const float factor = -entry(j, i);
      for (size_t tile = i / width; tile < tiles(n); ++tile)
        add_scaled(factor, u + (tile * n + j) * width, u + (tile * n + i) * width, width);
    }
  }
  std::fill_n(by_point_.data(), tile_list_size(n, n), 0.0F);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j <= i; ++j) by_point_.data()[(j / width * n + i) * width + j % width] = entry(j, i);
  from_ = points;
  reduced_ = {n, n, u, by_point_.data(), points.labels, points.shares};
  return reduced_;
}

const LocalPoints& GramBasis::project(const LocalPoints& asked) {
  const size_t width = tile_width(), n = reduced_.points;
  float* z = asked_.data();
  local_logits(asked, from_.by_point, n, z);
  for (size_t tile = 0; tile < tiles(asked.points); ++tile) {
    float* panel = z + tile * n * width;
    for (size_t j = 0; j < n; ++j) {
      for (size_t lane = 0; lane < width; ++lane) panel[j * width + lane] *= inverse_pivots_[j];
      for (size_t i = j + 1; i < n; ++i)
        add_scaled(-upper_.data()[(i / width * n + j) * width + i % width], panel + j * width, panel + i * width,
                   width);
    }
  }
  projected_ = asked;
  projected_.features = n;
  projected_.by_feature = z;
  projected_.by_point = nullptr;
  return projected_;
}

}  // namespace hone
