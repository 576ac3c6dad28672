#include "lab/runner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>

#include "base/files.h"
#include "base/parallel.h"
#include "lab/page.h"
#include "lab/rows_file.h"

namespace hone::lab {
namespace {

namespace fs = std::filesystem;

// One run at a time in a folder.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder) : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ >= 0 && ::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
    const int reason = errno;
    if (fd_ >= 0) ::close(fd_);
    if (reason == EWOULDBLOCK)
      throw Error(ErrorCode::busy,
                  fmt::format("another run is at work in '{}'; wait for it, or give another folder", folder.string()));
    throw Error(ErrorCode::io, fmt::format("cannot lock the folder '{}': {}; {}", folder.string(),
                                           std::strerror(reason), advice_for(reason)));
  }
  ~FolderLock() { ::close(fd_); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_;
};

// What of `config` the folder's config.json says otherwise, "" if nothing.
std::string first_difference(const Json& there, const Json& config) {
  for (const auto& [key, value] : config.items())
    if (!there.contains(key) || nlohmann::json(there[key]) != nlohmann::json(value))
      return fmt::format("{} {}, not {}", key, there.contains(key) ? there[key].dump() : "unknown", value.dump());
  for (const auto& [key, value] : there.items())
    if (!config.contains(key)) return fmt::format("{} {}", key, value.dump());
  return "";
}

// A kill while config.json is written leaves its beginning beside it.
bool holds_other_things(const fs::path& folder) {
  return std::ranges::any_of(folder_entries(folder), [](const fs::path& entry) {
    return !entry.filename().string().starts_with("config.json.");
  });
}

void keep_config(const fs::path& folder, const Json& config) {
  const fs::path path = folder / "config.json";
  if (!is_there(path)) {
    if (holds_other_things(folder))
      throw Error(ErrorCode::bad_input,
                  fmt::format("'{}' is not empty and holds no config.json, so it is not a run's; give another folder",
                              folder.string()));
    return write_file_atomically(path, config.dump(2) + '\n');
  }
  const Json there = Json::parse(read_file(path), nullptr, false);
  if (!there.is_object())
    throw Error(ErrorCode::corrupt, fmt::format("'{}' is not a JSON object; give another folder", path.string()));
  if (const std::string difference = first_difference(there, config); !difference.empty())
    throw Error(ErrorCode::bad_input, fmt::format("'{}' holds a run with {}; give another folder, or remove this one",
                                                  folder.string(), difference));
}

// Takes rows in any order and writes them in the order of tasks.
class InOrder {
 public:
  InOrder(RowsFile& file, size_t total, const Watch& watch) : file_(file), total_(total), watch_(watch) {}

  void put(size_t task, std::vector<Row> rows) {
    const std::lock_guard lock(mutex_);
    waiting_[task] = std::move(rows);
    for (auto next = waiting_.find(file_.tasks()); next != waiting_.end(); next = waiting_.find(file_.tasks())) {
      file_.append(next->second);
      waiting_.erase(next);
    }
    watch_.report("tasks", file_.tasks(), total_);
  }

 private:
  RowsFile& file_;
  size_t total_;
  const Watch& watch_;
  std::mutex mutex_;
  std::map<size_t, std::vector<Row>> waiting_;
};

std::shared_ptr<const Model> open_model(const Json& config, const fs::path& model) {
  const bool int8 = config.at("model").at("precision") == "int8";
  return Model::open(model, {.precision = int8 ? Precision::int8 : Precision::fp32});
}

void run_tasks(const Experiment& experiment, const Json& config, const fs::path& model, RowsFile& file, size_t total,
               const Watch& watch) {
  const size_t first = file.tasks();
  if (first >= total) return;
  const RunTask run_task =
      experiment.start(config, experiment.needs_model() ? open_model(config, model) : nullptr, watch);
  const Watch quiet{{}, watch.cancel};
  InOrder writer(file, total, watch);
  watch.report("tasks", first, total);
  if (experiment.needs_model()) {
    for (size_t task = first; task < total; ++task) writer.put(task, run_task(task, quiet));
    return;
  }
  parallel_for(total - first, [&](size_t i) {
    watch.cancel.check();
    writer.put(first + i, run_task(first + i, quiet));
  });
}

// Rows that somebody changed fail in whatever reads them first.
Report report_of(const Experiment& experiment, const Json& config, const Table& rows, const fs::path& file) {
  try {
    return experiment.report(config, rows);
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(ErrorCode::corrupt, fmt::format("'{}' holds rows that this experiment does not write ({}); remove the "
                                                "folder and run again",
                                                file.string(), error.what()));
  }
}

}  // namespace

std::string_view name(Size size) {
  switch (size) {
    case Size::quick: return "quick";
    case Size::full: return "full";
    default: return "standard";
  }
}

Json make_config(const Experiment& experiment, Size size, uint64_t seed, const fs::path& model, Precision precision) {
  if (experiment.needs_model() && model.empty())
    throw Error(ErrorCode::bad_input,
                fmt::format("{} needs a model: --model PATH, a GGUF file; `hone model get smollm2` fetches one",
                            experiment.name()));
  if (!experiment.needs_model() && !model.empty())
    throw Error(ErrorCode::bad_input, fmt::format("{} uses no model; leave --model out", experiment.name()));
  Json config = {{"experiment", experiment.name()}, {"size", name(size)}, {"seed", seed}};
  if (!model.empty())
    config["model"] = {{"file", model.filename().string()},
                       {"sha256", sha256(model)},
                       {"precision", precision == Precision::int8 ? "int8" : "fp32"}};
  config.update(experiment.settings(size));
  return config;
}

void adjust(const Experiment& experiment, std::string_view name, uint64_t value, Json& config) {
  const std::vector<Adjustable> all = experiment.adjustable();
  const auto one = std::ranges::find(all, name, &Adjustable::name);
  if (one == all.end()) {
    std::string names;
    for (const Adjustable& number : all) names += (names.empty() ? "" : ", ") + number.name;
    throw Error(ErrorCode::bad_input, fmt::format("{} has no number '{}' to set; {}", experiment.name(), name,
                                                  names.empty() ? "it has none" : "it has " + names));
  }
  if (value < one->least || value > one->most)
    throw Error(ErrorCode::bad_input,
                fmt::format("{}: {} is {}, not from {} to {}", experiment.name(), name, value, one->least, one->most));
  config[one->name] = value;
}

Run run(const Experiment& experiment, const Json& config, const fs::path& model, const fs::path& folder,
        const Watch& watch) {
  make_folder(folder);
  const FolderLock lock(folder);
  keep_config(folder, config);
  RowsFile rows(folder / "rows.csv", experiment.columns());
  Run result;
  result.tasks = experiment.tasks(config);
  result.resumed = rows.tasks();
  if (rows.tasks() > result.tasks)
    throw Error(ErrorCode::corrupt, fmt::format("'{}' holds {} tasks, the config asks for {}; remove the folder",
                                                (folder / "rows.csv").string(), rows.tasks(), result.tasks));
  run_tasks(experiment, config, model, rows, result.tasks, watch);
  watch.report("report", 0, 0);
  result.report = report_of(experiment, config, rows.table(), folder / "rows.csv");
  result.files = {folder / "config.json", folder / "rows.csv"};
  write_report(experiment, config, result.report, folder, watch, result.files, result.warnings);
  return result;
}

}  // namespace hone::lab
