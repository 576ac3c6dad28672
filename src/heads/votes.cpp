#include "heads/votes.h"

#include <algorithm>
#include <cmath>

namespace hone {

Matrix vote_log_probabilities(std::span<const int> y, size_t classes, const Neighbours& neighbours, Vote vote) {
  Matrix result(neighbours.queries(), classes);
  constexpr double least_distance = 1e-6, tie_break = 5e-5;
  const double k = static_cast<double>(neighbours.k), prior = 1 / static_cast<double>(classes);
  std::vector<double> votes(classes);
  for (size_t q = 0; q < result.rows(); ++q) {
    const auto ids = neighbours.ids_of(q);
    const auto distances = neighbours.distances_of(q);
    std::fill(votes.begin(), votes.end(), 0);
    double sum = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0) continue;
      const double nearer = 1 + tie_break * std::ldexp(1, -static_cast<int>(std::min<size_t>(i, 60)));
      const double weight = nearer * (vote == Vote::majority ? 1 : 1 / std::max<double>(distances[i], least_distance));
      votes[static_cast<size_t>(y[static_cast<size_t>(ids[i])])] += weight;
      sum += weight;
    }
    for (size_t c = 0; c < classes; ++c)
      result.row(q)[c] =
          static_cast<float>(std::log((sum > 0 ? k * votes[c] / sum : k * prior) + prior) - std::log(k + 1));
  }
  return result;
}

}  // namespace hone
