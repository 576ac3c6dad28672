// Figures: lines with error bars, grouped bars, and step functions (ECDF), drawn as SVG by gnuplot.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "hone/base.h"

namespace hone::lab {

// One line, one group of bars, or one step function.
struct Series {
  std::string name;               // in the legend; empty: not there
  std::vector<double> x;          // [points]; of bars empty: point i stands at Figure::categories[i]
  std::vector<double> y;          // [points]
  std::vector<double> low = {};   // ends of the error bars [points], or empty
  std::vector<double> high = {};  //
  bool dashed = false;            // a reference without points: a bound, a theory, a published value
  int colour = -1;                // of the palette, 0 …; −1: the series' own place in the figure
};

enum class FigureKind { lines, bars, steps };

struct Figure {
  std::string name;  // of the file: figures/NAME.svg
  FigureKind kind = FigureKind::lines;
  std::string title;
  std::string x_label;  // with its unit
  std::string y_label;
  std::vector<Series> series;
  std::vector<std::string> categories = {};  // of bars: labels below the groups
  bool log_x = false;
  bool log_y = false;
  std::string caption = {};  // what to see in it; below the figure on the page
};

// The empirical distribution function of `values`: x ascending, y the share of values ≤ x. For FigureKind::steps.
Series ecdf(std::string name, std::vector<double> values);

// Writes `folder`/NAME.gp, a gnuplot script that holds the data and draws NAME.svg beside itself. Returns its path.
// Throws Error{io}, Error{bad_input} for a series whose parts differ in length.
std::filesystem::path write_script(const Figure& figure, const std::filesystem::path& folder);
// Draws a script of write_script(). Returns the SVG's path. Throws Error{unsupported} if there is no gnuplot, Error{io}
// if it fails, Error{cancelled}.
std::filesystem::path draw(const std::filesystem::path& script, const CancelToken& cancel = {});

}  // namespace hone::lab
