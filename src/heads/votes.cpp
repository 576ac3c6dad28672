#include "heads/votes.h"

#include <algorithm>
#include <cmath>

namespace hone {

Matrix vote_log_probabilities(std::span<const int> y, size_t classes, const Neighbours& neighbours, Metric metric,
                              Vote vote) {
  Matrix result(neighbours.queries(), classes);
  constexpr double least_distance = 1e-6, lead = 1e-5;
  const double k = static_cast<double>(neighbours.k), prior = 1 / static_cast<double>(classes);
  const auto weight_of = [&](double distance) {
    if (vote == Vote::majority) return 1.0;
    return 1 / std::max(metric == Metric::l2 ? std::sqrt(distance) : distance, least_distance);
  };
  std::vector<double> votes(classes);
  for (size_t q = 0; q < result.rows(); ++q) {
    const auto ids = neighbours.ids_of(q);
    const auto distances = neighbours.distances_of(q);
    std::fill(votes.begin(), votes.end(), 0);
    double sum = 0;
    const auto label_of = [&](int64_t id) { return static_cast<size_t>(y[static_cast<size_t>(id)]); };
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0) continue;
      const double weight = weight_of(distances[i]);
      votes[label_of(ids[i])] += weight;
      sum += weight;
    }
    const double most = *std::ranges::max_element(votes);
    if (std::ranges::count(votes, most) > 1 && most > 0) {
      const auto first = std::ranges::find_if(ids, [&](int64_t id) { return id >= 0 && votes[label_of(id)] == most; });
      sum += lead * votes[label_of(*first)];
      votes[label_of(*first)] *= 1 + lead;
    }
    for (size_t c = 0; c < classes; ++c)
      result.row(q)[c] =
          static_cast<float>(std::log((sum > 0 ? k * votes[c] / sum : k * prior) + prior) - std::log(k + 1));
  }
  return result;
}

size_t choose_votes(std::span<const int> y, size_t classes, std::span<const int64_t> asked,
                    const Neighbours& neighbours, Metric metric, Vote vote) {
  size_t best = 1, most = 0;
  for (const size_t k : {1, 5, 10, 20, 50, 100}) {
    if (k > neighbours.k) break;
    const Matrix log_p = vote_log_probabilities(y, classes, neighbours.nearest(k), metric, vote);
    size_t right = 0;
    for (size_t q = 0; q < asked.size(); ++q)
      right += std::ranges::max_element(log_p.row(q)) - log_p.row(q).begin() == y[static_cast<size_t>(asked[q])];
    if (right <= most) continue;
    most = right;
    best = k;
  }
  return best;
}

}  // namespace hone
