// [DTV]'s SST-2 experiment: steps and blocks on few-shot sentiment prompts.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/files.h"
#include "lab/block_rows.h"
#include "lab/experiments.h"
#include "lab/sst2_tasks.h"

namespace hone::lab {
namespace {

constexpr size_t published_tasks = 50;
constexpr double least_probability = 0.001;  // a linearised probability is kept off 0 and 1 for its log-loss

// The prediction as a probability of label 1.
double probability(double prediction, bool margin) {
  if (margin) return 1 / (1 + std::exp(-prediction));
  return std::clamp(prediction, least_probability, 1 - least_probability);
}

// −log of the probability that the prediction gives the right label; finite for every margin.
double log_loss(double prediction, bool margin, bool positive) {
  if (!margin) return -std::log(positive ? probability(prediction, false) : 1 - probability(prediction, false));
  const double against = positive ? -prediction : prediction;
  return std::max(against, 0.0) + std::log1p(std::exp(-std::abs(against)));
}

struct Scored {
  std::vector<double> squared, wrong, log_loss;  // [tasks]
};

Scored score(const RuleResult& rule, std::span<const StepTask> tasks, bool margin) {
  Scored scored;
  for (size_t i = 0; i < tasks.size(); ++i) {
    const bool positive = tasks[i].target > 0.5;
    const double p = probability(rule.predictions[i], margin);
    scored.squared.push_back(std::pow((margin ? p : rule.predictions[i]) - positive, 2));
    scored.wrong.push_back((p > 0.5) != positive);
    scored.log_loss.push_back(log_loss(rule.predictions[i], margin, positive));
  }
  return scored;
}

void add_steps(Report& report, std::span<const StepTask> tasks, bool margin, double c, std::string_view which,
               bool beside_published) {
  const std::vector<RuleResult> rules =
      apply_step_rules(tasks, c, margin ? Answers::unbounded : Answers::within_0_and_1);
  const std::string readout = margin ? "margin" : "probability";
  report.text += fmt::format("### {} tasks ({}), {} readout, c = {}\n\n", tasks.size(), which, readout, c);
  std::vector<std::vector<std::string>> lines;
  std::vector<Method> methods;
  for (const RuleResult& rule : rules) {
    const Scored scored = score(rule, tasks, margin);
    const double accuracy =
        1 - std::reduce(scored.wrong.begin(), scored.wrong.end()) / static_cast<double>(tasks.size());
    const decide::Interval interval =
        share_interval(static_cast<size_t>(std::lround(accuracy * static_cast<double>(tasks.size()))), tasks.size());
    lines.push_back({rule.name + (rule.published ? " [DTV]" : ""), mean_text(scored.squared, 4),
                     fmt::format("{:.1f} [{:.1f}, {:.1f}]", 100 * accuracy, 100 * interval.low, 100 * interval.high),
                     mean_text(scored.log_loss, 3)});
    report.summary["steps"].push_back({{"tasks", tasks.size()},
                                       {"readout", readout},
                                       {"rule", rule.name},
                                       {"squared_error", mean(scored.squared)},
                                       {"standard_error", standard_error(scored.squared)},
                                       {"accuracy", accuracy},
                                       {"log_loss", mean(scored.log_loss)}});
    if (rule.published || rule.name == "Gibbs to 30, MLE" || rule.name == "pooled leave-one-out, alike")
      methods.push_back({rule.name, scored.squared});
    if (!beside_published) continue;
    for (const auto& [name, value] :
         {std::pair("T = 8", ".328"), std::pair("evidence, fixed σ", ".325"), std::pair("evidence, MLE", ".324")})
      if (rule.name == name)
        report.findings.push_back(
            {fmt::format("squared error, {}, {} tasks, c = {}, linearised", name, tasks.size(), c),
             mean_text(scored.squared), fmt::format("{} ([DTV], 50 tasks, another model)", value)});
  }
  report.text += markdown_table({"rule", "squared error", "accuracy, % [95 %]", "log-loss"}, lines) +
                 "\nWas a difference of the squared error found?\n\n";
  const std::vector<Comparison> comparisons = compare_all(methods);
  report.text += markdown_table(comparisons) + "\n";
  report.summary["step_differences"].push_back(
      {{"tasks", tasks.size()}, {"readout", readout}, {"pairs", to_json(comparisons)}});
}

class Sst2 : public Experiment {
 public:
  std::string_view name() const override { return "sst2"; }
  std::string_view about() const override {
    return "[DTV] on SST-2: steps and blocks for few-shot sentiment prompts ($HONE_DATA/sst2/dev.tsv).";
  }
  bool needs_model() const override { return true; }
  Json settings(Size size) const override {
    const std::filesystem::path file = sst2_file();
    const size_t sentences = read_sst2(file).size();
    const size_t tasks = size == Size::quick ? 4 : size == Size::standard ? 200 : sentences;
    return {{"tasks", std::min(tasks, sentences)},
            {"data_sha256", sha256(file)},
            {"examples", 10},
            {"candidates", 48},
            {"c", Json::array({.1})},
            {"steps", 8},
            {"budgets", {1, 2, 4, 8, 16, 32}},
            {"random_draws", 5}};
  }
  std::vector<std::string> columns() const override { return block_columns(); }
  size_t tasks(const Json& config) const override { return config.at("tasks"); }

  RunTask start(const Json& config, std::shared_ptr<const Model> model, const Watch&) const override {
    const std::filesystem::path file = sst2_file();
    if (sha256(file) != config.at("data_sha256"))
      throw Error(ErrorCode::bad_input, fmt::format("'{}' is not the file that this run began with", file.string()));
    const std::vector<BlockId> blocks = at_least_value_blocks(*model, config.at("candidates"));
    const std::vector<int> layers = layers_of(blocks);
    return [=, sentences = read_sst2(file), format = Sst2Format(*model)](size_t number, const Watch& watch) {
      const uint64_t seed = config.at("seed");
      const std::vector<size_t> chosen = sst2_task(seed, number, sentences.size(), config.at("examples"));
      const LabelledPrompt prompt = format.prompt(sentences, chosen);
      const PromptKernels margin =
          std::move(prompt_kernels(*model, {&prompt, 1}, blocks, format.margin(), watch.cancel).front());
      const PromptKernels kernels = probability_kernels(margin);
      std::vector<double> targets, margin_targets;
      for (const size_t i : chosen) {
        targets.push_back(sentences[i].label);
        margin_targets.push_back(2 * sentences[i].label - 1);
      }
      const double target = targets.back(), margin_target = margin_targets.back();
      targets.pop_back();
      margin_targets.pop_back();
      const std::vector<double> residuals = kernels.residuals(targets);
      const BlockChoiceOptions options{.steps = config.at("steps"),
                                       .budgets = config.at("budgets").get<std::vector<size_t>>(),
                                       .random_draws = config.at("random_draws"),
                                       .stream = fmt::format("sst2/{}/blocks", number),
                                       .seed = seed};
      std::vector<Row> rows = {
          kernel_row(number, target, kernels, residuals),
          kernel_row(number, margin_target, margin, margin.residuals(margin_targets), "margin"),
      };
      for (Row& row :
           block_rows(number, target, kernels, residuals, layers, config.at("c").get<std::vector<double>>(), options))
        rows.push_back(std::move(row));
      return rows;
    };
  }

  Report report(const Json& config, const Table& rows) const override {
    Report report;
    const std::vector<StepTask> tasks = read_kernel_rows(rows), margins = read_kernel_rows(rows, "margin");
    report.summary["tasks"] = tasks.size();
    report.text +=
        "## How many steps\n\nThe probability readout is the published one: ŷ is the probability of label 1 "
        "among the two, targets 0 and 1; its linearised prediction may leave [0, 1], and is kept off 0 and 1 "
        "for the log-loss only. The margin readout is ours: the difference of the two logits, targets −1 and "
        "1; its prediction becomes a probability through the logistic function.\n\n";
    for (const double c : config.at("c").get<std::vector<double>>()) {
      const size_t first = std::min(published_tasks, tasks.size());
      add_steps(report, std::span(tasks).first(first), false, c, "as many as published", true);
      if (first < tasks.size()) add_steps(report, tasks, false, c, "all of this run", true);
      add_steps(report, margins, true, c, "all of this run", false);
    }
    const PublishedGain published[] = {
        {"Query-Aware", {.0010, .0019, .0031, .0039, .0059, .0029}},
        {"Trace-TopK", {.0005, .0011, .0017, .0031, .0060, .0029}},
        {"Trace-BottomK", {-.0001, -.0004, -.0007, -.0022, -.0030, -.0047}},
    };
    add_block_report(report, config, rows, published, "[DTV], 50 tasks, another model");
    report.text +=
        "## What was fixed\n\nPairs end with a line break. Blocks are chosen for the probability readout. "
        "Candidates are the value weights, one block a key/value head, of as many of the last layers as hold "
        "48 of them, or of all layers. Every task has another sentence of the validation set as its query and "
        "draws its examples from the rest.\n";
    return report;
  }
};

}  // namespace

std::unique_ptr<const Experiment> make_sst2() { return std::make_unique<Sst2>(); }

}  // namespace hone::lab
