#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "lab/gp_benchmark.h"

namespace hone::lab {
namespace {

using Numbers = std::vector<double>;

std::string interval_text(double value, double error, int digits = 3) {
  return fmt::format("{:.{}f} ± {:.{}f}", value, digits, error, digits);
}

// "T = 8", "not adapting".
std::string steps_name(double steps) { return steps == 0 ? "not adapting" : fmt::format("T = {}", steps); }

void add_identity(const Table& rows, Report& report) {
  std::vector<std::vector<std::string>> lines;
  Json cases = Json::array();
  double largest = 0;
  for (size_t i = 0; i < rows.rows(); ++i) {
    const double value = rows.number(i, "value"), error = rows.number(i, "error"), theory = rows.number(i, "theory");
    const double z = error > 0 ? (value - theory) / error : 0;
    largest = std::max(largest, std::abs(z));
    lines.push_back({rows.text(i, "setting"), rows.text(i, "steps"), fmt::format("{:.5g}", theory),
                     fmt::format("{:.5g} ± {:.2g}", value, error), fmt::format("{:+.2f}", z)});
    cases.push_back({{"snr", rows.number(i, "setting")},
                     {"steps", rows.number(i, "steps")},
                     {"closed_form", theory},
                     {"monte_carlo", value},
                     {"error", error}});
  }
  report.summary["identity"] = {{"largest_z", largest}, {"cases", cases}};
  report.findings.push_back({"Bayes gap: Σ a_i (q − q*)² against Monte Carlo, largest |z|",
                             fmt::format("{:.2f} of {} comparisons", largest, rows.rows()),
                             "equal ([DTV], Bayes gap)"});
  report.text +=
      "## The Bayes gap is what Monte Carlo finds\nOne kernel for each signal-to-noise ratio; T = 0 is the gap of not "
      "adapting.\n\n" +
      markdown_table({"SNR", "T", "closed form", "Monte Carlo", "z"}, lines) + "\n";
}

// Excess risks of one method at one signal-to-noise ratio, kernel by kernel.
struct Curve {
  Numbers values;  // measured
  Numbers theory;  // expected; for selectors the risk of not adapting
  Numbers steps;   // T, for selectors the mean one
};
using Curves = std::map<std::string, Curve>;  // by steps_name() or the selector's name

struct AtSnr {
  double snr = 0;
  double base = 0;  // mean excess risk of not adapting
  double unit = 0;  // variance of a residual, τ² + σ²
  Curves curves;
};

std::vector<AtSnr> by_snr(const Table& rows) {
  std::vector<AtSnr> all;
  for (const std::string& setting : rows.distinct("setting")) {
    const Table here = rows.where("setting", setting);
    AtSnr at;
    at.snr = here.number(0, "setting");
    at.unit = at.snr + 1;
    for (size_t i = 0; i < here.rows(); ++i) {
      const std::string& method = here.text(i, "method");
      Curve& curve = at.curves[method == "fixed" ? steps_name(here.number(i, "steps")) : method];
      curve.values.push_back(here.number(i, "value"));
      curve.theory.push_back(here.number(i, "theory"));
      curve.steps.push_back(here.number(i, "steps"));
    }
    at.base = mean(at.curves.at(steps_name(0)).theory);
    all.push_back(std::move(at));
  }
  return all;
}

// Mean over SNRs of a method's risk as a share of a residual's variance, a value a kernel; every second kernel from
// `first` on.
Numbers shares(const std::vector<AtSnr>& all, const std::string& name, size_t first) {
  const size_t kernels = all.front().curves.at(name).values.size();
  Numbers values;
  for (size_t kernel = first; kernel < kernels; kernel += 2) {
    double sum = 0;
    for (const AtSnr& at : all) sum += at.curves.at(name).values.at(kernel) / at.unit;
    values.push_back(sum / static_cast<double>(all.size()));
  }
  return values;
}

double best_of(const Numbers& grid, const auto& risk) {
  return *std::min_element(grid.begin(), grid.end(), [&](double a, double b) { return risk(a) < risk(b); });
}

void add_best_steps(const std::vector<AtSnr>& all, const Numbers& grid, Report& report) {
  Figure figure{"steps-by-snr",
                FigureKind::lines,
                "Excess risk against the number of steps",
                "T, steps of gradient descent",
                "excess risk, share of not adapting's",
                {}};
  figure.log_x = figure.log_y = true;
  figure.caption =
      "Mean over kernels, in closed form; one line a signal-to-noise ratio τ²/σ². Each has its minimum "
      "elsewhere; above 1 adapting costs more than it gives.";
  std::vector<std::vector<std::string>> lines;
  Json best_steps = Json::array();
  Numbers bests;
  for (const AtSnr& at : all) {
    const auto risk = [&](double t) { return mean(at.curves.at(steps_name(t)).theory) / at.base; };
    const double best = best_of(grid, risk);
    bests.push_back(best);
    Series line{fmt::format("SNR {}", at.snr), {}, {}};
    for (const double t : grid)
      if (t > 0) line.x.push_back(t), line.y.push_back(risk(t));
    figure.series.push_back(line);
    lines.push_back({fmt::format("{}", at.snr), fmt::format("{}", best), fmt::format("{:.3f}", risk(best))});
    best_steps.push_back({{"snr", at.snr}, {"steps", best}, {"relative_risk", risk(best)}});
    for (const double t : {8.0, 30.0})
      lines.back().push_back(at.curves.contains(steps_name(t)) ? fmt::format("{:.3f}", risk(t)) : "–");
  }
  report.figures.push_back(figure);
  report.text +=
      "## No fixed T is best at every signal-to-noise ratio\nExcess risk as a share of not adapting's, mean over "
      "kernels, in closed form.\n\n" +
      markdown_table({"SNR", "best T", "risk there", "T = 8", "T = 30"}, lines);

  // The best T of either end, each at the other end.
  const AtSnr &low = all.front(), &high = all.back();
  const std::string few = steps_name(bests.front()), many = steps_name(bests.back());
  std::vector<Comparison> ends;
  for (const AtSnr* at : {&low, &high}) {
    const std::vector<Method> methods = {{few, at->curves.at(few).theory}, {many, at->curves.at(many).theory}};
    for (Comparison& comparison : compare_all(methods)) {
      comparison.difference = {comparison.difference.mean / at->base, comparison.difference.low / at->base,
                               comparison.difference.high / at->base};
      comparison.a = fmt::format("SNR {}: {}", at->snr, comparison.a);
      ends.push_back(comparison);
    }
  }
  correct(ends);
  const bool crossed = bests.front() < bests.back() && ends[0].found && ends[1].found && ends[0].difference.mean < 0 &&
                       ends[1].difference.mean > 0;
  report.text += "\nThe best T of the lowest and of the highest SNR, compared at both (paired over kernels):\n\n" +
                 markdown_table(ends) + "\n";
  report.summary["best_steps"] = {{"by_snr", best_steps}, {"ends", to_json(ends)}, {"no_fixed_best", crossed}};
  report.findings.push_back({"best T at the lowest and the highest SNR",
                             fmt::format("{} and {}: {}", bests.front(), bests.back(),
                                         crossed ? "no fixed T is best at both" : "no difference found"),
                             "no fixed T is optimal across SNRs ([DTV], how far)"});
}

void add_selectors(const std::vector<AtSnr>& all, const Numbers& grid, uint64_t seed, Report& report) {
  const double best = best_of(grid, [&](double t) { return mean(shares(all, steps_name(t), 0)); });  // on even kernels
  const std::string best_name = fmt::format("best fixed T = {}", best);
  std::vector<std::pair<std::string, std::string>> names = {{steps_name(0), steps_name(0)}};
  for (const double t : {8.0, 30.0})
    if (t != best && std::find(grid.begin(), grid.end(), t) != grid.end())
      names.emplace_back(steps_name(t), steps_name(t));
  if (best > 0) names.emplace_back(best_name, steps_name(best));
  for (const std::string selector :
       {"evidence, fixed σ", "evidence, profiled σ", "Gibbs mixture", "fitted Bayes filter"})
    names.emplace_back(selector, selector);

  Figure figure{"selectors",
                FigureKind::lines,
                "Choosing T by evidence",
                "signal-to-noise ratio τ²/σ²",
                "excess risk / (τ² + σ²)",
                {}};
  figure.log_x = figure.log_y = true;
  figure.caption = "Mean ± standard error over kernels of the squared distance to the Bayes rule's prediction.";
  std::vector<Method> methods;
  std::vector<std::vector<std::string>> lines;
  Json risks = Json::array();
  for (const auto& [shown, name] : names) {
    methods.push_back({shown, shares(all, name, 1)});
    Series line{shown, {}, {}, {}, {}};
    for (const AtSnr& at : all) {
      const Numbers& values = at.curves.at(name).values;
      const double error = standard_error(values) / at.unit;
      line.x.push_back(at.snr);
      line.y.push_back(mean(values) / at.unit);
      line.low.push_back(line.y.back() - error);
      line.high.push_back(line.y.back() + error);
    }
    lines.push_back({shown, mean_text(methods.back().values)});
    risks.push_back({{"method", shown}, {"risk", mean(methods.back().values)}});
    for (const double y : line.y) lines.back().push_back(fmt::format("{:.4f}", y));
    figure.series.push_back(std::move(line));
  }
  report.figures.push_back(figure);
  std::vector<std::string> header = {"", "mean over SNRs, odd kernels"};
  for (const AtSnr& at : all) header.push_back(fmt::format("SNR {}", at.snr));
  const std::vector<Comparison> comparisons = compare_all(methods, seed);
  report.text +=
      fmt::format(
          "## Choosing T for each prompt\nExcess risk as a share of a residual's variance, τ² + σ². The best fixed T, "
          "{}, was chosen on the even kernels; the first column and the comparisons are of the odd ones.\n\n",
          best) +
      markdown_table(header, lines) + "\n" + markdown_table(comparisons) + "\n";
  for (const Comparison& c : comparisons)
    if (c.a == best_name)
      report.findings.push_back(
          {fmt::format("{} − {}: excess risk over τ² + σ², mean over SNRs", c.a, c.b),
           fmt::format("{:+.4f} [{:.4f}, {:.4f}], Holm p {:.2g}: difference {}", c.difference.mean, c.difference.low,
                       c.difference.high, c.holm_p, c.found ? "found" : "not found"),
           "not published for this benchmark"});
  report.summary["selectors"] = {{"best_fixed_steps", best}, {"risks", risks}, {"comparisons", to_json(comparisons)}};
}

void add_james_stein(const Table& rows, Report& report) {
  Figure figure{"james-stein",
                FigureKind::lines,
                "T → ∞ at the prompt's points, against James–Stein",
                "signal ‖f‖² / (rank · σ²)",
                "squared error / (rank · σ²)",
                {}};
  figure.caption =
      "Points: measured, ± standard error. Dashed: theory. James–Stein lies below 1, the error of projecting "
      "onto range(K), for every f once the rank is 3 or more; at rank 2 the two are the same.";
  std::vector<std::vector<std::string>> lines;
  Json cases = Json::array();
  size_t better = 0, total = 0, unequal = 0;
  double largest = 0;
  int colour = 0;
  for (const std::string& rank : rows.distinct("rank")) {
    const Table here = rows.where("rank", rank);
    const Table shrunk = here.where("method", "James-Stein"), descent = here.where("method", "descent"),
                difference = here.where("method", "James-Stein minus descent");
    Series measured{fmt::format("James–Stein, rank {}", rank), shrunk.numbers("setting"), shrunk.numbers("value")};
    measured.colour = colour;
    for (size_t i = 0; i < shrunk.rows(); ++i) {
      measured.low.push_back(measured.y[i] - shrunk.number(i, "error"));
      measured.high.push_back(measured.y[i] + shrunk.number(i, "error"));
      const double gain = difference.number(i, "value"), error = difference.number(i, "error");
      largest = std::max(largest, std::abs(descent.number(i, "value") - 1) / descent.number(i, "error"));
      if (shrunk.number(i, "rank") >= 3) {
        ++total;
        better += gain < -1.96 * error;
      } else {
        unequal += std::abs(gain) > 1e-6;
      }
      lines.push_back({rank, shrunk.text(i, "setting"),
                       interval_text(descent.number(i, "value"), descent.number(i, "error")),
                       interval_text(shrunk.number(i, "value"), shrunk.number(i, "error")),
                       fmt::format("{:.3f}", shrunk.number(i, "theory")), interval_text(gain, error, 4)});
      cases.push_back({{"rank", shrunk.number(i, "rank")},
                       {"strength", shrunk.number(i, "setting")},
                       {"descent", descent.number(i, "value")},
                       {"james_stein", shrunk.number(i, "value")},
                       {"theory", shrunk.number(i, "theory")},
                       {"difference", gain},
                       {"difference_error", error}});
    }
    figure.series.push_back(measured);
    figure.series.push_back({"", measured.x, shrunk.numbers("theory"), {}, {}, true, colour++});
  }
  Series one{"T → ∞ (theory)", rows.where("method", "descent").numbers("setting"), {}, {}, {}, true, 7};
  std::sort(one.x.begin(), one.x.end());
  one.x = {one.x.at(0), one.x.back()};
  one.y = {1, 1};
  figure.series.push_back(one);
  report.figures.push_back(figure);
  report.summary["james_stein"] = {{"cases", cases}, {"better", better}, {"compared", total}};
  report.findings.push_back({"T → ∞ against James–Stein, rank ≥ 3: James–Stein better (95 %, paired)",
                             fmt::format("in {} of {} settings", better, total),
                             "dominated at rank ≥ 3 with known σ² ([DTV], how far)"});
  report.text +=
      fmt::format(
          "## T → ∞ is dominated by James–Stein at rank ≥ 3\nSquared error at the prompt's points over rank · σ², σ² "
          "known. Descent runs for {} steps; the largest |z| of its error against 1 is {:.2f}. {}\n\n",
          rows.where("method", "descent").text(0, "steps"), largest,
          unequal == 0 ? "Below rank 3 both give the same." : "Below rank 3 they differ, which they should not.") +
      markdown_table({"rank", "‖f‖²/(rank σ²)", "T → ∞", "James–Stein", "its theory", "difference"}, lines) + "\n";
}

void add_floor(const Table& rows, Report& report) {
  Figure figure{"subspace-floor",
                FigureKind::lines,
                "What a wrong subspace leaves",
                "T, steps of gradient descent",
                "squared error at the query / signal variance",
                {}};
  figure.log_x = true;
  figure.caption =
      "The subspace holds the given share of the signal's variance. Dashed: one minus that share, below which no "
      "T gets.";
  std::vector<std::vector<std::string>> lines;
  Json cases = Json::array();
  size_t above = 0, total = 0;
  int colour = 0;
  for (const std::string& share : rows.distinct("setting")) {
    const Table here = rows.where("setting", share);
    const double floor = 1 - here.number(0, "setting");
    std::pair<double, double> least[2];  // of the mean over kernels: value, error
    for (const bool all : {false, true}) {
      const Table method = here.where("method", all ? "all" : "subspace");
      Series line{fmt::format("share {}", share), {}, {}, {}, {}};
      least[all] = {std::numeric_limits<double>::infinity(), 0};
      for (const std::string& steps : method.distinct("steps")) {
        const Numbers values = method.where("steps", steps).numbers("value");
        const double error = standard_error(values);
        line.x.push_back(std::stod(steps));
        line.y.push_back(mean(values));
        line.low.push_back(line.y.back() - error);
        line.high.push_back(line.y.back() + error);
        least[all] = std::min(least[all], {mean(values), error});
      }
      if (all) {
        if (floor != 0.5) continue;
        line.name = "all features, half and half";
        line.colour = 7;
        figure.series.push_back(line);
        continue;
      }
      ++total;
      above += least[0].first >= floor - 2 * least[0].second;
      line.colour = colour;
      figure.series.push_back(line);
      figure.series.push_back({"", {line.x.at(0), line.x.back()}, {floor, floor}, {}, {}, true, colour++});
    }
    lines.push_back({share, fmt::format("{:.3f}", floor), interval_text(least[0].first, least[0].second),
                     interval_text(least[1].first, least[1].second)});
    cases.push_back({{"share", 1 - floor},
                     {"floor", floor},
                     {"least", least[0].first},
                     {"least_error", least[0].second},
                     {"least_all_features", least[1].first}});
  }
  report.figures.push_back(figure);
  report.summary["floor"] = {{"cases", cases}, {"not_below", above}, {"compared", total}};
  report.findings.push_back(
      {"least error over T in a subspace that lacks a share of the signal",
       fmt::format("not below the floor (within 2 standard errors) in {} of {} cases", above, total),
       "an error that no T removes ([DTV], which directions)"});
  report.text +=
      "## A wrong subspace leaves an error that no T removes\nSquared error at the query in units of the signal's "
      "variance, least over T, mean over kernels and queries.\n\n" +
      markdown_table(
          {"share of the signal in the subspace", "floor", "least in the subspace", "least with all features"}, lines);
}

}  // namespace

Report gp_report(const Json& config, const Table& rows) {
  Report report;
  const Numbers grid = config.at("steps").at("grid");
  const std::vector<AtSnr> all = by_snr(rows.where("part", "steps"));
  if (all.empty()) throw Error(ErrorCode::corrupt, "there are no rows of part steps");
  add_identity(rows.where("part", "identity"), report);
  add_best_steps(all, grid, report);
  add_selectors(all, grid, config.at("seed"), report);
  add_james_stein(rows.where("part", "james-stein"), report);
  add_floor(rows.where("part", "floor"), report);
  return report;
}

}  // namespace hone::lab
