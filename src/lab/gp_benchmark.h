// gp-benchmark: what [DTV]'s theory says about a fixed number of steps, measured on prompts of its own model. Four
// parts:
//   identity     the excess risk Σ a_i (q − q*)² against Monte Carlo
//   steps        excess risk of fixed T and of selectors at several signal-to-noise ratios
//   james-stein  T → ∞ at the prompt's points against James–Stein shrinkage, by rank of K
//   floor        what a wrong subspace leaves for every T
#pragma once

#include "lab/experiment.h"

namespace hone::lab {

// How many tasks each part has, in the order above.
struct GpTasks {
  size_t identity, steps, james_stein, floor;
  size_t total() const { return identity + steps + james_stein + floor; }
};
GpTasks gp_tasks(const Json& config);
std::vector<std::string> gp_columns();
std::vector<Row> gp_rows(const Json& config, size_t task);
Report gp_report(const Json& config, const Table& rows);

}  // namespace hone::lab
