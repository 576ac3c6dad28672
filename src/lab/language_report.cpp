#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/rounding.h"
#include "lab/language_rows.h"

namespace hone::lab {
namespace {

// [SaG], The Pile, Qwen2.5, 50 neighbours: bits per byte, read off a plot.
struct Published {
  const char* size;
  double before, after;
};
constexpr Published published_models[] = {{"0.5B", 1.15, 1.07}, {"7B", .90, .87}, {"32B", .83, .82}};

std::string published_text() {
  std::string text;
  for (const Published& p : published_models)
    text += fmt::format("{}{} {:.2f} → {:.2f} ({:.1f} %)", text.empty() ? "" : ", ", p.size, p.before, p.after,
                        100 * (1 - p.after / p.before));
  return text + " ([SaG], Qwen2.5 on The Pile, 50 neighbours, read off a plot)";
}

// All windows of a corpus after so many neighbours, or under the mixture.
struct Point {
  std::string neighbours;
  std::vector<double> bits_per_byte;  // [windows]
  double total = 0;                   // bits per byte of all windows together
  decide::Interval gain;              // of 1 − bits/base bits
  double gain_median = 0;
  size_t worse = 0;
  double harm = 0;  // most bits lost in a window, 0 if none
  size_t broken = 0;
  double bound = 0;  // the largest of the mixture

  std::string title() const {
    return neighbours + (neighbours == "mixture" ? "" : neighbours == "1" ? " neighbour" : " neighbours");
  }
};

double sum(std::span<const double> values) { return std::reduce(values.begin(), values.end()); }

Point point(const Table& rows, std::span<const double> base) {
  Point p;
  p.neighbours = rows.text(0, "neighbours");
  const std::vector<double> bits = rows.numbers("bits"), bytes = rows.numbers("bytes");
  if (bits.size() != base.size())
    throw Error(ErrorCode::corrupt,
                fmt::format("{} windows after {} neighbours, {} after none", bits.size(), p.neighbours, base.size()));
  std::vector<double> gains;
  for (size_t w = 0; w < bits.size(); ++w) {
    p.bits_per_byte.push_back(bits[w] / bytes[w]);
    gains.push_back(1 - bits[w] / base[w]);
    const double harm = bits[w] - base[w];
    p.worse += harm > 0 ? 1 : 0;
    p.harm = std::max(p.harm, harm);
    if (p.neighbours != "mixture") continue;
    const double bound = rows.number(w, "bound_bits");
    p.broken += harm > bound + 1e-9 ? 1 : 0;
    p.bound = std::max(p.bound, bound);
  }
  p.total = sum(bits) / sum(bytes);
  p.gain = decide::bootstrap_mean(gains);
  p.gain_median = decide::median(gains);
  return p;
}

// In the order of the rows: the numbers of neighbours, 0 first, then the mixture.
std::vector<Point> points(const Table& rows) {
  const std::vector<double> base = rows.where("neighbours", "0").numbers("bits");
  std::vector<Point> all;
  for (const std::string& neighbours : rows.distinct("neighbours"))
    all.push_back(point(rows.where("neighbours", neighbours), base));
  if (all.size() < 2 || all.front().neighbours != "0" || all.back().neighbours != "mixture")
    throw Error(ErrorCode::corrupt, "a corpus' rows are not those of 0 neighbours first and of the mixture last");
  return all;
}

std::string gain_text(const Point& p) {
  return fmt::format("{:.2f} [{:.2f}, {:.2f}]", 100 * p.gain.mean, 100 * p.gain.low, 100 * p.gain.high);
}

Json to_json(const Point& p) {
  Json entry = {{"neighbours", p.neighbours},   {"bits_per_byte", p.total},
                {"gain", p.gain.mean},          {"gain_interval", {p.gain.low, p.gain.high}},
                {"gain_median", p.gain_median}, {"worse", p.worse},
                {"harm_bits_max", p.harm}};
  if (p.neighbours == "mixture") entry.update({{"bound_bits", p.bound}, {"broken", p.broken}});
  return entry;
}

// The corpus' table, with what it adds to findings and summary.
void add_points(Report& report, const std::string& corpus, const std::string& title, const Table& rows,
                std::span<const Point> all) {
  const Point &base = all.front(), &last = all[all.size() - 2], &mixture = all.back();
  const size_t windows = base.bits_per_byte.size();
  std::vector<std::vector<std::string>> lines;
  Json entries = Json::array();
  for (const Point& p : all) {
    lines.push_back({p.neighbours, fmt::format("{:.4f}", p.total), gain_text(p),
                     fmt::format("{:.2f}", 100 * p.gain_median), fmt::format("{} of {}", p.worse, windows),
                     fmt::format("{:.2f}", p.harm)});
    entries.push_back(to_json(p));
  }
  const double duplicates = sum(rows.where("neighbours", "0").numbers("near_duplicates"));
  const std::vector<double> found = rows.numbers("found");
  report.text += fmt::format(
      "### {}\n\n{} windows; {} near-duplicates among their nearest {}; at least {} neighbours "
      "were found.\n\n{}\n",
      title, windows, duplicates, last.title(), *std::ranges::min_element(found),
      markdown_table(
          {"neighbours", "bits per byte", "gain, % [95 %]", "median gain, %", "windows made worse", "most bits lost"},
          lines));
  report.findings.push_back(
      {fmt::format("bits per byte, {}, {} windows, base → {}", title, windows, last.title()),
       fmt::format("{:.3f} → {:.3f} (gain, %: {}; {} made worse)", base.total, last.total, gain_text(last), last.worse),
       published_text()});
  report.findings.push_back(
      {fmt::format("bits per byte, {}, mixture over base and every number of neighbours", title),
       fmt::format("{:.3f} (gain, %: {}; {} made worse, {} by more than its bound of {} bits)", mixture.total,
                   gain_text(mixture), mixture.worse, mixture.broken, rounded_up(mixture.bound, 2)),
       "–"});
  report.summary["corpora"].push_back({{"corpus", corpus},
                                       {"duplicates", rows.text(0, "duplicates")},
                                       {"windows", windows},
                                       {"near_duplicates", duplicates},
                                       {"points", entries}});
}

// Each number of neighbours and the mixture against the base, and the mixture against all neighbours.
std::vector<Comparison> differences(std::span<const Point> all, const std::string& corpus) {
  std::vector<Method> methods;
  std::vector<std::pair<size_t, size_t>> pairs;
  for (const Point& p : all) methods.push_back({fmt::format("{}, {}", corpus, p.title()), p.bits_per_byte});
  methods.front().name = corpus + ", base";
  for (size_t m = 1; m < methods.size(); ++m) pairs.emplace_back(m, 0);
  pairs.emplace_back(methods.size() - 1, methods.size() - 2);
  return compare(methods, pairs);
}

Series line(const std::string& name, std::span<const Point> all, int colour, bool gains) {
  Series series{name, {}, {}, {}, {}, false, colour};
  for (const Point& p : all.first(all.size() - 1)) {
    series.x.push_back(std::stod(p.neighbours));
    series.y.push_back(gains ? 100 * p.gain.mean : p.total);
    if (!gains) continue;
    series.low.push_back(100 * p.gain.low);
    series.high.push_back(100 * p.gain.high);
  }
  return series;
}

constexpr std::pair<const char*, const char*> variants[] = {{"removed", "near-duplicates removed"},
                                                            {"kept", "near-duplicates kept"}};

}  // namespace

Report language_report(const Json& config, const Table& rows) {
  Report report;
  Figure levels{"bits-per-byte", FigureKind::lines, "Bits per byte against neighbours",
                "neighbours",    "bits per byte",   {}};
  Figure gains{"gain", FigureKind::lines, "What the neighbours gain", "neighbours", "gain, %", {}};
  levels.caption =
      "All windows of a corpus together. Dashed: the published models, other sizes on other texts; only the ends of "
      "those lines were read off a plot.";
  gains.caption = "Mean over windows of 1 − bits/base bits, with paired 95 % intervals.";
  std::vector<Comparison> found;
  report.text = "## Every corpus\n\n";
  int colour = 0;
  for (const std::string& corpus : rows.distinct("corpus")) {
    for (const auto& [key, name] : variants) {
      const Table of_corpus = rows.where("corpus", corpus).where("duplicates", key);
      const std::vector<Point> all = points(of_corpus);
      const std::string title = fmt::format("{}, {}", corpus, name);
      add_points(report, corpus, title, of_corpus, all);
      levels.series.push_back(line(title, all, colour, false));
      gains.series.push_back(line(title, all, colour, true));
      ++colour;
      if (std::string_view(key) != "removed") continue;
      for (Comparison& comparison : differences(all, corpus)) found.push_back(std::move(comparison));
    }
  }
  correct(found);
  for (const Published& p : published_models)
    levels.series.push_back(
        {fmt::format("Qwen2.5 {}, The Pile [SaG]", p.size), {0, 50}, {p.before, p.after}, {}, {}, true, colour++});
  report.text +=
      "## Was a difference found?\n\nBits per byte, near-duplicates removed, windows resampled; Holm's "
      "correction goes over the whole table.\n\n" +
      markdown_table(found) + "\n";
  report.summary["differences"] = to_json(found);
  report.figures = {levels, gains};
  report.text += fmt::format(
      "## What was fixed\n\nThe published protocol: LoRA of rank {} on all linear layers from layer {} on, Adam with a "
      "learning rate of {}, one step for each neighbour, most similar first, chunks of at most {} tokens; neighbours "
      "are BM25's for the whole window, which is scored: as published, retrieval has read what is predicted. (`hone "
      "eval` also measures what follows a prefix that alone was read.) A file is either held out or learned from. A "
      "near-duplicate shares more than {} of the window's 13-grams. Windows are the same bytes for every model; bytes "
      "of a first token that nothing predicts are not counted. The mixture starts with half of its weight on the base, "
      "shares the rest evenly, moves the weights by fixed share behind every token, and keeps a floor of {} for the "
      "base; its bound holds for every text, its gain is no evidence for what it would be without such a "
      "retrieval.\n",
      config.at("rank").dump(), config.at("first_layer").dump(), config.at("learning_rate").dump(),
      config.at("chunk_tokens").dump(), config.at("duplicate_share").dump(), config.at("floor").dump());
  return report;
}

}  // namespace hone::lab
