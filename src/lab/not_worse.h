// Whether a rule is shown to be not worse than a reference by more than a margin.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "hone/decide.h"

namespace hone::lab {

struct NotWorse {
  std::string rule;
  std::string condition;
  double reference = 0;              // the reference's mean squared error
  decide::Interval difference = {};  // rule minus reference, mean with 95 % paired bootstrap
  double p = 1;                      // one-sided, of the hypothesis that the rule is worse by the margin or more
  double holm_p = 1;                 // set by correct()
  size_t tasks = 0;
  bool shown = false;  // the upper limit is within the margin, holm_p ≤ .05 and there are at least `least_tasks`

  double upper_share() const { return difference.high == 0 ? 0 : difference.high / reference; }
};

constexpr double allowed_share = 0.02;  // of the reference's mean squared error
constexpr size_t least_tasks = 30;      // below which p's normal approximation is not trusted

// Squared errors of both on the same tasks. p is that of the normal approximation for the mean of rule − (1 + margin) ·
// reference, task by task, so that the reference's own uncertainty counts. Throws Error{bad_input} for no tasks or
// sizes that differ.
NotWorse not_worse(std::string rule, std::string condition, std::span<const double> errors,
                   std::span<const double> reference, uint64_t seed = 0);
// Holm's correction over all entries, as one family.
void correct(std::span<NotWorse> family);

}  // namespace hone::lab
