// Non-parametric answers: what a query's neighbours are.
#pragma once

#include <cstdint>
#include <span>

#include "hone/base.h"
#include "hone/neighbours.h"

namespace hone {

enum class Vote {
  majority,  // every neighbour counts 1
  by_distance,  // 1/distance: 1/‖q − x‖ for l2, whose index returns squares, 1/(1 − cos) for cosine; none below 1e-6
};

// [Q, C]: log of (k · share of the votes + 1/C) / (k + 1), so that a label without a vote is not impossible. `metric`
// is that of the index. Of the labels with most votes the nearest neighbour's leads, by 1e-5 of them.
Matrix vote_log_probabilities(std::span<const int> y, size_t classes, const Neighbours& neighbours, Metric metric,
                              Vote vote);

// Of 1, 5, 10, 20, 50 and 100, as far as there are so many neighbours, the number of votes that is right most often
// about the points `asked`, whose neighbours are others than themselves; the least of equals.
size_t choose_votes(std::span<const int> y, size_t classes, std::span<const int64_t> asked,
                    const Neighbours& neighbours, Metric metric, Vote vote);

}  // namespace hone
