// What the rows of a batch keep, feature by feature.
#pragma once

#include <numeric>
#include <span>
#include <vector>

#include "hone/sae.h"

namespace hone {

struct KeptPlaces {
  std::vector<size_t> start;     // [S + 1]
  std::vector<uint32_t> rows;    // rows that keep the feature, ascending
  std::vector<float> values;     // its value there
  std::vector<float> gradients;  // ∂loss/∂value

  KeptPlaces(const SparseCodes& codes, std::span<const float> value_gradients, size_t features) : start(features + 1) {
    for (size_t i = 0; i < codes.rows(); ++i)
      for (const uint32_t feature : codes.row_features(i)) ++start[feature + 1];
    std::partial_sum(start.begin(), start.end(), start.begin());
    rows.resize(start.back());
    values.resize(start.back());
    gradients.resize(start.back());
    std::vector<size_t> next(start.begin(), start.end() - 1);
    for (size_t i = 0; i < codes.rows(); ++i)
      for (size_t j = i * codes.width; j < i * codes.width + codes.counts[i]; ++j) {
        const size_t to = next[codes.features[j]]++;
        rows[to] = static_cast<uint32_t>(i);
        values[to] = codes.values[j];
        gradients[to] = value_gradients[j];
      }
  }
  size_t count(size_t feature) const { return start[feature + 1] - start[feature]; }
  template <class T>
  std::span<const T> of(size_t feature, const std::vector<T>& list) const {
    return {list.data() + start[feature], count(feature)};
  }
};

}  // namespace hone
