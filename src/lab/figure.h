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
  bool dashed = false;            // a reference: a bound, a theory, a published value
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

// Whether a gnuplot that draws SVG is in PATH.
bool can_draw();
// Draws `figure` to `folder`/NAME.svg. Throws Error{io, unsupported} if gnuplot fails or is absent.
void draw(const Figure& figure, const std::filesystem::path& folder, const CancelToken& cancel = {});

}  // namespace hone::lab
