#include "store/dense_index.h"

#include <algorithm>
#include <cmath>

namespace hone::store {
namespace {

std::vector<float> mean_of(const Matrix& vectors) {
  std::vector<double> sums(vectors.cols());
  for (size_t i = 0; i < vectors.rows(); ++i)
    for (size_t d = 0; d < sums.size(); ++d) sums[d] += vectors.row(i)[d];
  std::vector<float> mean(sums.size());
  for (size_t d = 0; d < sums.size(); ++d)
    mean[d] = static_cast<float>(sums[d] / static_cast<double>(std::max<size_t>(vectors.rows(), 1)));
  return mean;
}

// vector − mean at length 1, or 0.
void center(std::span<float> vector, std::span<const float> mean) {
  double square = 0;
  for (size_t d = 0; d < vector.size(); ++d) square += std::pow(static_cast<double>(vector[d]) - mean[d], 2);
  const double factor = square > 0 ? 1 / std::sqrt(square) : 0;
  for (size_t d = 0; d < vector.size(); ++d)
    vector[d] = static_cast<float>((static_cast<double>(vector[d]) - mean[d]) * factor);
}

Matrix centered(std::span<const float> query, std::span<const float> mean) {
  Matrix row = Matrix::uninitialized(1, query.size());
  std::ranges::copy(query, row.data());
  center(row.row(0), mean);
  return row;
}

}  // namespace

DenseIndex::DenseIndex(std::vector<int64_t> ids, Matrix vectors) : ids_(std::move(ids)), mean_(mean_of(vectors)) {
  for (size_t i = 0; i < vectors.rows(); ++i) center(vectors.row(i), mean_);
  if (!vectors.empty()) index_ = NeighbourIndex::build(vectors, {.metric = Metric::cosine});
}

std::vector<Neighbour> DenseIndex::as_chunks(const Neighbours& found) const {
  std::vector<Neighbour> chunks(found.k);
  for (size_t i = 0; i < chunks.size(); ++i)
    chunks[i] = {ids_[static_cast<size_t>(found.ids[i])], 1 - found.distances[i]};
  return chunks;
}

std::vector<Neighbour> DenseIndex::nearest(std::span<const float> query, size_t count) const {
  count = std::min(count, ids_.size());
  if (count == 0) return {};
  return as_chunks(index_->search(centered(query, mean_), count));
}

std::vector<Neighbour> DenseIndex::sift(std::span<const float> query, size_t count) const {
  constexpr size_t pool = 200;
  count = std::min(count, ids_.size());
  if (count == 0) return {};
  const Matrix row = centered(query, mean_);
  const Neighbours nearest = index_->search(row, std::min(std::max(pool, count), ids_.size()));
  return as_chunks(hone::sift(index_->points(), row, nearest, {.count = count}));
}

}  // namespace hone::store
