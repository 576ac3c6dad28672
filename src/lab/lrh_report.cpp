#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/random.h"
#include "lab/lrh_rows.h"

namespace hone::lab {
namespace {

using Numbers = std::vector<double>;

std::string interval_text(const decide::Interval& interval, int digits = 2) {
  return fmt::format("{:.{}f} [{:.{}f}, {:.{}f}]", interval.mean, digits, interval.low, digits, interval.high, digits);
}

// Standard errors between measured and theory; 0 where nothing varies.
double z_of(const Numbers& errors, double theory) {
  const double error = standard_error(errors);
  return error > 0 ? (mean(errors) - theory) / error : 0;
}

// A method's errors along one axis of a part's grid, the other entries at their base.
struct Curve {
  Numbers at;                   // the axis' values, ascending
  std::vector<Numbers> errors;  // [points] of [draws]
  Numbers theory;               // [points]

  Numbers means() const {
    Numbers values;
    for (const Numbers& point : errors) values.push_back(mean(point));
    return values;
  }
};

Curve curve_of(const Table& rows, const Json& part, std::string_view method, const std::string& axis) {
  Table here = rows.where("method", method);
  for (const auto& [name, value] : part.at("base").items())
    if (name != axis)
      here = here.where(name, text(value.is_number_float() ? Cell(value.get<double>()) : Cell(value.get<int64_t>())));
  std::vector<std::string> values = here.distinct(axis);
  std::ranges::sort(values, {}, [](const std::string& value) { return std::stod(value); });
  Curve curve;
  for (const std::string& value : values) {
    const Table point = here.where(axis, value);
    curve.at.push_back(std::stod(value));
    curve.errors.push_back(point.numbers("error"));
    curve.theory.push_back(mean(point.numbers("theory")));
  }
  return curve;
}

double log_slope(const Numbers& x, const Numbers& y) {
  const auto n = static_cast<double>(x.size());
  double mean_x = 0, mean_y = 0, xy = 0, xx = 0;
  for (size_t i = 0; i < x.size(); ++i) mean_x += std::log(x[i]) / n, mean_y += std::log(y[i]) / n;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (std::log(x[i]) - mean_x) * (std::log(y[i]) - mean_y);
    xx += (std::log(x[i]) - mean_x) * (std::log(x[i]) - mean_x);
  }
  return xy / xx;
}

// The exponent of x in the mean error, least squares on logarithms, with its 95 % percentile bootstrap over draws.
decide::Interval exponent(const Curve& curve, const Numbers& x, uint64_t seed) {
  constexpr size_t resamples = 2000;
  RandomStream random(seed, "exponents");
  const size_t draws = curve.errors.at(0).size();
  for (const Numbers& point : curve.errors)
    if (point.size() != draws)
      throw Error(ErrorCode::corrupt, fmt::format("a setting has {} draws, another {}", point.size(), draws));
  Numbers slopes;
  for (size_t i = 0; i < resamples; ++i) {
    Numbers means(x.size());
    for (size_t draw = 0; draw < draws; ++draw) {
      const size_t taken = random.below(draws);
      for (size_t p = 0; p < x.size(); ++p) means[p] += curve.errors[p][taken] / static_cast<double>(draws);
    }
    slopes.push_back(log_slope(x, means));
  }
  std::ranges::sort(slopes);
  return {log_slope(x, curve.means()), slopes[resamples / 40], slopes[resamples - 1 - resamples / 40]};
}

Series measured(const std::string& name, const Numbers& x, const Curve& curve, int colour) {
  Series series{name, x, curve.means()};
  series.colour = colour;
  for (const Numbers& point : curve.errors) {
    const double error = 1.96 * standard_error(point);
    series.low.push_back(std::max(mean(point) - error, mean(point) / 100));
    series.high.push_back(mean(point) + error);
  }
  return series;
}

Series reference(const std::string& name, const Numbers& x, const Numbers& y, int colour) {
  Series series{name, x, y};
  series.dashed = true;
  series.colour = colour;
  return series;
}

void add_global(const Json& config, const Table& rows, Report& report) {
  const Json& part = config.at("global");
  const double d1 = part.at("base").at("d1");
  Figure figure{"global-error",
                FigureKind::lines,
                "One linear head for everything",
                "d2/d1, features per concept",
                "relative error",
                {}};
  figure.caption = "Mean over projections with 95 % intervals; isotropic concepts, unit signal, no noise.";
  int colour = 0;
  double largest = 0;
  std::vector<std::vector<std::string>> lines;
  Json cases = Json::array();
  for (const std::string& method : rows.distinct("method")) {
    const Curve curve = curve_of(rows, part, method, "d2");
    Numbers share = curve.at;
    for (double& value : share) value /= d1;
    for (size_t p = 0; p < share.size(); ++p) {
      const double z = z_of(curve.errors[p], curve.theory[p]);
      largest = std::max(largest, std::abs(z));
      lines.push_back({method, fmt::format("{}", curve.at[p]), fmt::format("{:.4f}", curve.theory[p]),
                       mean_text(curve.errors[p]), fmt::format("{:+.2f}", z)});
      cases.push_back({{"method", method},
                       {"d2", curve.at[p]},
                       {"closed_form", curve.theory[p]},
                       {"error", mean(curve.errors[p])},
                       {"standard_error", standard_error(curve.errors[p])}});
    }
    figure.series.push_back(measured(method, share, curve, colour));
    figure.series.push_back(reference("", share, curve.theory, colour++));
  }
  report.figures.push_back(figure);
  report.summary["global"] = {{"largest_z", largest}, {"cases", cases}};
  const Curve best = curve_of(rows, part, "best head", "d2");
  const auto quarter = std::ranges::find(best.at, d1 / 4) - best.at.begin();
  if (quarter < static_cast<std::ptrdiff_t>(best.at.size()))
    report.findings.push_back({"error of the best global head at d2/d1 = 1/4",
                               mean_text(best.errors[static_cast<size_t>(quarter)]), "1 − d2/d1 = .75 ([SaG] §3)"});
  report.findings.push_back({"global errors against their closed forms, largest |z|",
                             fmt::format("{:.2f} of {} comparisons", largest, lines.size()), "equal"});
  report.text += fmt::format(
                     "## Global\nd1 = {:g}. *Best head*: its error is computed from the projection; its mean over "
                     "projections is 1 − d2/d1. *Least squares* on {} examples a feature: (1 − d2/d1)(1 + d2/(n − d2 − "
                     "1)).\n\n",
                     d1, part.at("examples_per_feature").get<int>()) +
                 markdown_table({"head", "d2", "closed form", "measured", "z"}, lines) + "\n";
}

void add_shared(const Json& config, const Table& rows, Report& report) {
  const Json& part = config.at("shared");
  std::vector<std::vector<std::string>> lines;
  Json cases = Json::array();
  double largest = 0;
  for (const std::string axis : {"k", "s", "d2"}) {
    const Curve curve = curve_of(rows, part, "least squares", axis);
    for (size_t p = 0; p < curve.at.size(); ++p) {
      const double z = z_of(curve.errors[p], curve.theory[p]);
      largest = std::max(largest, std::abs(z));
      lines.push_back({fmt::format("{} = {}", axis, curve.at[p]), fmt::format("{:.4f}", curve.theory[p]),
                       mean_text(curve.errors[p]), fmt::format("{:+.2f}", z)});
      cases.push_back({{"axis", axis},
                       {"at", curve.at[p]},
                       {"closed_form", curve.theory[p]},
                       {"error", mean(curve.errors[p])},
                       {"standard_error", standard_error(curve.errors[p])}});
    }
  }
  report.summary["shared"] = {{"largest_z", largest}, {"cases", cases}};
  report.findings.push_back(
      {"neighbours that share a support: least squares on features against σ² s/(k − s − 1), largest |z|",
       fmt::format("{:.2f} of {} comparisons", largest, lines.size()),
       "at most of the order σ² s log(d1/s)/k ([SaG] §3): there is no logarithm to pay"});
  const Json& base = part.at("base");
  report.text +=
      fmt::format(
          "## Neighbours that share a support\nFeatures of concepts in s dimensions lie in s dimensions, "
          "whatever d1 and d2 ≥ s are, so least squares of least norm in feature space pays for s parameters: "
          "E = σ² s/(k − s − 1). One entry at a time, the others at s = {}, k = {}, d2 = {}, σ² = {}.\n\n",
          base.at("s").dump(), base.at("k").dump(), base.at("d2").dump(), base.at("noise").dump()) +
      markdown_table({"setting", "closed form", "measured", "z"}, lines) + "\n";
}

// What the rate σ² s log(d1/s)/k is a power of, along each axis.
struct Axis {
  std::string column, name;
  std::function<double(double value, double d1, double s)> x;
  double published;
};

Figure recovery_figure(const Json& part, const Table& rows, const Axis& axis) {
  const double d1 = part.at("base").at("d1"), s = part.at("base").at("s");
  Figure figure{
      "recovery-" + axis.column, FigureKind::lines, "Sparse recovery in concept space", axis.name, "error", {}};
  figure.log_x = figure.log_y = true;
  figure.caption =
      "Dashed: state evolution for the lasso, σ² s/(k − s − 1) for pursuit, and the rate σ² s log(d1/s)/k with "
      "constant 1.";
  Numbers x, rate;
  const Curve shape = curve_of(rows, part, "lasso", axis.column);
  for (const double value : shape.at) {
    const auto entry = [&](const std::string& column) {
      return column == axis.column ? value : part.at("base").at(column).get<double>();
    };
    x.push_back(axis.x(value, d1, s));
    rate.push_back(entry("noise") * entry("s") * std::log(entry("d1") / entry("s")) / entry("k"));
  }
  int colour = 0;
  for (const std::string method : {"lasso", "pursuit"}) {
    const Curve curve = curve_of(rows, part, method, axis.column);
    figure.series.push_back(measured(method, x, curve, colour));
    figure.series.push_back(reference("", x, curve.theory, colour++));
  }
  figure.series.push_back(reference("rate", x, rate, 7));
  return figure;
}

void add_recovery(const Json& config, const Table& rows, Report& report) {
  const Json& part = config.at("recovery");
  const double d1 = part.at("base").at("d1"), s = part.at("base").at("s"), k = part.at("base").at("k"),
               noise = part.at("base").at("noise");
  const std::vector<Axis> axes = {
      {"k", "k", [](double v, double, double) { return v; }, -1},
      {"s", "s log(d1/s), s varied", [](double v, double all, double) { return v * std::log(all / v); }, 1},
      {"d1", "log(d1/s), d1 varied", [](double v, double, double few) { return std::log(v / few); }, 1},
      {"noise", "σ²", [](double v, double, double) { return v; }, 1}};
  std::vector<std::vector<std::string>> slopes, lines;
  Json fitted = Json::array(), cases = Json::array();
  double largest = 0;
  size_t comparisons = 0;
  for (const Axis& axis : axes) {
    for (const std::string method : {"lasso", "pursuit"}) {
      const Curve curve = curve_of(rows, part, method, axis.column);
      Numbers x;
      for (const double value : curve.at) x.push_back(axis.x(value, d1, s));
      const decide::Interval slope = exponent(curve, x, config.at("seed"));
      const double theory = log_slope(x, curve.theory);
      slopes.push_back({method, axis.name, interval_text(slope), fmt::format("{:.2f}", theory),
                        fmt::format("{:+.0f}", axis.published)});
      fitted.push_back({{"method", method},
                        {"in", axis.name},
                        {"exponent", slope.mean},
                        {"exponent_ci", {slope.low, slope.high}},
                        {"theory", theory},
                        {"published", axis.published}});
      if (method == "lasso")
        report.findings.push_back({"lasso: exponent of " + axis.name,
                                   fmt::format("{}; finite size: {:.2f}", interval_text(slope), theory),
                                   fmt::format("{:+.0f} (σ² s log(d1/s)/k, [SaG] §3)", axis.published)});
      for (size_t p = 0; p < x.size(); ++p) {
        const double z = z_of(curve.errors[p], curve.theory[p]);
        if (method == "lasso") largest = std::max(largest, std::abs(z)), ++comparisons;
        lines.push_back({method, fmt::format("{} = {}", axis.column == "noise" ? "σ²" : axis.column, curve.at[p]),
                         fmt::format("{:.5f}", curve.theory[p]), mean_text(curve.errors[p], 5),
                         fmt::format("{:+.2f}", z)});
        cases.push_back({{"method", method},
                         {"axis", axis.column},
                         {"at", curve.at[p]},
                         {"theory", curve.theory[p]},
                         {"error", mean(curve.errors[p])},
                         {"standard_error", standard_error(curve.errors[p])}});
      }
    }
    if (axis.column != "noise") report.figures.push_back(recovery_figure(part, rows, axis));
  }
  report.summary["recovery"] = {{"exponents", fitted}, {"largest_z_lasso", largest}, {"cases", cases}};
  report.findings.push_back({"lasso against state evolution, largest |z|",
                             fmt::format("{:.2f} of {} comparisons", largest, comparisons),
                             "equal for k, d1 → ∞ (Bayati & Montanari 2012)"});
  report.text +=
      fmt::format(
          "## Sparse recovery\nAll d1 concepts vary, s of them matter, coefficients ±1/√s. *Lasso* at the threshold "
          "sqrt(2 log(d1/s)): about σ² s (2 log(d1/s) + 1)/k. *Pursuit* is told s; where coefficients stand out it "
          "finds "
          "them, and pays σ² s/(k − s − 1) without the logarithm. One entry at a time, the others at d1 = {:g}, s = "
          "{:g}, k = {:g}, σ² = {:g}. The finite-size column is the exponent that the closed form has on the same "
          "points.\n\n",
          d1, s, k, noise) +
      markdown_table({"method", "in", "exponent [95 %]", "finite size", "published"}, slopes) + "\n" +
      markdown_table({"method", "setting", "theory", "measured", "z"}, lines) + "\n";
}

// Every second draw from `first` on.
Numbers half(const Numbers& values, size_t first) {
  Numbers some;
  for (size_t i = first; i < values.size(); i += 2) some.push_back(values[i]);
  return some;
}

// One local head at one width and noise, at the k that every second draw chose, on the others.
struct LocalChoice {
  std::string k;
  double global = 0, local = 0, own_share = 0;
  decide::Interval gain;  // of the local head over the global one
};
LocalChoice choose_k(const Table& rows, const std::string& method, uint64_t seed) {
  const Table local = rows.where("method", method);
  const auto errors = [&](const std::string& k) { return local.where("k", k).numbers("error"); };
  const std::vector<std::string> ks = local.distinct("k");
  if (ks.empty()) throw Error(ErrorCode::corrupt, fmt::format("there are no rows of method {}", method));
  LocalChoice choice;
  choice.k = *std::ranges::min_element(ks, {}, [&](const std::string& k) { return mean(half(errors(k), 0)); });
  const Numbers global = half(rows.where("method", "global").numbers("error"), 1), rest = half(errors(choice.k), 1);
  if (global.size() != rest.size())
    throw Error(ErrorCode::corrupt,
                fmt::format("{} draws of the global head, {} of method {}", global.size(), rest.size(), method));
  Numbers gains;
  for (size_t i = 0; i < rest.size(); ++i) gains.push_back(global[i] - rest[i]);
  choice.global = mean(global);
  choice.local = mean(rest);
  choice.gain = decide::bootstrap_mean(gains, seed);
  choice.own_share = mean(local.where("k", choice.k).numbers("own_share"));
  return choice;
}

// Error against k at every width, for one noise.
Figure locality_figure(const Table& rows, const std::string& noise, Json& curves) {
  Figure figure{"locality-" + noise, FigureKind::lines, "A local head at growing neighbourhoods, σ² = " + noise,
                "k, neighbours",     "relative error",  {}};
  figure.log_x = figure.log_y = true;
  figure.caption =
      "Neighbours by distance in feature space, from which the head starts at the global one. Dashed: the best global "
      "head.";
  for (const std::string& width : rows.distinct("d2")) {
    const Table here = rows.where("d2", width), local = here.where("method", "local");
    const double global = mean(here.where("method", "global").numbers("error"));
    Series line{"d2 = " + width, {}, {}};
    line.colour = static_cast<int>(figure.series.size() / 2);
    for (const std::string& k : local.distinct("k")) {
      const Table at = local.where("k", k);
      line.x.push_back(std::stod(k));
      line.y.push_back(mean(at.numbers("error")));
      curves.push_back({{"noise", std::stod(noise)},
                        {"d2", std::stod(width)},
                        {"k", std::stod(k)},
                        {"error", line.y.back()},
                        {"standard_error", standard_error(at.numbers("error"))},
                        {"own_share", mean(at.numbers("own_share"))}});
    }
    figure.series.push_back(line);
    figure.series.push_back(reference("", {line.x.at(0), line.x.back()}, {global, global}, line.colour));
  }
  return figure;
}

void add_locality(const Json& config, const Table& rows, Report& report) {
  const Json& part = config.at("locality");
  const double d1 = part.at("d1");
  Figure by_width{
      "where-local-wins", FigureKind::lines, "Where local wins", "d2/d1, features per concept", "relative error", {}};
  by_width.log_y = true;
  by_width.caption = "Local heads at the k that the other half of the draws chose, against the best global head.";
  std::vector<std::vector<std::string>> lines;
  Json cases = Json::array(), curves = Json::array();
  int colour = 0;
  for (const std::string& noise : rows.distinct("noise")) {
    const Table noisy = rows.where("noise", noise);
    report.figures.push_back(locality_figure(noisy, noise, curves));
    Series global{"global", {}, {}};
    global.dashed = true;
    global.colour = 7;
    for (const std::string method : {"local", "plain"}) {
      std::string wins, loses;
      Series series{fmt::format("{}, σ² = {}", method == "local" ? "from the global head" : "plain", noise), {}, {}};
      series.colour = colour++;
      for (const std::string& width : noisy.distinct("d2")) {
        const LocalChoice choice = choose_k(noisy.where("d2", width), method, config.at("seed"));
        const double share = std::stod(width) / d1;
        std::string& list = choice.gain.low > 0 ? wins : loses;
        list += (list.empty() ? "" : ", ") + width;
        series.x.push_back(share);
        series.y.push_back(choice.local);
        if (method == "local") {
          global.x.push_back(share);
          global.y.push_back(choice.global);
        }
        lines.push_back({noise, method, width, fmt::format("{:.3f}", 1 - share), fmt::format("{:.4f}", choice.global),
                         choice.k, fmt::format("{:.4f}", choice.local), interval_text(choice.gain, 4),
                         fmt::format("{:.0f} %", 100 * choice.own_share)});
        cases.push_back({{"noise", std::stod(noise)},
                         {"method", method},
                         {"d2", std::stod(width)},
                         {"global", choice.global},
                         {"k", std::stod(choice.k)},
                         {"local", choice.local},
                         {"gain", choice.gain.mean},
                         {"gain_ci", {choice.gain.low, choice.gain.high}}});
      }
      by_width.series.push_back(series);
      report.findings.push_back(
          {fmt::format("{} beats the best global one, d1 = {:g}, σ² = {}",
                       method == "local" ? "a local head from the global one" : "plain local least squares", d1, noise),
           fmt::format("at d2 = {}; not found at {}", wins.empty() ? "none" : wins, loses.empty() ? "none" : loses),
           "most where d2 ≪ d1, less as the model grows ([SaG] §3)"});
    }
    if (noise == rows.distinct("noise").front()) by_width.series.push_back(global);
  }
  report.figures.push_back(by_width);
  report.summary["locality"] = {{"cases", cases}, {"curves", curves}};
  report.text +=
      fmt::format(
          "## Where local wins\n{} groups of {} points, each with its own s = {} of {:g} concepts, values ±{:g} + N(0, "
          "1); "
          "σ² as a share of the signal. The global head is the best there is, from the true moments; concepts are not "
          "quite isotropic here, so its error lies below 1 − d2/d1. *Local* is ridge regression of what the global "
          "head "
          "leaves of the k nearest points in feature space, *plain* least squares on them from nothing. k is chosen on "
          "every second draw and compared on the others.\n\n",
          part.at("groups").dump(), part.at("members").dump(), part.at("s").dump(), d1, part.at("mean").get<double>()) +
      markdown_table(
          {"σ²", "head", "d2", "1 − d2/d1", "global", "k", "local", "gain [95 %]", "neighbours of the own group"},
          lines) +
      "\n";
}

}  // namespace

Report lrh_report(const Json& config, const Table& rows) {
  Report report;
  add_global(config, rows.where("part", "global"), report);
  add_shared(config, rows.where("part", "shared"), report);
  add_recovery(config, rows.where("part", "recovery"), report);
  add_locality(config, rows.where("part", "locality"), report);
  return report;
}

}  // namespace hone::lab
