// lab: published tables and figures, each run from one command. An experiment names its tasks and makes a report of
// their rows; the runner (runner.h) does the rest: files, resuming, progress, threads, figures. One file an experiment.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "hone/model.h"
#include "lab/figure.h"
#include "lab/statistics.h"
#include "lab/table.h"

namespace hone::lab {

using Json = nlohmann::ordered_json;  // keys stay in the order in which they were written

enum class Size { quick, standard, full };

inline size_t by_size(Size size, size_t quick, size_t standard, size_t full) {
  return size == Size::quick ? quick : size == Size::full ? full : standard;
}

// One of our numbers beside the published one, both as the page shows them ("0.0719 ± 0.0029").
struct Finding {
  std::string quantity;
  std::string ours;
  std::string published;  // with its source; "–" where there is none
};

struct Report {
  Json summary;                   // summary.json, under "results"
  std::vector<Finding> findings;  // the page's first table
  std::string text;               // the page's Markdown below it, sections from ## on
  std::vector<Figure> figures;    // on the page after the text
};

// A whole number of settings() that a run may choose for itself.
struct Adjustable {
  std::string name;
  uint64_t least = 1;
  uint64_t most = 1'000'000;
};

// The rows of one task. Deterministic: they depend on config and task number only, so every random stream's name holds
// the task's number. `watch` only carries the cancel token.
using RunTask = std::function<std::vector<Row>(size_t task, const Watch& watch)>;

// Const: one object serves any number of runs.
class Experiment {
 public:
  virtual ~Experiment() = default;

  virtual std::string_view name() const = 0;   // as in `hone lab run NAME`
  virtual std::string_view about() const = 0;  // one sentence
  virtual bool needs_model() const { return false; }
  // Without a model: tasks run side by side, one a thread, so RunTask must be safe to call from several. With one they
  // run one after the other and their kernels use all threads.

  // What this experiment adds to config.json: everything that rows depend on besides the runner's own keys, which are
  // "experiment", "size" ("quick", "standard" or "full"), "seed" (uint64) and, with a model, "model" ({"file",
  // "sha256", "precision"}).
  virtual Json settings(Size size) const = 0;
  virtual std::vector<Adjustable> adjustable() const { return {}; }
  // Of each row, after "task" and "rows_left", which the runner adds.
  virtual std::vector<std::string> columns() const = 0;
  virtual size_t tasks(const Json& config) const = 0;
  // Called once before the first task that has to run, with all threads at its service; `model` is null unless
  // needs_model(). Throws Error{cancelled}.
  virtual RunTask start(const Json& config, std::shared_ptr<const Model> model, const Watch& watch) const = 0;
  // From all rows; the model is not there. The same rows give the same report.
  virtual Report report(const Json& config, const Table& rows) const = 0;
};

// All experiments, in the order in which `hone lab list` prints them.
const std::vector<std::unique_ptr<const Experiment>>& experiments();
// Throws Error{not_found} that lists the names.
const Experiment& find_experiment(std::string_view name);

// | a | b |, a line of dashes, and the rows. Bars in cells are escaped.
std::string markdown_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);
// Difference, interval, p, Holm's p, "yes" or "no" for every comparison; `scale` multiplies differences (100: per
// cent).
std::string markdown_table(std::span<const Comparison> comparisons, double scale = 1, int digits = 4);
// The same as a JSON array.
Json to_json(std::span<const Comparison> comparisons);
// "0.0719 ± 0.0029": mean ± standard error.
std::string mean_text(std::span<const double> values, int digits = 4);

}  // namespace hone::lab
