// [DTV] experiment 1: how far to adapt, on digit-shift tasks.
#include "lab/digit_shift_rows.h"
#include "lab/experiments.h"

namespace hone::lab {
namespace {

class DigitShiftExperiment : public Experiment {
 public:
  std::string_view name() const override { return "digit-shift"; }
  std::string_view about() const override {
    return "[DTV] experiment 1: steps chosen by evidence on digit-shift tasks, and rules beyond the paper.";
  }
  bool needs_model() const override { return true; }
  Json settings(Size size) const override {
    const size_t tasks = size == Size::quick ? 40 : 2000;
    const size_t descents = by_size(size, 2, 200, tasks);
    return {{"tasks", tasks},     {"tasks_per_pass", 4},       {"examples", 10},     {"layers", 4},
            {"c", {.05, .1, .2}}, {"descent_tasks", descents}, {"descent_steps", 30}};
  }
  std::vector<Adjustable> adjustable() const override { return {{"tasks"}, {"descent_tasks", 0}}; }
  std::vector<std::string> columns() const override { return digit_shift_columns(); }
  size_t tasks(const Json& config) const override { return digit_shift_runs(config); }
  RunTask start(const Json& config, std::shared_ptr<const Model> model, const Watch&) const override {
    return digit_shift_rows(config, model);
  }
  Report report(const Json& config, const Table& rows) const override { return digit_shift_report(config, rows); }
};

}  // namespace

std::unique_ptr<const Experiment> make_digit_shift() { return std::make_unique<DigitShiftExperiment>(); }

}  // namespace hone::lab
