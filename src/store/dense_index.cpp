#include "store/dense_index.h"

#include <faiss/IndexFlat.h>

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

}  // namespace

DenseIndex::DenseIndex(std::vector<int64_t> ids, Matrix vectors)
    : ids_(std::move(ids)),
      mean_(mean_of(vectors)),
      index_(std::make_unique<faiss::IndexFlatIP>(static_cast<faiss::Index::idx_t>(vectors.cols()))) {
  for (size_t i = 0; i < vectors.rows(); ++i) center(vectors.row(i), mean_);
  index_->add(static_cast<faiss::Index::idx_t>(vectors.rows()), vectors.data());
}

DenseIndex::DenseIndex(DenseIndex&&) noexcept = default;
DenseIndex& DenseIndex::operator=(DenseIndex&&) noexcept = default;
DenseIndex::~DenseIndex() = default;

std::vector<Neighbour> DenseIndex::nearest(std::span<const float> query, size_t count) const {
  count = std::min(count, ids_.size());
  if (count == 0) return {};
  std::vector<float> centered(query.begin(), query.end());
  center(centered, mean_);
  std::vector<float> cosines;
  std::vector<faiss::Index::idx_t> rows;
  // Of equal cosines FAISS returns any: asks on until the last one is below the `count`th.
  for (size_t asked = std::min(count + 1, ids_.size());; asked = std::min(2 * asked, ids_.size())) {
    cosines.resize(asked);
    rows.resize(asked);
    index_->search(1, centered.data(), static_cast<faiss::Index::idx_t>(asked), cosines.data(), rows.data());
    if (asked == ids_.size() || cosines.back() < cosines[count - 1]) break;
  }
  std::vector<Neighbour> found(cosines.size());
  for (size_t i = 0; i < found.size(); ++i) found[i] = {ids_[static_cast<size_t>(rows[i])], cosines[i]};
  std::ranges::sort(found, [](const Neighbour& a, const Neighbour& b) {
    return a.score != b.score ? a.score > b.score : a.chunk_id < b.chunk_id;
  });
  found.resize(count);
  return found;
}

}  // namespace hone::store
