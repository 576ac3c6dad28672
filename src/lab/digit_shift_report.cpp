// The digit-shift page: our numbers beside [DTV]'s experiment 1, and what lies beyond it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>

#include "base/parallel.h"
#include "base/rounding.h"
#include "hone/steps.h"
#include "lab/digit_shift_rows.h"
#include "lab/not_worse.h"

namespace hone::lab {
namespace {

template <class T>
std::vector<T> pick(const std::vector<T>& from, std::span<const size_t> which) {
  std::vector<T> result;
  for (const size_t i : which) result.push_back(from[i]);
  return result;
}

// Everything at one c.
struct AtStep {
  double c = 0;
  std::vector<RuleResult> rules;
  std::vector<std::vector<double>> errors;  // [rules][tasks], squared
  std::vector<std::vector<double>> curve;   // [T of 0 … 300][tasks], squared errors of the same T for all

  size_t index(std::string_view rule) const {
    for (size_t i = 0; i < rules.size(); ++i)
      if (rules[i].name == rule) return i;
    throw std::out_of_range(std::string(rule));
  }
  const std::vector<double>& of(std::string_view rule) const { return errors[index(rule)]; }
};

constexpr size_t longest = 300;  // T
constexpr size_t published_longest = 30;

std::vector<AtStep> study(const DigitShiftRows& data, std::span<const double> c) {
  std::vector<AtStep> result(c.size());
  parallel_for(c.size(), [&](size_t i) {
    AtStep& at = result[i];
    at.c = c[i];
    at.rules = apply_step_rules(data.tasks, at.c);
    for (const RuleResult& rule : at.rules) at.errors.push_back(rule.squared_errors(data.tasks));
    at.curve = fixed_step_predictions(data.tasks, at.c, decide::whole_steps(longest));
    for (auto& predictions : at.curve)
      for (size_t task = 0; task < predictions.size(); ++task)
        predictions[task] = std::pow(predictions[task] - data.tasks[task].target, 2);
  });
  return result;
}

// The T of 0 … last with the least mean error over some tasks; the smallest of equals.
size_t best_steps(const AtStep& at, std::span<const size_t> tasks, size_t last) {
  std::vector<double> means;
  for (size_t t = 0; t <= last; ++t) means.push_back(mean(pick(at.curve[t], tasks)));
  return static_cast<size_t>(std::ranges::min_element(means) - means.begin());
}

struct Condition {
  std::string name;
  std::vector<size_t> tasks;
};
std::vector<Condition> conditions(const DigitShiftRows& data) {
  std::vector<Condition> result = {{"all", {}}, {"clean", {}}, {"noisy", {}}};
  for (size_t i = 0; i < data.tasks.size(); ++i) {
    result[0].tasks.push_back(i);
    result[data.noisy[i] ? 2 : 1].tasks.push_back(i);
  }
  std::erase_if(result, [](const Condition& condition) { return condition.tasks.empty(); });
  return result;
}

std::string interval_text(const decide::Interval& interval, double p) {
  return fmt::format("{:+.6f} [{:+.6f}, {:+.6f}], p {:.2g}", interval.mean, interval.low, interval.high, p);
}

constexpr std::string_view source = "[DTV] experiment 1, another model, true descent, c not given";

struct Published {
  std::string_view rule, value;
};
constexpr Published published_errors[] = {{"in context", ".0747 ± .0031"},
                                          {"T = 8", ".0734 ± .0030"},
                                          {"evidence, fixed σ", ".0722 ± .0030"},
                                          {"evidence, MLE", ".0719 ± .0029"}};

void add_findings(Report& report, const AtStep& at) {
  const auto published = [](std::string_view value) { return fmt::format("{} ({})", value, source); };
  for (const auto& [rule, value] : published_errors)
    report.findings.push_back(
        {fmt::format("c = {}: MSE, {}, linearised", at.c, rule), mean_text(at.of(rule)), published(value)});
  constexpr Published steps[] = {{"evidence, MLE", "11.2"}, {"evidence, fixed σ", "9.8"}};
  for (const auto& [rule, value] : steps)
    report.findings.push_back({fmt::format("c = {}: mean T, {}", at.c, rule),
                               fmt::format("{:.1f}", mean(at.rules[at.index(rule)].steps)), published(value)});
  struct Gain {
    std::string_view worse, better, value;
  };
  constexpr Gain gains[] = {{"in context", "T = 8", "[.000648, .001796], p 5e-5"},
                            {"T = 8", "evidence, fixed σ", "[.000545, .002894], p .00325"},
                            {"T = 8", "evidence, MLE", "[.000605, .003079], p .0025"}};
  for (const auto& [worse, better, value] : gains) {
    const Method methods[] = {{std::string(worse), at.of(worse)}, {std::string(better), at.of(better)}};
    const Comparison gain = compare_all(methods).front();
    report.findings.push_back({fmt::format("c = {}: improvement of {} over {}", at.c, better, worse),
                               interval_text(gain.difference, gain.p), published(value)});
  }
}

void add_curve(Report& report, std::span<const AtStep> all) {
  Figure curve{"fixed_steps",
               FigureKind::lines,
               "The same number of steps for every task",
               "steps T",
               "mean squared error at the query",
               {}};
  curve.caption = "The whole curve as far as the published grid goes, linearised; bars are ± one standard error.";
  Figure wide{"fixed_steps_to_300",
              FigureKind::lines,
              "The same number of steps for every task, up to 300",
              "steps T",
              "mean squared error at the query",
              {}};
  wide.caption = "Beyond the published grid.";
  std::vector<std::vector<std::string>> lines;
  for (const AtStep& at : all) {
    Series near{fmt::format("c = {}", at.c), {}, {}};
    Series far = near;
    for (size_t t = 0; t <= longest; ++t) {
      const double value = mean(at.curve[t]), error = standard_error(at.curve[t]);
      if (t <= published_longest) {
        near.x.push_back(static_cast<double>(t));
        near.y.push_back(value);
        near.low.push_back(value - error);
        near.high.push_back(value + error);
      }
      far.x.push_back(static_cast<double>(t));
      far.y.push_back(value);
    }
    std::vector<size_t> tasks(at.curve[0].size());
    std::iota(tasks.begin(), tasks.end(), size_t{0});
    const size_t best_30 = best_steps(at, tasks, published_longest), best_300 = best_steps(at, tasks, longest);
    lines.push_back({fmt::format("{}", at.c), mean_text(at.curve[0]), mean_text(at.curve[8]),
                     fmt::format("{}", best_30), mean_text(at.curve[best_30]), fmt::format("{}", best_300),
                     mean_text(at.curve[best_300])});
    report.summary["fixed_steps"].push_back({{"c", at.c}, {"mse", far.y}});
    curve.series.push_back(std::move(near));
    wide.series.push_back(std::move(far));
  }
  report.figures.push_back(std::move(curve));
  report.figures.push_back(std::move(wide));
  report.text +=
      "## Fixed numbers of steps\n\nThe paper calls T = 8 the best fixed T. The best below are chosen on the "
      "same tasks that they are scored on, in hindsight.\n\n" +
      markdown_table({"c", "T = 0", "T = 8", "best T to 30", "its MSE", "best T to 300", "its MSE"}, lines) + "\n";
}

void add_chosen_steps(Report& report, std::span<const AtStep> all) {
  for (const AtStep& at : all) {
    Figure figure{fmt::format("chosen_steps_{}", at.c),      FigureKind::steps,
                  fmt::format("Chosen steps, c = {}", at.c), "steps T",
                  "share of tasks that choose at most T",    {}};
    figure.caption = "Empirical distribution of the T that evidence and leave-one-out choose from 0 … 30.";
    for (const std::string_view rule : {"evidence, fixed σ", "evidence, MLE", "leave-one-out to 30"})
      figure.series.push_back(ecdf(std::string(rule), at.rules[at.index(rule)].steps));
    report.figures.push_back(std::move(figure));
  }
}

std::string_view sees(Sees seen) {
  switch (seen) {
    case Sees::prompt: return "the prompt";
    case Sees::stream: return "and earlier prompts";
    default: return "and earlier answers";
  }
}

void add_rules(Report& report, std::span<const AtStep> all, const std::vector<Condition>& by) {
  report.text +=
      "## All rules\n\nMean squared error ± standard error, linearised. *Sees* says whose labels a rule "
      "knows when it predicts. Rules marked [DTV] are the paper's, the others ours.\n\n";
  for (const AtStep& at : all) {
    std::vector<std::string> header = {fmt::format("rule, c = {}", at.c), "sees"};
    for (const Condition& condition : by) header.push_back(condition.name);
    header.emplace_back("mean T");
    std::vector<std::vector<std::string>> lines;
    for (size_t r = 0; r < at.rules.size(); ++r) {
      const RuleResult& rule = at.rules[r];
      std::vector<std::string> line = {rule.name + (rule.published ? " [DTV]" : ""), std::string(sees(rule.sees))};
      Json entry = {{"c", at.c}, {"rule", rule.name}, {"published", rule.published}};
      for (const Condition& condition : by) {
        const std::vector<double> errors = pick(at.errors[r], condition.tasks);
        line.push_back(mean_text(errors));
        entry[condition.name] = {{"mse", mean(errors)}, {"standard_error", standard_error(errors)}};
      }
      line.push_back(rule.steps.empty() ? "–" : fmt::format("{:.1f}", mean(rule.steps)));
      if (!rule.steps.empty()) entry["mean_steps"] = mean(rule.steps);
      report.summary["rules"].push_back(std::move(entry));
      lines.push_back(std::move(line));
    }
    report.text += markdown_table(header, lines) + "\n";
  }
}

// Every rule against every other as a matrix, one family.
void add_all_pairs(Report& report, const AtStep& at) {
  std::vector<Method> methods;
  for (size_t r = 0; r < at.rules.size(); ++r) methods.push_back({at.rules[r].name, at.errors[r]});
  const std::vector<Comparison> pairs = compare_all(methods);
  const size_t count = methods.size();
  std::vector<std::vector<std::string>> lines(count);
  std::vector<std::string> header = {"rule"};
  for (size_t r = 0; r < count; ++r) {
    header.push_back(fmt::format("{}", r + 1));
    lines[r].assign(count + 1, "");
    lines[r][0] = fmt::format("{} {}", r + 1, methods[r].name);
  }
  size_t pair = 0;
  for (size_t a = 0; a < count; ++a)
    for (size_t b = a + 1; b < count; ++b, ++pair) {
      const bool a_better = pairs[pair].difference.mean < 0;
      lines[a][b + 1] = !pairs[pair].found ? "·" : a_better ? "better" : "worse";
      lines[b][a + 1] = !pairs[pair].found ? "·" : a_better ? "worse" : "better";
    }
  report.text += fmt::format(
                     "All {} pairs of rules, one family: whether the row was found to be better or worse than the "
                     "column; a dot says that no difference was found.\n\n",
                     pairs.size()) +
                 markdown_table(header, lines) + "\n";
  report.summary["all_pairs"].push_back({{"c", at.c}, {"pairs", to_json(pairs)}});
}

void add_differences(Report& report, std::span<const AtStep> all) {
  report.text +=
      "## Was a difference found?\n\nFirst minus second, squared errors on the same tasks: a negative "
      "difference favours the first. 95 % paired bootstrap intervals; p by flipping signs, Holm's "
      "correction over the pairs of one c.\n\n";
  for (const AtStep& at : all) {
    std::vector<Method> methods;
    for (const std::string_view rule : {"in context", "T = 8", "T = 30", "evidence, fixed σ", "evidence, MLE",
                                        "Gibbs to 30, MLE", "pooled prior", "pooled leave-one-out, alike"})
      methods.push_back({std::string(rule), at.of(rule)});
    const std::vector<Comparison> comparisons = compare_all(methods);
    report.text += fmt::format("### c = {}\n\n", at.c) + markdown_table(comparisons, 1, 5) + "\n";
    report.summary["differences"].push_back({{"c", at.c}, {"pairs", to_json(comparisons)}});
    add_all_pairs(report, at);
  }
}

// A fixed T for each half of some tasks (even and odd ones), the best on the other half, and its error on every task.
struct FixedSteps {
  std::array<size_t, 2> steps = {};
  std::vector<double> errors;
};
FixedSteps best_on_other_half(const AtStep& at, std::span<const size_t> tasks) {
  std::array<std::vector<size_t>, 2> halves;
  for (size_t i = 0; i < tasks.size(); ++i) halves[i % 2].push_back(tasks[i]);
  FixedSteps result{{best_steps(at, halves[1], longest), best_steps(at, halves[0], longest)}, {}};
  for (size_t i = 0; i < tasks.size(); ++i) result.errors.push_back(at.curve[result.steps[i % 2]][tasks[i]]);
  return result;
}

void add_not_worse(Report& report, std::span<const AtStep> all, const std::vector<Condition>& by) {
  std::map<std::string, std::vector<NotWorse>> of_rule;
  std::map<std::string, std::array<size_t, 2>> chosen;
  std::vector<std::string> order;
  for (const AtStep& at : all)
    for (const Condition& condition : by) {
      if (condition.name == "all" || condition.tasks.size() < 4) continue;
      const FixedSteps fixed = best_on_other_half(at, condition.tasks);
      const std::string name = fmt::format("{}, c = {}", condition.name, at.c);
      chosen[name] = fixed.steps;
      for (size_t r = 0; r < at.rules.size(); ++r) {
        if (at.rules[r].published) continue;
        if (!of_rule.contains(at.rules[r].name)) order.push_back(at.rules[r].name);
        of_rule[at.rules[r].name].push_back(
            not_worse(at.rules[r].name, name, pick(at.errors[r], condition.tasks), fixed.errors));
      }
    }
  report.text +=
      "## As good as the best fixed number of steps?\n\nAgainst the best T of 0 … 300: each half of a "
      "condition's tasks (every second one) is judged by the T that is best on the other half; rules do not know "
      "the condition, and those that learn do so along this one order of tasks. A cell is the upper "
      "end of the 95 % paired interval of rule minus fixed T, in per cent of the fixed T's error; the aim is at most "
      "2 in every column. ✓: at most 2, and the hypothesis of 2 or more is rejected (Holm over a rule's columns; "
      "whoever picks a rule by this table needs other tasks to judge it) with at least 30 tasks to judge.\n\n";
  std::vector<std::string> header = {"rule"};
  std::vector<std::vector<std::string>> lines;
  for (const auto& [name, best] : chosen) report.summary["best_fixed_steps"][name] = best;
  for (const std::string& rule : order) {
    std::vector<NotWorse>& family = of_rule[rule];
    correct(family);
    std::vector<std::string> line = {rule};
    bool everywhere = true;
    for (const NotWorse& one : family) {
      if (lines.empty())
        header.push_back(fmt::format("{} (T = {})", one.condition, fmt::join(chosen[one.condition], ", ")));
      line.push_back(fmt::format("{:+.1f}{}", 100 * one.upper_share(), one.shown ? " ✓" : ""));
      everywhere = everywhere && one.shown;
      report.summary["not_worse"].push_back({{"rule", one.rule},
                                             {"condition", one.condition},
                                             {"fixed_mse", one.reference},
                                             {"difference", one.difference.mean},
                                             {"low", one.difference.low},
                                             {"high", one.difference.high},
                                             {"p", one.p},
                                             {"holm_p", one.holm_p},
                                             {"shown", one.shown}});
    }
    line.emplace_back(everywhere ? "yes" : "no");
    lines.push_back(std::move(line));
  }
  header.emplace_back("everywhere");
  report.text += markdown_table(header, lines) + "\n";
}

void add_bound(Report& report, std::span<const AtStep> all) {
  report.text +=
      "## Never worse than not adapting by more than the bound\n\nA mixture's sum of squared errors "
      "over the stream exceeds that of the predictions in context (clamped to [0, 1]) by at most the bound, "
      "whatever the stream.\n\n";
  std::vector<std::vector<std::string>> lines;
  for (const AtStep& at : all)
    for (const char* rule : {"online mixture", "stacked and Gibbs, bounded"}) {
      const auto& online = at.of(rule);
      const auto& base = at.of("in context");
      const double excess = std::reduce(online.begin(), online.end()) - std::reduce(base.begin(), base.end());
      const double bound = online_mixture_bound(online.size());
      lines.push_back({rule, fmt::format("{}", at.c), fmt::format("{:+.3f}", excess), rounded_up(bound, 3),
                       excess <= bound ? "yes" : "no"});
      report.summary["bounded"].push_back({{"rule", rule}, {"c", at.c}, {"excess", excess}, {"bound", bound}});
    }
  report.text += markdown_table({"rule", "c", "sum of errors, minus in context", "bound", "holds"}, lines) + "\n";
}

void add_descent(Report& report, const DigitShiftRows& data, std::span<const AtStep> all) {
  report.text += fmt::format(
      "## True gradient descent\n\nThe published predictor, on {} of the same tasks: the weights "
      "themselves take the steps, K only chooses T.\n\n",
      data.descents.size());
  if (data.descents.empty()) return;
  std::vector<size_t> tasks;
  for (const DigitShiftRows::Descent& descent : data.descents) tasks.push_back(descent.task);
  std::vector<std::vector<std::string>> agreement, rules;
  for (size_t c = 0; c < all.size(); ++c) {
    const AtStep& at = all[c];
    for (const size_t t : {size_t{1}, size_t{8}, size_t{30}}) {
      if (t >= data.descents[0].answers[c].size()) continue;
      std::vector<double> true_errors, linear_errors, gaps, moves;
      for (const DigitShiftRows::Descent& descent : data.descents) {
        const StepTask& task = data.tasks[descent.task];
        const double truly = descent.answers[c][t], linearised = task.prediction(at.c, static_cast<double>(t));
        true_errors.push_back(std::pow(truly - task.target, 2));
        linear_errors.push_back(std::pow(linearised - task.target, 2));
        gaps.push_back(std::pow(truly - linearised, 2));
        moves.push_back(std::pow(linearised - task.base, 2));
      }
      const double gap = std::sqrt(mean(gaps)), moved = std::sqrt(mean(moves));
      agreement.push_back({fmt::format("{}", at.c), fmt::format("{}", t), mean_text(true_errors),
                           mean_text(linear_errors), fmt::format("{:.5f}", gap), fmt::format("{:.5f}", moved)});
      report.summary["descent"].push_back({{"c", at.c},
                                           {"steps", t},
                                           {"mse", mean(true_errors)},
                                           {"linearised_mse", mean(linear_errors)},
                                           {"rms_difference", gap},
                                           {"rms_correction", moved}});
    }
    std::vector<Method> methods;
    for (const auto& [rule, published] : published_errors) {
      const RuleResult& chosen = at.rules[at.index(rule)];
      std::vector<double> errors;
      for (const DigitShiftRows::Descent& descent : data.descents) {
        const auto t = static_cast<size_t>(chosen.steps[descent.task]);
        errors.push_back(std::pow(descent.answers[c].at(t) - data.tasks[descent.task].target, 2));
      }
      report.findings.push_back({fmt::format("c = {}: MSE, {}, true descent, {} tasks", at.c, rule, tasks.size()),
                                 mean_text(errors), fmt::format("{} ({})", published, source)});
      rules.push_back(
          {fmt::format("{}", at.c), std::string(rule), mean_text(errors), mean_text(pick(at.of(rule), tasks))});
      methods.push_back({std::string(rule), std::move(errors)});
    }
    const std::vector<Comparison> pairs = compare_all(methods);
    report.summary["descent_differences"].push_back({{"c", at.c}, {"pairs", to_json(pairs)}});
    report.text += fmt::format("Differences between rules under true descent, c = {}:\n\n", at.c) +
                   markdown_table(pairs, 1, 5) + "\n";
  }
  report.text += "Errors of the rules, true and linearised, on these tasks:\n\n" +
                 markdown_table({"c", "rule", "MSE, true descent", "MSE, linearised"}, rules) +
                 "\nHow far the two predictions agree; root mean squares over the tasks:\n\n" +
                 markdown_table({"c", "T", "MSE, true descent", "MSE, linearised", "true minus linearised",
                                 "linearised correction"},
                                agreement) +
                 "\n";
}

}  // namespace

Report digit_shift_report(const Json& config, const Table& rows) {
  const DigitShiftRows data = DigitShiftRows::read(config, rows);
  const std::vector<AtStep> all = study(data, config.at("c").get<std::vector<double>>());
  const std::vector<Condition> by = conditions(data);
  Report report;
  report.summary["tasks"] = data.tasks.size();
  for (const AtStep& at : all) add_findings(report, at);
  add_curve(report, all);
  add_rules(report, all, by);
  add_differences(report, all);
  add_not_worse(report, all, by);
  add_bound(report, all);
  add_descent(report, data, all);
  add_chosen_steps(report, all);
  report.text +=
      "## What was fixed\n\nNot published, so chosen here: each pair ends with a line break, pairs stand in the order "
      "in "
      "which they were drawn, ties go to the smallest T, and K holds the value weights of the last layers "
      "(`config.json`), one block a key/value head. A task is clean or noisy with equal probability. The published "
      "step size was picked on 20 pilot tasks and not given: all three are shown.\n";
  return report;
}

}  // namespace hone::lab
