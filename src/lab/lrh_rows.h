// lrh-theory: what [SaG] §3 says of global and local heads, measured on its own synthetic model. Four parts:
//   global    the best linear head on d2 features of d1 concepts, its error against 1 − d2/d1
//   shared    k neighbours whose concepts lie in the same s: plain least squares on features against σ² s/(k − s − 1)
//   recovery  k examples in all d1 concepts, s of which matter: the lasso and matching pursuit against the rate
//             σ² s log(d1/s)/k
//   locality  neighbours by distance in feature space, at growing k: where the local head beats the global one
#pragma once

#include "lab/experiment.h"

namespace hone::lab {

size_t lrh_tasks(const Json& config);
std::vector<std::string> lrh_columns();
std::vector<Row> lrh_rows(const Json& config, size_t task, const Watch& watch);
Report lrh_report(const Json& config, const Table& rows);

}  // namespace hone::lab
