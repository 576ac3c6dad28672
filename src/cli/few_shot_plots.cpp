// The decision as SVG files, drawn by gnuplot.
#include "cli/few_shot_plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <system_error>
#include <utility>

#include "base/files.h"
#include "base/subprocess.h"
#include "cli/terminal_text.h"

namespace hone::cli {
namespace {

// Inside single quotes of gnuplot, where only a quote needs a twin.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? "''" : std::string(1, c);
  return result + "'";
}

std::string start_of(const std::filesystem::path& directory, std::string_view figure, std::string_view title) {
  return fmt::format(
      "reset\nset output {}\nset title {}\nset grid lc rgb '#dddddd'\nset border lc rgb '#888888'\n"
      "set key top right noenhanced\n",
      quoted((directory / fmt::format("{}.svg", figure)).string()), quoted(std::string(title)));
}

std::string residuals_plot(const FewShotReport& report, const std::filesystem::path& directory) {
  std::string script = start_of(directory, "residuals", "Leave-one-out residuals") + "$d << EOD\n";
  for (size_t i = 0; i < report.examples; ++i)
    for (size_t o = 0; o < report.outputs; ++o)
      script += fmt::format("{} {:.9g}\n", i + 1, report.residuals[i * report.outputs + o]);
  return script +
         "EOD\nset xlabel 'example'\nset ylabel 'residual'\nset xzeroaxis lt 1 lc rgb '#888888'\nset xrange [0:*]\n"
         "plot $d using 1:2 with impulses lw 6 lc rgb '#3366aa' notitle\n";
}

std::string spectrum_plot(const FewShotReport& report, const std::filesystem::path& directory) {
  std::string script = start_of(directory, "spectrum", "Spectrum, and where residuals and query lie") + "$d << EOD\n";
  const double smallest = report.eigenvalues.front() > 0 ? report.eigenvalues.front() * 1e-16 : 1e-16;
  const ModeShares shares = mode_shares(report);
  for (size_t i = 0; i < report.eigenvalues.size(); ++i)
    script += fmt::format("{} {:.9g} {:.9g} {:.9g}\n", i + 1, std::max(report.eigenvalues[i], smallest),
                          shares.residuals[i], shares.query[i]);
  return script +
         "EOD\nset xlabel 'mode'\nset ylabel 'eigenvalue'\nset logscale y\nset format y '%.0e'\nset y2tics\n"
         "set y2label 'share'\nset y2range [0:1]\nset xrange [0:*]\n"
         "plot $d using 1:2 with linespoints pt 7 lc rgb '#333333' title 'eigenvalue', "
         "$d using ($1-0.1):3 axes x1y2 with impulses lw 5 lc rgb '#cc6633' title 'residuals', "
         "$d using ($1+0.1):4 axes x1y2 with impulses lw 5 lc rgb '#3366aa' title 'query'\n";
}

std::string evidence_plot(const FewShotReport& report, const std::filesystem::path& directory) {
  const decide::StepPosterior& posterior = report.decisions.front().posterior;
  std::string script = start_of(directory, "evidence", "Evidence and posterior of the number of steps") + "$d << EOD\n";
  for (size_t t = 0; t < posterior.steps.size(); ++t)
    script += fmt::format("{} {:.9g} {:.9g} {:.9g}\n", posterior.steps[t], posterior.scores[t], posterior.weights[t],
                          report.weights[t]);
  return script +
         "EOD\nset xlabel 'T'\nset ylabel 'negative log-evidence an output'\nset y2tics\nset y2label 'weight'\n"
         "set y2range [0:*]\n"
         "plot $d using 1:2 with linespoints pt 7 ps 0.5 lc rgb '#333333' title 'evidence', "
         "$d using 1:3 axes x1y2 with impulses lw 4 lc rgb '#3366aa' title 'posterior', "
         "$d using 1:4 axes x1y2 with points pt 6 lc rgb '#cc6633' title 'weight in the answer'\n";
}

std::string filter_plot(const FewShotReport& report, const std::filesystem::path& directory) {
  const decide::StepDecision& decision = report.decisions.front();
  std::string script = start_of(directory, "filter", "How much of a mode is fitted") + "$d << EOD\n";
  for (size_t i = 0; i < report.eigenvalues.size(); ++i) {
    const double lambda = report.eigenvalues[i];
    if (lambda > 0)
      script += fmt::format("{:.9g} {:.9g} {:.9g} {:.9g}\n", lambda, lambda * decision.map.filter[i],
                            lambda * report.filter[i], lambda * decision.bayes.filter[i]);
  }
  if (report.eigenvalues.front() == 0) script += "1 0 0 0\n";
  return script +
         "EOD\nset xlabel 'eigenvalue'\nset ylabel 'fraction fitted'\nset logscale x\nset yrange [-0.02:1.02]\n"
         "set key top left\nplot $d using 1:2 with linespoints pt 7 lc rgb '#333333' title 'T MAP', "
         "$d using 1:3 with linespoints pt 7 lc rgb '#3366aa' title 'trusted steps', "
         "$d using 1:4 with linespoints pt 6 lc rgb '#cc6633' title 'Bayes filter of the fitted signal'\n";
}

std::string blocks_plot(const FewShotReport& report, const std::filesystem::path& directory) {
  std::string script = start_of(directory, "blocks", "Query-Aware scores (circles: adapting)");
  std::map<std::pair<MatrixKind, int>, size_t> columns;
  for (const BlockChoice& block : report.blocks) columns.try_emplace({block.id.matrix.kind, block.id.head});
  std::string ticks;
  for (size_t next = 0; auto& [column, place] : columns) {
    place = next++;
    ticks += fmt::format("{}'{}{}' {}", place > 0 ? ", " : "", name(column.first),
                         column.second < 0 ? "" : fmt::format(".h{}", column.second), place);
  }
  script += "$d << EOD\n";
  for (const auto& [id, trace, query_aware, chosen] : report.blocks)
    script += fmt::format("{} {} {:.9g} {}\n", columns.at({id.matrix.kind, id.head}), id.matrix.layer, query_aware,
                          chosen ? 1 : 0);
  return script + fmt::format(
                      "EOD\nunset grid\nset xtics rotate ({})\nset ytics 1\nset ylabel 'layer'\n"
                      "set xrange [-0.5:{}.5]\nset palette defined (0 '#f7f7f7', 1 '#08306b')\n"
                      "plot $d using 1:2:(0.5):(0.5):3 with boxxyerror fs solid lc palette notitle, "
                      "$d using 1:($4 > 0 ? $2 : 1/0) with points pt 6 lc rgb '#cc6633' notitle\n",
                      ticks, columns.size() - 1);
}

// The classes that are likeliest for some T, most first.
std::vector<size_t> likeliest_classes(const std::vector<std::vector<double>>& predictions, size_t most) {
  std::vector<double> largest(predictions.front().size());
  for (const std::vector<double>& p : predictions)
    for (size_t c = 0; c < p.size(); ++c) largest[c] = std::max(largest[c], p[c]);
  std::vector<size_t> order(largest.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater(), [&](size_t c) { return largest[c]; });
  order.resize(std::min(order.size(), most));
  return order;
}

std::string prediction_plot(const FewShotAnswer& answer, const std::filesystem::path& directory) {
  constexpr size_t most_curves = 6, title_width = 40;
  const std::vector<double>& steps = answer.report.decisions.front().posterior.steps;
  std::vector<std::vector<double>> predictions;
  for (size_t t = 0; t < steps.size(); ++t) predictions.push_back(answer.prediction_along_steps(t));
  const bool numbers = answer.classes.empty();
  std::string script = start_of(directory, "prediction", "What so many steps predict") + "$d << EOD\n";
  for (size_t t = 0; t < steps.size(); ++t)
    script += fmt::format("{} {:.9g}\n", steps[t], fmt::join(predictions[t], " "));
  script += fmt::format("EOD\nset key outside right noenhanced\nset xlabel 'T'\nset ylabel '{}'\n{}plot ",
                        numbers ? "prediction" : "probability", numbers ? "" : "set yrange [0:1]\n");
  bool first = true;
  for (const size_t c : likeliest_classes(predictions, most_curves))
    script +=
        fmt::format("{}$d using 1:{} with linespoints pt 7 ps 0.4 {}", std::exchange(first, false) ? "" : ", ", c + 2,
                    numbers ? "notitle" : "title " + quoted(one_line(answer.classes[c].label, title_width)));
  return script + "\n";
}

// Removed again, however its user ends.
class TemporaryScript {
 public:
  TemporaryScript(std::filesystem::path path, std::string_view script) : path_(std::move(path)) {
    write_file_atomically(path_, script);
  }
  ~TemporaryScript() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TemporaryScript(const TemporaryScript&) = delete;
  TemporaryScript& operator=(const TemporaryScript&) = delete;

  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace

void write_few_shot_plots(const FewShotAnswer& answer, const std::filesystem::path& directory,
                          const CancelToken& cancel) {
  make_folder(directory);
  const FewShotReport& report = answer.report;
  std::string script = "set terminal svg size 640,400 dynamic enhanced background rgb 'white'\n";
  for (const auto plot : {residuals_plot, spectrum_plot, evidence_plot, filter_plot, blocks_plot})
    script += plot(report, directory);
  script += prediction_plot(answer, directory);
  const TemporaryScript file(directory / ".plots.gnuplot", script);
  const int status = run_process({"gnuplot", file.path()}, {}, cancel);
  if (status == 127)
    throw Error(ErrorCode::not_found, "SVG files are drawn by gnuplot, which is not installed (Debian: gnuplot-nox)");
  if (status != 0)
    throw Error(ErrorCode::io, fmt::format("gnuplot could not draw into '{}' (status {})", directory.string(), status));
}

}  // namespace hone::cli
