// What answers are worth: parts of score_answers() (hone/classify.h) that others need too.
#pragma once

#include "hone/classify.h"

namespace hone {

// Throws Error{bad_input} naming the first query whose label is not in [0, classes).
void check_truth(std::span<const int> truth, size_t classes);

// log softmax of the head's logits [n, classes].
Matrix log_probabilities(const LinearHead& head, ConstMatrixView x);

// Mean with a 95 % bootstrap interval; all three are the sum where a value is not finite.
decide::Interval mean_interval(std::span<const double> values, uint64_t seed);

}  // namespace hone
