#include "lab/figure.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/files.h"
#include "base/subprocess.h"

namespace hone::lab {
namespace {

namespace fs = std::filesystem;

// Okabe & Ito's palette, told apart by colour-blind readers too.
constexpr std::array<std::string_view, 8> palette = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                                     "#E69F00", "#56B4E9", "#7F7F7F", "#000000"};
constexpr std::array<int, 8> points = {7, 5, 9, 11, 13, 6, 4, 8};
constexpr size_t most_error_bars = 12;   // of a line
constexpr double group_width = 0.8;      // of a group of bars, categories being 1 apart
constexpr size_t level_characters = 90;  // of category labels side by side, before they have to be turned

// A gnuplot string: nothing in it is special.
std::string gnuplot_string(std::string_view text) {
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'') result += c;
    result += c == '\n' ? ' ' : c;
  }
  return result + "'";
}

void check(const Figure& figure) {
  for (const Series& series : figure.series) {
    const size_t size = series.y.size();
    const bool on_categories = figure.kind == FigureKind::bars && series.x.empty();
    if ((!on_categories && series.x.size() != size) || (on_categories && size > figure.categories.size()) ||
        (!series.low.empty() && series.low.size() != size) || series.low.size() != series.high.size())
      throw Error(ErrorCode::bad_input,
                  fmt::format("figure '{}', series '{}': {} values of y do not fit {} of x, {} and "
                              "{} ends of error bars, {} categories",
                              figure.name, series.name, size, series.x.size(), series.low.size(), series.high.size(),
                              figure.categories.size()));
  }
}

std::string number(double value) { return std::isfinite(value) ? fmt::format("{}", value) : "NaN"; }

// $data0 … : x y low high a line.
std::string data(const Figure& figure) {
  std::string text;
  const double groups = static_cast<double>(figure.series.size());
  for (size_t s = 0; s < figure.series.size(); ++s) {
    const Series& series = figure.series[s];
    const double offset = group_width * ((static_cast<double>(s) + 0.5) / groups - 0.5);
    text += fmt::format("$data{} << end\n", s);
    for (size_t i = 0; i < series.y.size(); ++i) {
      const double x = series.x.empty() ? static_cast<double>(i) + offset : series.x[i];
      const bool bars = !series.low.empty();
      text += fmt::format("{} {} {} {}\n", number(x), number(series.y[i]), number(bars ? series.low[i] : series.y[i]),
                          number(bars ? series.high[i] : series.y[i]));
    }
    text += "end\n";
  }
  return text;
}

// Adds the smallest and the largest of the values above 0; both are 0 as long as there is none.
void widen(std::pair<double, double>& extent, std::span<const double> values) {
  for (const double value : values) {
    if (!(value > 0) || !std::isfinite(value)) continue;
    extent.first = extent.first == 0 ? value : std::min(extent.first, value);
    extent.second = std::max(extent.second, value);
  }
}

std::pair<double, double> extent(const Figure& figure, char axis) {
  std::pair<double, double> result{0, 0};
  for (const Series& series : figure.series) {
    widen(result, axis == 'x' ? series.x : series.y);
    if (axis == 'x') continue;
    widen(result, series.low);
    widen(result, series.high);
  }
  return result;
}

// A logarithmic axis with marks at 1, 2 and 5 times powers of ten, or where those are many at the powers alone.
// gnuplot's own are powers, of which a narrow range holds one or none, and it widens y to the next power.
std::string log_axis(const Figure& figure, char axis) {
  constexpr double most_decades = 3, margin = 1.15;
  std::string text = fmt::format("set logscale {}\n", axis);
  auto [low, high] = extent(figure, axis);
  if (low == 0) return text;
  if (axis == 'y') {
    low /= margin;
    high *= margin;
    text += fmt::format("set yrange [{:.6g}:{:.6g}]\n", low, high);
  }
  std::string marks;
  const bool few = std::log10(high / low) <= most_decades;
  for (double power = std::pow(10, std::floor(std::log10(low))); power <= high; power *= 10)
    for (const double factor : {1, 2, 5})
      if (power * factor >= low && power * factor <= high && (few || factor == 1))
        marks += fmt::format("{}{:.6g}", marks.empty() ? "" : ", ", power * factor);
  return marks.empty() ? text : text + fmt::format("set {}tics ({})\n", axis, marks);
}

std::string axes(const Figure& figure) {
  std::string text = fmt::format("set title {}\nset xlabel {}\nset ylabel {}\n", gnuplot_string(figure.title),
                                 gnuplot_string(figure.x_label), gnuplot_string(figure.y_label));
  if (figure.log_x) text += log_axis(figure, 'x');
  if (figure.log_y) text += log_axis(figure, 'y');
  if (figure.kind == FigureKind::steps) text += "set yrange [0:1.02]\n";
  if (figure.kind != FigureKind::bars || figure.categories.empty()) return text;
  size_t characters = 0;
  for (const std::string& category : figure.categories) characters += category.size() + 2;
  text += fmt::format("set style fill solid 0.85 noborder\nset boxwidth {:.6g}\nset xrange [-0.6:{}]\nset xtics {}(",
                      0.92 * group_width / static_cast<double>(std::max<size_t>(figure.series.size(), 1)),
                      static_cast<double>(figure.categories.size()) - 0.4,
                      characters > level_characters ? "rotate by -30 " : "");
  for (size_t i = 0; i < figure.categories.size(); ++i)
    text += fmt::format("{}{} {}", i > 0 ? ", " : "", gnuplot_string(figure.categories[i]), i);
  text += ")\nset xtics scale 0\n";
  if (figure.log_y) return text;
  const bool below = std::any_of(figure.series.begin(), figure.series.end(), [](const Series& series) {
    const auto& lowest = series.low.empty() ? series.y : series.low;
    return std::any_of(lowest.begin(), lowest.end(), [](double y) { return y < 0; });
  });
  return text + (below ? "set xzeroaxis linetype -1 linecolor '#404040'\n" : "set yrange [0:*]\n");
}

std::string colour_of(const Figure& figure, size_t s) {
  const int chosen = figure.series[s].colour;
  return fmt::format("'{}'", palette[(chosen >= 0 ? static_cast<size_t>(chosen) : s) % palette.size()]);
}

// What shows low and high: bars on bars; beside many points of a line a band, since bars of several lines would cover
// each other.
std::string spread(const Figure& figure, size_t s) {
  if (figure.series[s].low.empty()) return "";
  if (figure.kind == FigureKind::lines && figure.series[s].y.size() > most_error_bars)
    return fmt::format(
        "$data{} using 1:3:4 with filledcurves fillstyle transparent solid 0.15 noborder fillcolor {} notitle", s,
        colour_of(figure, s));
  return fmt::format(
      "$data{} using 1:3:(0):($4-$3) with vectors heads size screen 0.005,90 linewidth 1 linecolor {} notitle", s,
      figure.kind == FigureKind::bars ? "'#202020'" : colour_of(figure, s));
}

std::string line(const Figure& figure, size_t s) {
  const Series& series = figure.series[s];
  const size_t colour = series.colour >= 0 ? static_cast<size_t>(series.colour) : s;
  std::string style = fmt::format("linespoints linewidth 2 pointtype {} pointsize 0.6", points[colour % points.size()]);
  if (figure.kind == FigureKind::bars) style = "boxes";
  if (figure.kind == FigureKind::steps) style = "steps linewidth 2";
  if (series.dashed)
    style = fmt::format("{} linewidth 2 dashtype 2", figure.kind == FigureKind::steps ? "steps" : "lines");
  return fmt::format("$data{} using 1:2 with {} linecolor {} {}", s, style, colour_of(figure, s),
                     series.name.empty() ? "notitle" : "title " + gnuplot_string(series.name));
}

std::string plot(const Figure& figure) {
  std::vector<std::string> behind, before;
  for (size_t s = 0; s < figure.series.size(); ++s) {
    (figure.kind == FigureKind::bars ? before : behind).push_back(spread(figure, s));
    (figure.kind == FigureKind::bars ? behind : before).push_back(line(figure, s));
  }
  std::string text;
  for (const auto* parts : {&behind, &before})
    for (const std::string& part : *parts)
      if (!part.empty()) text += (text.empty() ? "plot " : ", \\\n     ") + part;
  return text + "\n";
}

// Beside the drawing, or below it where long names would take half of its width.
std::string key_place(const Figure& figure) {
  constexpr size_t long_name = 30;
  const bool is_long =
      std::ranges::any_of(figure.series, [](const Series& series) { return series.name.size() > long_name; });
  return is_long ? "bottom center" : "right top";
}

}  // namespace

Series ecdf(std::string name, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  Series series{std::move(name), {}, {}};
  const double n = static_cast<double>(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    if (i == 0) {
      series.x.push_back(values[0]);
      series.y.push_back(0);
    }
    if (i + 1 < values.size() && values[i + 1] == values[i]) continue;
    series.x.push_back(values[i]);
    series.y.push_back(static_cast<double>(i + 1) / n);
  }
  return series;
}

fs::path write_script(const Figure& figure, const fs::path& folder) {
  check(figure);
  fs::path path = folder / (figure.name + ".gp");
  write_file_atomically(path,
                        "# Draws the figure beside this script: gnuplot SCRIPT\n"
                        "set encoding utf8\n"
                        "set terminal svg size 880,500 noenhanced background '#ffffff' font 'Helvetica,14'\n"
                        "set output ARG0[1:strlen(ARG0)-3].'.svg'\n"
                        "set key outside " +
                            key_place(figure) +
                            " vertical Left reverse samplen 2 spacing 1.15\n"
                            "set grid ytics linecolor '#dddddd' linetype 1 linewidth 1\n"
                            "set border 3 linecolor '#404040'\nset tics nomirror\nset autoscale xfix\n" +
                            axes(figure) + data(figure) + plot(figure));
  return path;
}

fs::path draw(const fs::path& script, const CancelToken& cancel) {
  fs::path drawing = fs::absolute(script).replace_extension(".svg");
  const int status = run_process({"gnuplot", fs::absolute(script).string()}, {.quiet = true}, cancel);
  if (status == 0) return fs::path(script).replace_extension(".svg");
  std::error_code ignored;
  fs::remove(drawing, ignored);
  if (status == 127)
    throw Error(ErrorCode::unsupported,
                "there is no gnuplot, so figures were not drawn; install it (Debian: gnuplot-nox) and run this again");
  throw Error(ErrorCode::io, fmt::format("gnuplot could not draw '{}' (status {}); run gnuplot on it to see why",
                                         script.string(), status));
}

}  // namespace hone::lab
