// hone lab: published tables and figures, run from one command.
#include <fmt/format.h>

#include <chrono>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/progress.h"
#include "cli/streams.h"
#include "lab/runner.h"

namespace hone::cli {
namespace {

struct LabArguments {
  std::string name;
  std::filesystem::path folder;
  std::filesystem::path model;
  std::string precision = "fp32";
  uint64_t seed = 0;
  std::vector<std::string> numbers;  // NAME=N
  int threads = 0;
  bool quick = false;
  bool full = false;
  bool json = false;
};

std::vector<std::string> adjustable(const lab::Experiment& experiment) {
  std::vector<std::string> names;
  for (const lab::Adjustable& number : experiment.adjustable()) names.push_back(number.name);
  return names;
}

// "" if `text` is NAME=N.
std::string complain_about_number(const std::string& text) {
  const size_t equals = text.find('=');
  const std::string number = equals == std::string::npos ? "" : text.substr(equals + 1);
  const bool whole =
      !number.empty() && number.size() < 19 && number.find_first_not_of("0123456789") == std::string::npos;
  return equals != 0 && whole ? "" : fmt::format("'{}' is not NAME=N, N a whole number", text);
}

void list(bool as_json) {
  if (!as_json) {
    for (const auto& experiment : lab::experiments()) {
      fmt::print("{:<18} {}{}\n", experiment->name(), experiment->about(),
                 experiment->needs_model() ? " Needs --model." : "");
      const std::vector<std::string> names = adjustable(*experiment);
      if (!names.empty()) fmt::print("{:<18} --set {}=N\n", "", fmt::join(names, "=N, --set "));
    }
    return;
  }
  nlohmann::json all = nlohmann::json::array();
  for (const auto& experiment : lab::experiments())
    all.push_back({{"name", experiment->name()},
                   {"about", experiment->about()},
                   {"needs_model", experiment->needs_model()},
                   {"set", adjustable(*experiment)}});
  print_json({{"experiments", all}});
}

void print_summary(const std::filesystem::path& folder, const lab::Run& run, double seconds) {
  if (run.resumed > 0) fmt::print("{} of {} tasks were there already\n", run.resumed, run.tasks);
  for (const lab::Finding& finding : run.report.findings)
    fmt::print("{}\n  ours:      {}\n  published: {}\n", finding.quantity, finding.ours, finding.published);
  fmt::print("{} tasks in {}; the whole report is {}\n", run.tasks - run.resumed, duration_text(seconds),
             (folder / "report.md").string());
}

void print_run(const lab::Json& config, const std::filesystem::path& folder, const lab::Run& run, double seconds) {
  nlohmann::json findings = nlohmann::json::array(), files = nlohmann::json::array();
  for (const lab::Finding& finding : run.report.findings)
    findings.push_back({{"quantity", finding.quantity}, {"ours", finding.ours}, {"published", finding.published}});
  for (const std::filesystem::path& file : run.files) files.push_back(file.string());
  print_json({{"folder", folder.string()},
              {"config", config},
              {"tasks", run.tasks},
              {"resumed", run.resumed},
              {"findings", findings},
              {"results", run.report.summary},
              {"files", files},
              {"warnings", run.warnings},
              {"seconds", seconds}});
}

void run_lab(const LabArguments& arguments) {
  if (arguments.threads > 0) set_threads(arguments.threads);
  const auto start = std::chrono::steady_clock::now();
  const lab::Experiment& experiment = lab::find_experiment(arguments.name);
  const lab::Size size = arguments.quick ? lab::Size::quick : arguments.full ? lab::Size::full : lab::Size::standard;
  const std::filesystem::path folder =
      arguments.folder.empty() ? std::filesystem::path(arguments.name) : arguments.folder;
  require_writable_folder(folder);
  lab::Json config =
      lab::make_config(experiment, size, arguments.seed, arguments.model, precision_named(arguments.precision));
  for (const std::string& number : arguments.numbers) {
    const size_t equals = number.find('=');
    lab::adjust(experiment, number.substr(0, equals), std::stoull(number.substr(equals + 1)), config);
  }
  lab::Run result;
  {
    const Watch watch = terminal_watch(arguments.json);
    result = lab::run(experiment, config, arguments.model, folder, watch);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (const std::string& warning : result.warnings) remark("hone: {}\n", warning);
  if (arguments.json)
    print_run(config, folder, result, seconds);
  else
    print_summary(folder, result, seconds);
}

}  // namespace

void add_lab(Command program) {
  const auto arguments = std::make_shared<LabArguments>();
  const Command command = program.subcommand("lab", "Run the experiments of the papers");
  command.require_subcommand();

  const Command listing = command.subcommand("list", "Which experiments there are");
  listing.flag("--json", arguments->json, "Print one JSON object");
  listing.callback([arguments] { list(arguments->json); });

  std::vector<std::string> names;
  for (const auto& experiment : lab::experiments()) names.emplace_back(experiment->name());
  const Command running =
      command.subcommand("run", "Run one; the same command goes on with a run that was interrupted");
  running.option("NAME", arguments->name, "The experiment").required().one_of(names);
  running.option("-o,--output", arguments->folder, "Folder of the run (default: ./NAME)");
  const Option model = running.option("--model", arguments->model, "A GGUF file, for experiments that need one");
  running.option("--precision", arguments->precision, "Of its frozen products; gradients go back through them in fp32")
      .needs(model)
      .one_of({"fp32", "int8"})
      .shows_default();
  running.option("--seed", arguments->seed, "Seed of every random choice").shows_default();
  running
      .option("--set", arguments->numbers,
              "NAME=N: a number of the experiment that the size would choose; `hone lab list` names them (repeatable)")
      .check(complain_about_number)
      .one_value_each();
  running.option("--threads", arguments->threads, "Threads (default: all cores)").in_range(1, most_threads);
  const Option quick = running.flag("--quick", arguments->quick, "Small: a first look");
  running.flag("--full", arguments->full, "Everything, however long it takes").excludes(quick);
  running.flag("--json", arguments->json, "Print one JSON object");
  running.callback([arguments] { run_lab(*arguments); });
}

}  // namespace hone::cli
