// The decision as bars and maps of characters.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "cli/few_shot_plots.h"
#include "cli/terminal_text.h"

namespace hone::cli {
namespace {

constexpr size_t bar_width = 16;
constexpr size_t most_rows = 12;

// `fraction` of bar_width characters, in eighths.
std::string bar(double fraction) {
  static constexpr std::string_view eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto units = static_cast<size_t>(std::lround(std::clamp(fraction, 0.0, 1.0) * bar_width * 8));
  std::string text;
  for (size_t i = 0; i < units / 8; ++i) text += "█";
  text += eighths[units % 8];
  return text + std::string(bar_width - units / 8 - (units % 8 > 0 ? 1 : 0), ' ');
}

// In place of numbers that are not negative, their shares of the sum.
void divide_by_sum(std::vector<double>& values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  for (double& value : values) value = sum > 0 ? value / sum : 0;
}

double largest_size(std::span<const double> values) {
  double largest = 0;
  for (const double v : values) largest = std::max(largest, std::abs(v));
  return largest > 0 ? largest : 1;
}

std::string residuals_drawing(const FewShotReport& report) {
  std::string text =
      fmt::format("leave-one-out residuals{}\n", report.outputs > 1 ? " (length over the outputs of an example)" : "");
  std::vector<double> sizes;
  for (size_t i = 0; i < report.examples; ++i) {
    double sum = 0;
    for (size_t o = 0; o < report.outputs; ++o) sum += std::pow(report.residuals[i * report.outputs + o], 2);
    sizes.push_back(report.outputs > 1 ? std::sqrt(sum) : report.residuals[i]);
  }
  const double largest = largest_size(sizes);
  for (size_t i = 0; i < std::min(sizes.size(), most_rows); ++i)
    text += fmt::format("  example {:3}  {:8.3f}  {}\n", i + 1, sizes[i], bar(std::abs(sizes[i]) / largest));
  if (sizes.size() > most_rows) text += fmt::format("  and {} more\n", sizes.size() - most_rows);
  return text;
}

std::string spectrum_drawing(const FewShotReport& report) {
  const decide::StepDecision& decision = report.decisions.front();
  const double top = report.eigenvalues.front() > 0 ? report.eigenvalues.front() : 1;
  const ModeShares shares = mode_shares(report);
  const size_t modes = report.eigenvalues.size();
  std::string text = "spectrum: share of the residuals and of the query along each mode, how much of it is fitted\n";
  text += fmt::format("  mode    λ/λ_max                    residuals  query  fitted  Bayes\n");
  for (size_t i = 0; i < std::min(modes, most_rows); ++i) {
    const double lambda = report.eigenvalues[i];
    text +=
        fmt::format("  {:4}  {:9.2e}  {}  {:8.2f}  {:5.2f}  {:6.2f}  {:5.2f}\n", i + 1, lambda / top, bar(lambda / top),
                    shares.residuals[i], shares.query[i], lambda * report.filter[i], lambda * decision.bayes.filter[i]);
  }
  if (modes > most_rows) text += fmt::format("  and {} more\n", modes - most_rows);
  return text;
}

// The answer's own class; in regression the number.
size_t answered(const FewShotAnswer& answer) {
  const auto at = std::ranges::find(answer.classes, answer.label, &ClassProbability::label);
  return at == answer.classes.end() ? 0 : static_cast<size_t>(at - answer.classes.begin());
}

std::string steps_drawing(const FewShotAnswer& answer) {
  constexpr size_t title_width = 40;
  const FewShotReport& report = answer.report;
  const decide::StepPosterior& posterior = report.decisions.front().posterior;
  const size_t size = posterior.steps.size(), stride = (size + most_rows - 1) / most_rows;
  const double largest = largest_size(posterior.weights);
  std::string text =
      fmt::format("steps: evidence (lower is better), posterior, leave-one-out bits, weight in the answer, {}\n",
                  answer.classes.empty() ? "prediction" : fmt::format("p({})", one_line(answer.label, title_width)));
  text += "     T   evidence  posterior                 bits  weight  predicts\n";
  for (size_t t = 0; t < size; ++t) {
    if (t % stride != 0 && t != posterior.best) continue;
    text += fmt::format("  {:4g}{} {:9.3f}  {}  {:8.3f}  {:6.3f}  {:8.3f}\n", posterior.steps[t],
                        t == posterior.best ? "*" : " ", posterior.scores[t], bar(posterior.weights[t] / largest),
                        report.leave_one_out_losses[t], report.weights[t],
                        answer.prediction_along_steps(t)[answered(answer)]);
  }
  return text + "  * T_MAP\n";
}

std::string blocks_drawing(const FewShotReport& report) {
  static constexpr std::string_view shades[] = {"·", "░", "▒", "▓", "█"};
  using Column = std::pair<MatrixKind, int>;  // a matrix and its head
  double largest = 0;
  std::set<Column> columns;
  std::map<int, std::map<Column, std::string>, std::greater<>> layers;
  for (const BlockChoice& block : report.blocks) largest = std::max(largest, block.query_aware);
  for (const auto& [id, trace, query_aware, chosen] : report.blocks) {
    const double fraction = largest > 0 ? std::clamp(query_aware / largest, 0.0, 1.0) : 0;
    const std::string_view shade = shades[static_cast<size_t>(std::lround(fraction * 4))];
    const Column column{id.matrix.kind, id.head};
    columns.insert(column);
    layers[id.matrix.layer][column] = fmt::format("{}{}{}", chosen ? '[' : ' ', shade, chosen ? ']' : ' ');
  }
  std::string text = "blocks: Query-Aware scores from · (none) to █ (the largest), [adapting]\n     ";
  int before = -1;
  const auto gap = [&](MatrixKind kind) {
    return std::exchange(before, static_cast<int>(kind)) == static_cast<int>(kind) ? "" : "  ";
  };
  for (const auto& [kind, head] : columns) {
    const std::string title = head < 0 ? std::string(name(kind)) : fmt::format("{}{}", name(kind), head);
    text += fmt::format("{}{:>4}", gap(kind), title);
  }
  text += '\n';
  for (const auto& [layer, cells] : layers) {
    text += fmt::format("  L{:<2}", layer);
    before = -1;
    for (const Column& column : columns) {
      const auto cell = cells.find(column);
      text += fmt::format("{} {}", gap(column.first), cell == cells.end() ? "   " : cell->second);
    }
    text += '\n';
  }
  return text;
}

}  // namespace

ModeShares mode_shares(const FewShotReport& report) {
  const size_t modes = report.eigenvalues.size();
  ModeShares shares{std::vector<double>(modes), std::vector<double>(modes)};
  for (size_t i = 0; i < modes; ++i) {
    shares.residuals[i] = std::pow(report.decisions.front().residuals[i], 2);
    for (const decide::StepDecision& of_output : report.decisions) shares.query[i] += std::pow(of_output.query[i], 2);
  }
  divide_by_sum(shares.residuals);
  divide_by_sum(shares.query);
  return shares;
}

std::string few_shot_drawing(const FewShotAnswer& answer) {
  const FewShotReport& report = answer.report;
  return fmt::format("{}\n{}\n{}\n{}", residuals_drawing(report), spectrum_drawing(report), steps_drawing(answer),
                     blocks_drawing(report));
}

}  // namespace hone::cli
