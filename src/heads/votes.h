// Non-parametric answers: what a query's neighbours are.
#pragma once

#include <span>

#include "hone/base.h"
#include "hone/neighbours.h"

namespace hone {

enum class Vote {
  majority,     // every neighbour counts 1
  by_distance,  // 1/distance
};

// [Q, C]: log of (k · share of the votes + 1/C) / (k + 1), so that a label without a vote is not impossible.
Matrix vote_log_probabilities(std::span<const int> y, size_t classes, const Neighbours& neighbours, Vote vote);

}  // namespace hone
