#include "lab/digit_shift_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/random.h"
#include "lab/number_list.h"
#include "lab/weight_descent.h"

namespace hone::lab {
namespace {

struct Settings {
  explicit Settings(const Json& config)
      : seed(config.at("seed")),
        tasks(config.at("tasks")),
        per_pass(config.at("tasks_per_pass")),
        examples(config.at("examples")),
        layers(config.at("layers")),
        steps(config.at("descent_steps")),
        descents(config.at("descent_tasks")),
        c(config.at("c").get<std::vector<double>>()) {}

  uint64_t seed;
  size_t tasks, per_pass, examples;
  int layers;
  size_t steps, descents;
  std::vector<double> c;

  size_t passes() const { return (tasks + per_pass - 1) / per_pass; }
};

// Which tasks of the stream true descent answers: drawn without replacement.
std::vector<size_t> descent_tasks(const Settings& settings) {
  return RandomStream(settings.seed, "digit-shift/descent")
      .draw(settings.tasks, std::min(settings.descents, settings.tasks));
}

Row kernel_row(size_t number, const DigitShift& task, const PromptKernels& kernels) {
  const decide::BlockSum sum = decide::sum_blocks(kernels.blocks());
  return {static_cast<int64_t>(number),
          std::string("kernel"),
          static_cast<int64_t>(task.noisy),
          task.sign,
          static_cast<int64_t>(task.shift),
          task.target(),
          kernels.answer,
          number_list(kernels.residuals(task.targets())),
          number_list(sum.query),
          number_list(sum.kernel.values),
          std::string()};
}

std::vector<Row> kernel_rows(const Model& model, const Settings& settings, size_t pass, const CancelToken& cancel) {
  std::vector<DigitShift> tasks;
  std::vector<LabelledPrompt> prompts;
  const size_t first = pass * settings.per_pass, last = std::min(first + settings.per_pass, settings.tasks);
  for (size_t number = first; number < last; ++number) {
    tasks.push_back(digit_shift(settings.seed, number, settings.examples));
    prompts.push_back(digit_prompt(model, tasks.back()));
  }
  const Readout readout = digit_readout(model);
  const auto kernels = prompt_kernels(model, prompts, value_blocks(model, settings.layers), readout, cancel);
  std::vector<Row> rows;
  for (size_t i = 0; i < tasks.size(); ++i) rows.push_back(kernel_row(first + i, tasks[i], kernels[i]));
  return rows;
}

Row descent_row(const Model& model, const Settings& settings, size_t number, const CancelToken& cancel) {
  const DigitShift task = digit_shift(settings.seed, number, settings.examples);
  const LabelledPrompt prompt = digit_prompt(model, task);
  const std::vector<BlockId> blocks = value_blocks(model, settings.layers);
  const Readout readout = digit_readout(model);
  const PromptKernels kernels = std::move(prompt_kernels(model, {&prompt, 1}, blocks, readout, cancel).front());
  const decide::Spectrum spectrum(decide::sum_blocks(kernels.blocks()).kernel);
  std::vector<double> rates, answers;
  for (const double c : settings.c) rates.push_back(decide::step_size(spectrum, c));
  for (const auto& path : weight_descent(model, prompt, task.targets(), blocks, readout, rates, settings.steps, cancel))
    answers.insert(answers.end(), path.begin(), path.end());
  return {static_cast<int64_t>(number),
          std::string("descent"),
          static_cast<int64_t>(task.noisy),
          task.sign,
          static_cast<int64_t>(task.shift),
          task.target(),
          kernels.answer,
          std::string(),
          std::string(),
          std::string(),
          number_list(answers)};
}

}  // namespace

std::vector<std::string> digit_shift_columns() {
  return {"number",     "kind",      "noisy",        "sign",   "shift",  "target",
          "in_context", "residuals", "query_kernel", "kernel", "descent"};
}

size_t digit_shift_runs(const Json& config) {
  const Settings settings(config);
  return settings.passes() + std::min(settings.descents, settings.tasks);
}

RunTask digit_shift_rows(const Json& config, const std::shared_ptr<const Model>& model) {
  const Settings settings(config);
  return [settings, model, descents = descent_tasks(settings)](size_t task, const Watch& watch) -> std::vector<Row> {
    if (task < settings.passes()) return kernel_rows(*model, settings, task, watch.cancel);
    return {descent_row(*model, settings, descents.at(task - settings.passes()), watch.cancel)};
  };
}

DigitShiftRows DigitShiftRows::read(const Json& config, const Table& rows) {
  const Settings settings(config);
  DigitShiftRows result;
  const Table kernels = rows.where("kind", "kernel"), descents = rows.where("kind", "descent");
  if (kernels.rows() != settings.tasks)
    throw Error(ErrorCode::corrupt, fmt::format("{} tasks of {}", kernels.rows(), settings.tasks));
  for (size_t i = 0; i < kernels.rows(); ++i) {
    if (kernels.number(i, "number") != static_cast<double>(i))
      throw Error(ErrorCode::corrupt, fmt::format("task number {} in place of {}", kernels.text(i, "number"), i));
    const auto list = [&](std::string_view column, size_t size) {
      std::vector<double> values = read_number_list(kernels.text(i, column), column);
      if (values.size() != size)
        throw Error(ErrorCode::corrupt, fmt::format("{} holds {} numbers, not {}", column, values.size(), size));
      return values;
    };
    const size_t n = settings.examples;
    decide::Matrix64 kernel(n, n);
    kernel.values = list("kernel", n * n);
    result.tasks.emplace_back(std::move(kernel), list("query_kernel", n), list("residuals", n),
                              kernels.number(i, "in_context"), kernels.number(i, "target"));
    result.noisy.push_back(kernels.number(i, "noisy") != 0);
  }
  for (size_t i = 0; i < descents.rows(); ++i) {
    const double task = descents.number(i, "number");
    const std::vector<double> answers = read_number_list(descents.text(i, "descent"), "descent");
    if (!(task >= 0 && task < static_cast<double>(settings.tasks)) ||
        answers.size() != settings.c.size() * (settings.steps + 1))
      throw Error(ErrorCode::corrupt, fmt::format("descent row {} does not fit its task", i + 1));
    Descent& descent = result.descents.emplace_back(Descent{static_cast<size_t>(task), {}});
    for (size_t c = 0; c < settings.c.size(); ++c) {
      const auto from = answers.begin() + static_cast<ptrdiff_t>(c * (settings.steps + 1));
      descent.answers.emplace_back(from, from + static_cast<ptrdiff_t>(settings.steps + 1));
    }
  }
  return result;
}

}  // namespace hone::lab
