// Rows of the digit-shift experiment: how tasks are counted, and what a row says.
#pragma once

#include "lab/digit_shift.h"
#include "lab/experiment.h"
#include "lab/step_rules.h"

namespace hone::lab {

// Raw rows of kind "kernel", one a task of the stream, hold K, k_x and r: everything but true descent follows from
// them. Those of kind "descent" hold the answers after 0 … 30 steps of true descent, for every c.
struct DigitShiftRows {
  std::vector<StepTask> tasks;  // by number
  std::vector<bool> noisy;
  struct Descent {
    size_t task = 0;                           // index into tasks
    std::vector<std::vector<double>> answers;  // [c][T]
  };
  std::vector<Descent> descents;

  // Throws Error{corrupt} for a row that does not fit.
  static DigitShiftRows read(const Json& config, const Table& rows);
};

std::vector<std::string> digit_shift_columns();
// Rows of a run's task: the first tasks are passes over several tasks of the stream, the others one descent each.
RunTask digit_shift_rows(const Json& config, const std::shared_ptr<const Model>& model);
size_t digit_shift_runs(const Json& config);

Report digit_shift_report(const Json& config, const Table& rows);

}  // namespace hone::lab
