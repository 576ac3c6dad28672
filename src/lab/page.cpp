#include "lab/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/files.h"

namespace hone::lab {
namespace {

namespace fs = std::filesystem;

std::string escaped(std::string_view cell) {
  std::string text;
  for (const char c : cell) {
    if (c == '|') text += '\\';
    text += c;
  }
  return text;
}

std::string line(const std::vector<std::string>& cells) {
  std::string text = "|";
  for (const std::string& cell : cells) text += " " + escaped(cell) + " |";
  return text + "\n";
}

std::string p_text(double p) { return p < 0.001 ? fmt::format("{:.1e}", p) : fmt::format("{:.3f}", p); }

std::string page(const Experiment& experiment, const Json& config, const Report& report,
                 const std::set<std::string>& drawn) {
  std::string text = fmt::format("# {}\n{}\n", experiment.name(), experiment.about());
  std::vector<std::vector<std::string>> findings;
  for (const Finding& finding : report.findings)
    findings.push_back({finding.quantity, finding.ours, finding.published});
  if (!findings.empty())
    text += "\n## Ours beside the published\n" + markdown_table({"", "ours, this run", "published"}, findings);
  text += "\n" + report.text;
  if (!report.figures.empty()) text += "\n## Figures\n";
  for (const Figure& figure : report.figures) {
    text += drawn.contains(figure.name)
                ? fmt::format("![{}](figures/{}.svg)\n", figure.title, figure.name)
                : fmt::format("({} was not drawn; `gnuplot figures/{}.gp` draws it)\n", figure.title, figure.name);
    text += figure.caption + "\n\n";
  }
  std::vector<std::vector<std::string>> settings;
  for (const auto& [key, value] : config.items()) settings.push_back({key, value.dump()});
  return text + "\n## Config\n" + markdown_table({"", ""}, settings);
}

// The names of the figures that were drawn.
std::set<std::string> draw_all(const Report& report, const fs::path& folder, const Watch& watch,
                               std::vector<fs::path>& files, std::vector<std::string>& warnings) {
  std::set<std::string> drawn;
  if (report.figures.empty()) return drawn;
  const fs::path figures = folder / "figures";
  make_folder(figures);
  for (const Figure& figure : report.figures) {
    watch.report("figures", drawn.size(), report.figures.size());
    files.push_back(write_script(figure, figures));
    try {
      files.push_back(draw(files.back(), watch.cancel));
      drawn.insert(figure.name);
    } catch (const Error& error) {
      if (error.code == ErrorCode::cancelled) throw;
      if (std::find(warnings.begin(), warnings.end(), error.message) == warnings.end())
        warnings.push_back(error.message);
    }
  }
  return drawn;
}

}  // namespace

std::string markdown_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  std::string text = line(header) + line(std::vector<std::string>(header.size(), "---"));
  for (const auto& row : rows) text += line(row);
  return text;
}

std::string markdown_table(std::span<const Comparison> comparisons, double scale, int digits) {
  std::vector<std::vector<std::string>> rows;
  for (const Comparison& c : comparisons)
    rows.push_back(
        {fmt::format("{} − {}", c.a, c.b), fmt::format("{:+.{}f}", scale * c.difference.mean, digits),
         fmt::format("[{:.{}f}, {:.{}f}]", scale * c.difference.low, digits, scale * c.difference.high, digits),
         p_text(c.p), p_text(c.holm_p), c.found ? "yes" : "no"});
  return markdown_table({"", "difference", "95 %", "p", "Holm p", "difference found"}, rows);
}

Json to_json(std::span<const Comparison> comparisons) {
  Json array = Json::array();
  for (const Comparison& c : comparisons)
    array.push_back({{"a", c.a},
                     {"b", c.b},
                     {"difference", c.difference.mean},
                     {"difference_ci", {c.difference.low, c.difference.high}},
                     {"p", c.p},
                     {"holm_p", c.holm_p},
                     {"found", c.found}});
  return array;
}

std::string mean_text(std::span<const double> values, int digits) {
  const double error = standard_error(values);
  double sum = 0;
  for (const double value : values) sum += value;
  return fmt::format("{:.{}f} ± {:.{}f}", sum / static_cast<double>(values.size()), digits, error, digits);
}

void write_report(const Experiment& experiment, const Json& config, const Report& report, const fs::path& folder,
                  const Watch& watch, std::vector<fs::path>& files, std::vector<std::string>& warnings) {
  const Json summary = {{"config", config}, {"results", report.summary}};
  write_file_atomically(folder / "summary.json", summary.dump(2) + '\n');
  files.push_back(folder / "summary.json");
  const std::set<std::string> drawn = draw_all(report, folder, watch, files, warnings);
  write_file_atomically(folder / "report.md", page(experiment, config, report, drawn));
  files.push_back(folder / "report.md");
}

}  // namespace hone::lab
