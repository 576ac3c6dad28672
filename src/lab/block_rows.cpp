#include "lab/block_rows.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <numeric>

#include "lab/number_list.h"

namespace hone::lab {
namespace {

std::string signed_mean(std::span<const double> values) {
  return fmt::format("{:+.5f} ± {:.5f}", std::reduce(values.begin(), values.end()) / static_cast<double>(values.size()),
                     standard_error(values));
}

// Errors of one c: [method][budget][task].
struct Errors {
  std::map<std::string, std::vector<std::vector<double>>> query, fit;
};

Errors read_errors(const Table& rows, size_t budgets) {
  Errors errors;
  for (size_t i = 0; i < rows.rows(); ++i)
    for (const auto& [column, to] : {std::pair("query_errors", &errors.query), std::pair("fit_errors", &errors.fit)}) {
      const std::vector<double> values = read_number_list(rows.text(i, column), column);
      if (values.size() != budgets)
        throw Error(ErrorCode::corrupt,
                    fmt::format("{} holds {} numbers for {} budgets", column, values.size(), budgets));
      auto& of_method = (*to)[rows.text(i, "method")];
      of_method.resize(budgets);
      for (size_t b = 0; b < budgets; ++b) of_method[b].push_back(values[b]);
    }
  return errors;
}

// One c, and what is measured there.
struct BlockSection {
  std::string c;
  std::string_view what;
  bool of_query;
  const std::map<std::string, std::vector<std::vector<double>>>& errors;  // [method][budget][task]
  const std::vector<size_t>& budgets;

  Json summary(std::string_view of) const { return {{"c", std::stod(c)}, {"of", of}}; }
  std::string_view name() const { return of_query ? "query" : "fit"; }
};

Method method_at(const BlockSection& section, std::string_view method, size_t budget) {
  return {fmt::format("{}, budget {}", method, section.budgets[budget]),
          section.errors.at(std::string(method))[budget]};
}

// Every method but Random against Random: table, figure and summary, and which differences were found.
void add_gains(Report& report, const BlockSection& section, std::span<const PublishedGain> published,
               std::string_view source) {
  Figure figure{fmt::format("{}_gain_c{}", section.name(), section.c),
                FigureKind::lines,
                fmt::format("Improvement over Random, {}, c = {}", section.what, section.c),
                "blocks",
                "improvement of the mean squared error",
                {}};
  figure.log_x = true;
  figure.caption = "Bars are ± one standard error over tasks.";
  std::vector<std::string> header = {fmt::format("{}, c = {}", section.what, section.c)};
  for (const size_t budget : section.budgets) header.push_back(fmt::format("{}", budget));
  std::vector<std::vector<std::string>> lines;
  std::vector<Method> methods;
  std::vector<std::pair<size_t, size_t>> pairs;
  for (const std::string_view method : block_methods()) {
    if (method == "Random") continue;
    Series series{std::string(method), {}, {}};
    std::vector<std::string> line = {std::string(method)};
    for (size_t b = 0; b < section.budgets.size(); ++b) {
      const Method random = method_at(section, "Random", b), own = method_at(section, method, b);
      if (own.values.size() != random.values.size())
        throw Error(ErrorCode::corrupt,
                    fmt::format("{} has {} tasks, Random {}", own.name, own.values.size(), random.values.size()));
      std::vector<double> gains;
      for (size_t i = 0; i < own.values.size(); ++i) gains.push_back(random.values[i] - own.values[i]);
      const double gain = mean(gains), error = standard_error(gains);
      line.push_back(signed_mean(gains));
      series.x.push_back(static_cast<double>(section.budgets[b]));
      series.y.push_back(gain);
      series.low.push_back(gain - error);
      series.high.push_back(gain + error);
      Json entry = section.summary(section.name());
      entry.update({{"method", method}, {"budget", section.budgets[b]}, {"gain", gain}, {"standard_error", error}});
      report.summary["blocks"].push_back(std::move(entry));
      for (const PublishedGain& gain_of : published)
        if (section.of_query && gain_of.method == method && b < gain_of.gains.size())
          report.findings.push_back(
              {fmt::format("c = {}: gain over Random, {}, budget {}", section.c, method, section.budgets[b]),
               signed_mean(gains), fmt::format("{:+.4f} ({})", gain_of.gains[b], source)});
      pairs.emplace_back(methods.size(), methods.size() + 1);
      methods.push_back(random);
      methods.push_back(own);
    }
    lines.push_back(std::move(line));
    figure.series.push_back(std::move(series));
  }
  const std::vector<Comparison> comparisons = compare(methods, pairs);
  report.figures.push_back(std::move(figure));
  Json differences = section.summary(section.name());
  differences["pairs"] = to_json(comparisons);
  report.summary["block_differences"].push_back(std::move(differences));
  report.text += markdown_table(header, lines) + "\n" +
                 fmt::format(
                     "Was a difference from Random found ({}, c = {})? 95 % paired bootstrap, p by flipping "
                     "signs, Holm's correction over this table.\n\n",
                     section.what, section.c) +
                 markdown_table(comparisons, 1, 5) + "\n";
}

// Methods against each other at every budget, one family.
void add_between(Report& report, const BlockSection& section) {
  std::vector<Method> methods;
  std::vector<std::pair<size_t, size_t>> pairs;
  for (size_t b = 0; b < section.budgets.size(); ++b) {
    const size_t first = methods.size();
    for (const std::string_view method : block_methods())
      if (method != "Random" && method != "All") methods.push_back(method_at(section, method, b));
    for (size_t i = first; i < methods.size(); ++i)
      for (size_t j = i + 1; j < methods.size(); ++j) pairs.emplace_back(i, j);
  }
  const std::vector<Comparison> between = compare(methods, pairs);
  Json differences = section.summary("query, between methods");
  differences["pairs"] = to_json(between);
  report.summary["block_differences"].push_back(std::move(differences));
  std::vector<std::vector<std::string>> found;
  for (const Comparison& one : between)
    if (one.found)
      found.push_back(
          {one.a, one.b,
           fmt::format("{:+.5f} [{:+.5f}, {:+.5f}]", one.difference.mean, one.difference.low, one.difference.high),
           fmt::format("{:.2g}", one.holm_p)});
  report.text += fmt::format(
      "Between the methods at the same budget, {} of {} differences of the query's error were "
      "found (Holm over all of them; the others are in summary.json):\n\n",
      found.size(), between.size());
  if (!found.empty())
    report.text += markdown_table({"first", "second", "first minus second", "Holm's p"}, found) + "\n";
}

}  // namespace

std::vector<std::string> block_columns() {
  return {"number",    "kind",         "c",      "method",       "target",    "in_context",
          "residuals", "query_kernel", "kernel", "query_errors", "fit_errors"};
}

Row kernel_row(size_t number, double target, const PromptKernels& kernels, std::span<const double> residuals,
               std::string kind) {
  const decide::BlockSum sum = decide::sum_blocks(kernels.blocks());
  return {static_cast<int64_t>(number),
          std::move(kind),
          std::string(),
          std::string(),
          target,
          kernels.answer,
          number_list(residuals),
          number_list(sum.query),
          number_list(sum.kernel.values),
          std::string(),
          std::string()};
}

std::vector<Row> block_rows(size_t number, double target, const PromptKernels& kernels,
                            std::span<const double> residuals, std::span<const int> layers, std::span<const double> c,
                            const BlockChoiceOptions& options) {
  std::vector<Row> rows;
  for (const double step : c) {
    BlockChoiceOptions with_step = options;
    with_step.c = step;
    for (const MethodErrors& choice : compare_block_methods(kernels, layers, residuals, target, with_step))
      rows.push_back({static_cast<int64_t>(number), std::string("blocks"), step, choice.method, target, kernels.answer,
                      std::string(), std::string(), std::string(), number_list(choice.query), number_list(choice.fit)});
  }
  return rows;
}

std::vector<StepTask> read_kernel_rows(const Table& all, std::string_view kind) {
  const Table rows = all.where("kind", kind);
  std::vector<StepTask> tasks;
  for (size_t i = 0; i < rows.rows(); ++i) {
    const auto list = [&](std::string_view column) { return read_number_list(rows.text(i, column), column); };
    std::vector<double> residuals = list("residuals"), query = list("query_kernel");
    const size_t n = residuals.size();
    decide::Matrix64 kernel(n, n);
    kernel.values = list("kernel");
    if (n == 0 || kernel.values.size() != n * n || query.size() != n)
      throw Error(ErrorCode::corrupt, fmt::format("kernel row {}: residuals, K and k_x do not fit", i + 1));
    tasks.emplace_back(std::move(kernel), query, std::move(residuals), rows.number(i, "in_context"),
                       rows.number(i, "target"));
  }
  return tasks;
}

void add_block_report(Report& report, const Json& config, const Table& rows, std::span<const PublishedGain> published,
                      std::string_view source) {
  const auto budgets = config.at("budgets").get<std::vector<size_t>>();
  const Table choices = rows.where("kind", "blocks");
  report.text +=
      "## Which blocks\n\nImprovement over Random (the mean of its draws): Random's squared error minus the "
      "method's, mean over tasks ± standard error; positive is better than Random. T steps, ρ = c/λ_max(K) "
      "of all candidates, linearised. A budget above the number of candidates takes them all. *Exact* is "
      "the exact criterion of the linear-Gaussian model, which chooses its own T up to that of the others with "
      "the blocks and takes λ* of the marginal likelihood for the noise, where Trace and Query-Aware take ‖r‖²/n, as "
      "fixed σ does: what sets them apart is both. *All* takes every block whatever the budget. *Exact*, *All* and "
      "*Last-layer* are ours.\n\n";
  for (const std::string& c : choices.distinct("c")) {
    const Errors errors = read_errors(choices.where("c", c), budgets.size());
    const BlockSection query{c, "the query's error", true, errors.query, budgets};
    add_gains(report, query, published, source);
    add_between(report, query);
    add_gains(report, {c, "the prompt's fit", false, errors.fit, budgets}, published, source);
  }
}

}  // namespace hone::lab
