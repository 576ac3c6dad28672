// Local heads where they were not meant to be used ([SaG], the study of locality).
#pragma once

#include "hone/classify.h"

namespace hone {

// Of a sample of options.locality_queries queries: the heads that `training` makes from `global` on their `teachers`,
// on those teachers and on all queries. Sets own_… and elsewhere_… of `result`: intervals over heads of their means
// over points. A head that diverged is wrong, infinitely so.
void measure_locality(const LinearHead& global, ConstMatrixView x, std::span<const int> y, const Neighbours& teachers,
                      ConstMatrixView queries, std::span<const int> truth, const LocalTraining& training,
                      const ClassifyOptions& options, const Watch& watch, Classification& result);

}  // namespace hone
