#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/parallel.h"
#include "base/random.h"
#include "heads/neighbours_flat.h"

namespace hone {
namespace {

Matrix drawn_rows(ConstMatrixView points, size_t count, uint64_t seed) {
  const std::vector<size_t> order = RandomStream(seed, "k-means").draw(points.rows, count);
  Matrix drawn = Matrix::uninitialized(count, points.cols);
  for (size_t i = 0; i < count; ++i) std::ranges::copy(points.row(order[i]), drawn.row(i).begin());
  return drawn;
}

// Rows of each of `count` clusters, ascending; cluster c has order[starts[c]] … order[starts[c + 1] − 1].
struct Members {
  Members(std::span<const int64_t> cluster, size_t count) : starts(count + 1), order(cluster.size()) {
    for (const int64_t c : cluster) ++starts[static_cast<size_t>(c) + 1];
    std::partial_sum(starts.begin(), starts.end(), starts.begin());
    std::vector<size_t> next(starts.begin(), starts.end() - 1);
    for (size_t i = 0; i < cluster.size(); ++i) order[next[static_cast<size_t>(cluster[i])]++] = i;
  }
  std::vector<size_t> starts, order;
};

// Every centroid becomes the mean of its points; one without points takes the farthest that is not taken yet.
void move_centroids(ConstMatrixView points, const Neighbours& nearest, Matrix& centroids) {
  const Members members(nearest.ids, centroids.rows());
  std::vector<size_t> empty;
  for (size_t c = 0; c < centroids.rows(); ++c)
    if (members.starts[c] == members.starts[c + 1]) empty.push_back(c);
  parallel_for(centroids.rows(), [&](size_t c) {
    const size_t begin = members.starts[c], end = members.starts[c + 1];
    if (begin == end) return;
    std::vector<double> sums(points.cols);
    for (size_t i = begin; i < end; ++i)
      for (size_t d = 0; d < sums.size(); ++d) sums[d] += points.row(members.order[i])[d];
    for (size_t d = 0; d < sums.size(); ++d)
      centroids.row(c)[d] = static_cast<float>(sums[d] / static_cast<double>(end - begin));
  });
  std::vector<size_t> farthest(points.rows);
  std::iota(farthest.begin(), farthest.end(), size_t{0});
  std::partial_sort(farthest.begin(), farthest.begin() + static_cast<std::ptrdiff_t>(empty.size()), farthest.end(),
                    [&](size_t a, size_t b) {
                      return nearest.distances[a] != nearest.distances[b] ? nearest.distances[a] > nearest.distances[b]
                                                                          : a < b;
                    });
  for (size_t i = 0; i < empty.size(); ++i) std::ranges::copy(points.row(farthest[i]), centroids.row(empty[i]).begin());
}

}  // namespace

Matrix kmeans(ConstMatrixView points, size_t count, Metric metric, int iterations, uint64_t seed, const Watch& watch) {
  if (count == 0 || count > points.rows)
    throw Error(
        ErrorCode::bad_input,
        fmt::format("{} centroids of {} points; there is at least one, and at most one a point", count, points.rows));
  if (iterations < 0)
    throw Error(ErrorCode::bad_input, fmt::format("{} iterations of k-means; give 0 or more", iterations));
  require_finite(points, "points");
  const bool spherical = metric == Metric::cosine;
  const Matrix unit = spherical ? at_length_one(points) : Matrix();
  const ConstMatrixView rows = spherical ? unit.view() : points;
  Matrix centroids = drawn_rows(rows, count, seed);
  for (int i = 0; i < iterations; ++i) {
    watch.report("k-means", static_cast<size_t>(i), static_cast<size_t>(iterations));
    const Matrix before = centroids.copy();
    move_centroids(rows, ExactSearch(centroids, metric).search(rows, 1, {.progress = {}, .cancel = watch.cancel}),
                   centroids);
    if (spherical) centroids = at_length_one(centroids);
    if (std::equal(before.data(), before.data() + before.size(), centroids.data())) break;  // nothing will move again
  }
  return centroids;
}

}  // namespace hone
