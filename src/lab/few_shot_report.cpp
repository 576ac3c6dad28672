#include "lab/few_shot_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <numeric>

#include "base/rounding.h"
#include "lab/number_list.h"

namespace hone::lab {
namespace {

constexpr size_t fixed_steps = 8;
constexpr std::array<std::string_view, 5> shown_methods = {"in_context", "hone", "trusted", "map", "eight"};
constexpr std::array<std::string_view, 5> titles = {
    "in-context", "hone: mixture, floored", "Gibbs filter alone, linearised", "T_MAP, linearised", "T = 8, linearised"};

std::string column(std::string_view method, std::string_view what) { return fmt::format("{}_{}", method, what); }

std::vector<double> probabilities(const FewShotAnswer& answer, std::string_view method) {
  if (method == "map" || method == "eight") {
    const size_t t = method == "eight" ? fixed_steps : answer.report.decisions.front().posterior.best;
    return answer.prediction_along_steps(t);
  }
  std::vector<double> p;
  for (const ClassProbability& c : answer.classes)
    p.push_back(method == "in_context" ? c.in_context : method == "hone" ? c.answer : c.adapted);
  return p;
}

std::vector<double> as_doubles(std::span<const size_t> numbers) { return {numbers.begin(), numbers.end()}; }

// One method's answers.
struct Scores {
  std::vector<double> wrong, log_loss, squared, confidence;  // [queries]
};

Scores scores(const Table& rows, std::string_view method) {
  Scores s;
  s.confidence = rows.numbers(column(method, "confidence"));
  const std::vector<double> p = rows.numbers(column(method, "true")), squares = rows.numbers(column(method, "squared"));
  for (size_t i = 0; i < rows.rows(); ++i) {
    s.wrong.push_back(rows.text(i, column(method, "label")) == rows.text(i, "truth") ? 0 : 1);
    s.log_loss.push_back(-std::log(std::max(p[i], 1e-300)));
    s.squared.push_back(squares[i]);
  }
  return s;
}

// Expected calibration error over ten bins of equal width (Guo et al. 2017).
double calibration_error(const Scores& s) {
  constexpr size_t bins = 10;
  std::array<double, bins> gap{};
  for (size_t i = 0; i < s.wrong.size(); ++i) {
    const size_t bin = std::min(bins - 1, static_cast<size_t>(s.confidence[i] * bins));
    gap[bin] += (1 - s.wrong[i]) - s.confidence[i];
  }
  double sum = 0;
  for (const double g : gap) sum += std::abs(g);
  return sum / static_cast<double>(s.wrong.size());
}

std::vector<double> draw_means(const Table& rows, std::span<const double> values) {
  std::map<double, std::vector<double>> draws;
  const std::vector<double> draw = rows.numbers("task");
  for (size_t i = 0; i < values.size(); ++i) draws[draw[i]].push_back(values[i]);
  std::vector<double> means;
  std::ranges::transform(draws, std::back_inserter(means), [](const auto& named) { return mean(named.second); });
  return means;
}

constexpr std::array<std::pair<size_t, size_t>, 4> against_in_context = {{{1, 0}, {2, 0}, {3, 0}, {4, 0}}};

void add_comparisons(Report& report, std::string_view title, std::string_view key, std::span<const Method> compared,
                     double scale, int digits) {
  const std::vector<Comparison> found = compare(compared, against_in_context);
  report.text += fmt::format("### {}\n\n{}\n", title, markdown_table(found, scale, digits));
  report.summary["against_in_context"][std::string(key)] = to_json(found);
}

void add_draws(Report& report, const Table& rows, std::span<const Scores> all) {
  std::vector<std::vector<std::string>> lines;
  for (const std::string& draw : rows.distinct("task")) {
    const Table of_draw = rows.where("task", draw);
    const Scores base = scores(of_draw, shown_methods[0]), ours = scores(of_draw, shown_methods[1]);
    lines.push_back({draw, of_draw.text(0, "labels"), of_draw.text(0, "examples"), fmt::format("{}", of_draw.rows()),
                     fmt::format("{:.1f}", 100 * (1 - mean(base.wrong))),
                     fmt::format("{:.1f}", 100 * (1 - mean(ours.wrong))), fmt::format("{:.3f}", mean(base.log_loss)),
                     fmt::format("{:.3f}", mean(ours.log_loss)),
                     fmt::format("{:.2f}", mean(of_draw.numbers("adapted_weight")))});
  }
  report.text += "## Every draw\n\nExamples by their number in the file; accuracies in %, log-losses in nats.\n\n" +
                 markdown_table({"draw", "labels", "examples", "queries", "in-context", "hone", "in-context log-loss",
                                 "hone log-loss", "weight of adapted predictions"},
                                lines) +
                 "\n";
  report.summary["queries"] = all[0].wrong.size();
  report.summary["draws"] = lines.size();
}

}  // namespace

std::vector<std::string> few_shot_columns() {
  std::vector<std::string> columns = {"query", "truth"};
  for (const std::string_view method : shown_methods)
    for (const std::string_view what : {"label", "confidence", "true", "squared"})
      columns.push_back(column(method, what));
  for (const char* more : {"trusted_steps", "map_steps", "adapted_weight", "target_scale", "worst_bits", "bound_bits",
                           "labels", "examples"})
    columns.emplace_back(more);
  return columns;
}

Row few_shot_row(size_t query, const FewShotDraw& draw, const FewShotAnswer& answer) {
  const std::string& truth = draw.queries[query].label;
  Row row = {static_cast<int64_t>(draw.query_numbers[query]), truth};
  for (const std::string_view method : shown_methods) {
    const std::vector<double> p = probabilities(answer, method);
    const size_t top = static_cast<size_t>(std::ranges::max_element(p) - p.begin());
    double of_truth = 0, squared = 0;
    for (size_t c = 0; c < p.size(); ++c) {
      const bool is_true = answer.classes[c].label == truth;
      if (is_true) of_truth = p[c];
      squared += std::pow(p[c] - (is_true ? 1 : 0), 2);
    }
    row.insert(row.end(), {answer.classes[top].label, p[top], of_truth, squared});
  }
  double worst = -std::numeric_limits<double>::infinity();
  for (const ClassProbability& c : answer.classes) worst = std::max(worst, std::log2(c.in_context / c.answer));
  const FewShotReport& report = answer.report;
  std::string labels;
  for (const std::string& label : draw.labels) labels += (labels.empty() ? "" : ", ") + label;
  row.insert(row.end(),
             {report.steps, report.decisions.front().posterior.map_steps(), 1 - report.weights[0], report.target_scale,
              worst, report.bound_bits, labels, number_list(as_doubles(draw.example_numbers))});
  return row;
}

Report few_shot_report(const Table& rows) {
  Report report;
  std::vector<Scores> all;
  std::ranges::transform(shown_methods, std::back_inserter(all),
                         [&](const auto& method) { return scores(rows, method); });
  std::vector<std::vector<std::string>> lines;
  std::vector<Method> wrong, log_loss, wrong_of_draws, log_loss_of_draws;
  for (size_t m = 0; m < shown_methods.size(); ++m) {
    const Scores& s = all[m];
    const size_t n = s.wrong.size();
    const decide::Interval accuracy =
        share_interval(n - static_cast<size_t>(std::lround(std::reduce(s.wrong.begin(), s.wrong.end()))), n);
    const std::string name(titles[m]);
    const std::string accuracy_text =
        fmt::format("{:.1f} [{:.1f}, {:.1f}]", 100 * accuracy.mean, 100 * accuracy.low, 100 * accuracy.high);
    lines.push_back({name, accuracy_text, mean_text(s.log_loss, 3), mean_text(s.squared, 3),
                     fmt::format("{:.3f}", calibration_error(s)), fmt::format("{:.3f}", mean(s.confidence))});
    report.findings.push_back({fmt::format("accuracy, %; log-loss, nats: {}, {} queries", name, n),
                               fmt::format("{}; {}", accuracy_text, mean_text(s.log_loss, 3)), "–"});
    report.summary["methods"].push_back({{"method", name},
                                         {"accuracy", accuracy.mean},
                                         {"accuracy_interval", {accuracy.low, accuracy.high}},
                                         {"log_loss", mean(s.log_loss)},
                                         {"log_loss_standard_error", standard_error(s.log_loss)},
                                         {"squared_error", mean(s.squared)},
                                         {"calibration_error", calibration_error(s)}});
    wrong.push_back({name, s.wrong});
    log_loss.push_back({name, s.log_loss});
    wrong_of_draws.push_back({name, draw_means(rows, s.wrong)});
    log_loss_of_draws.push_back({name, draw_means(rows, s.log_loss)});
  }
  const std::vector<double> worst = rows.numbers("worst_bits"), bound = rows.numbers("bound_bits");
  size_t broken = 0;
  double largest = worst.front();
  for (size_t i = 0; i < worst.size(); ++i) {
    broken += worst[i] > bound[i] + 1e-9 ? 1 : 0;
    largest = std::max(largest, worst[i]);
  }
  report.findings.push_back({fmt::format("queries whose answer is worse than in-context by more than {} bits for "
                                         "some label",
                                         rounded_up(bound.front(), 2)),
                             fmt::format("{} of {} (the worst: {:.2f} bits)", broken, worst.size(), largest),
                             "0 (the floor's bound)"});
  report.summary["bound"] = {{"bits", bound.front()}, {"broken", broken}, {"worst_bits", largest}};
  report.text +=
      "## Scores\n\nSquared error: Σ over labels of (p − [true])². Calibration: expected calibration error over ten "
      "bins of the answer's own probability.\n\n" +
      markdown_table(
          {"method", "accuracy, % [95 %]", "log-loss, nats", "squared error", "calibration error", "mean confidence"},
          lines) +
      "\n## Against in-context\n\nQueries of one draw share their examples and are not independent: the tables with "
      "draws as what is resampled say what another draw of examples would change.\n\n";
  add_comparisons(report, "Errors, % of queries, queries resampled", "errors", wrong, 100, 2);
  add_comparisons(report, "Log-loss, nats, queries resampled", "log_loss", log_loss, 1, 4);
  add_comparisons(report, "Errors, % of queries, draws resampled", "errors_of_draws", wrong_of_draws, 100, 2);
  add_comparisons(report, "Log-loss, nats, draws resampled", "log_loss_of_draws", log_loss_of_draws, 1, 4);
  add_draws(report, rows, all);
  return report;
}

}  // namespace hone::lab
