// Non-parametric answers: what a query's neighbours are.
#pragma once

#include <span>

#include "hone/base.h"
#include "hone/neighbours.h"

namespace hone {

enum class Vote {
  majority,     // every neighbour counts 1
  by_distance,  // 1/distance as the index measures it: 1/‖q − x‖² for l2, 1/(1 − cos) for cosine
};

// [Q, C]: log of (k · share of the votes + 1/C) / (k + 1), so that a label without a vote is not impossible.
// Of labels with as many votes the nearest neighbour's leads, by at most 1e-4 of a vote.
Matrix vote_log_probabilities(std::span<const int> y, size_t classes, const Neighbours& neighbours, Vote vote);

}  // namespace hone
