#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lab/image_answers.h"
#include "lab/observation_rows.h"

namespace hone::lab {
namespace {

// Of [0, 1] values: the largest distance between two distribution functions.
double kolmogorov_distance(std::vector<double> a, std::vector<double> b) {
  std::ranges::sort(a);
  std::ranges::sort(b);
  double distance = 0;
  for (const std::vector<double>* side : {&a, &b})
    for (const double x : *side) {
      const auto share = [x](const std::vector<double>& values) {
        return static_cast<double>(std::ranges::upper_bound(values, x) - values.begin()) /
               static_cast<double>(values.size());
      };
      distance = std::max(distance, std::abs(share(a) - share(b)));
    }
  return distance;
}

struct Published {
  const char* column;
  const char* value;
};
constexpr Published published_accuracies[] = {{"global_concepts", "71.45 ± .21 ([SaG], ImageNet, CLIP)"},
                                              {"global_again", "71.26 ± .20 ([SaG], ImageNet, CLIP)"},
                                              {"learned", "72.64 ± .20 ([SaG], ImageNet, CLIP)"},
                                              {"ttt_again", "72.56 ± .19 ([SaG], ImageNet, CLIP)"},
                                              {"of_query", "71.51 ([SaG], ImageNet, CLIP)"}};

std::string published(std::string_view column) {
  for (const Published& one : published_accuracies)
    if (one.column == column) return one.value;
  return "–";
}

std::string share_text(const Table& rows, std::string_view a, std::string_view b) {
  size_t same = 0;
  for (size_t i = 0; i < rows.rows(); ++i) same += rows.number(i, a) == rows.number(i, b);
  return accuracy_text(same, rows.rows());
}

void add_figures(Report& report, const std::string& title, const Table& rows) {
  const size_t number = report.figures.size() / 3;
  Figure cosines{fmt::format("o1-{}", number),
                 FigureKind::steps,
                 fmt::format("O1, {}: cosine of a query with its neighbours", title),
                 "mean cosine, measured in Ψ",
                 "share of queries",
                 {}};
  for (const auto& [column, name] : {std::pair("cosine_features", "chosen in Ψ"), std::pair("cosine_again", "in Ψ̂"),
                                     std::pair("cosine_concepts", "in Φ̂")})
    cosines.series.push_back(ecdf(name, rows.numbers(column)));
  Figure concepts{fmt::format("o2-{}", number),
                  FigureKind::steps,
                  fmt::format("O2, {}: concepts of a neighbourhood", title),
                  "concepts",
                  "share of queries",
                  {}};
  concepts.series = {ecdf("kept by the mask", rows.numbers("kept")), ecdf("active", rows.numbers("active"))};
  Figure probabilities{fmt::format("o3-{}", number),
                       FigureKind::lines,
                       fmt::format("O3, {}: the largest probabilities", title),
                       "rank",
                       "mean probability",
                       {}};
  for (const auto& [side, name] : {std::pair("again", "TTT in Ψ̂"), std::pair("learned", "TTT in masked Φ̂")}) {
    Series line{name, {}, {}};
    for (size_t rank = 1; rank <= probabilities_shown; ++rank) {
      line.x.push_back(static_cast<double>(rank));
      line.y.push_back(mean(rows.numbers(fmt::format("p{}_{}", rank, side))));
    }
    probabilities.series.push_back(line);
  }
  for (Figure* figure : {&cosines, &concepts, &probabilities}) report.figures.push_back(std::move(*figure));
}

void add_space(Report& report, const Json& space, const Table& rows) {
  const std::string title = space.at("title");
  const auto mean_of = [&](std::string_view column) { return mean(rows.numbers(column)); };
  const auto add = [&](const std::string& quantity, const std::string& ours, const std::string& theirs = "–") {
    report.findings.push_back({fmt::format("{}: {}", title, quantity), ours, theirs});
  };
  add("explained variance", fmt::format("{:.4f}", mean_of("explained_variance")));
  add("dead features, %", fmt::format("{:.2f}", 100 * mean_of("dead_share")), "< 5 is called good ([SaG])");
  const double distance_again = kolmogorov_distance(rows.numbers("cosine_features"), rows.numbers("cosine_again")),
               distance_concepts =
                   kolmogorov_distance(rows.numbers("cosine_features"), rows.numbers("cosine_concepts"));
  add("O1: distance of the distributions of cosines, Ψ to Ψ̂ and to Φ̂ (Kolmogorov)",
      fmt::format("{:.3f}, {:.3f}", distance_again, distance_concepts), "nearly the same ([SaG], a plot)");
  add("O2: concepts kept of those active", fmt::format("{:.1f} of {:.1f}", mean_of("kept"), mean_of("active")),
      "about 40 of about 180 ([SaG], ImageNet)");
  add("O2: accuracy in the neighbourhood, learned mask and all concepts, %",
      fmt::format("{:.2f}, {:.2f}", 100 * mean_of("own_learned"), 100 * mean_of("own_all")), "kept ([SaG])");
  add("O3: TTT in Ψ̂ and in masked Φ̂ agree, %", share_text(rows, "ttt_again", "learned"), "about 89 ([SaG], ImageNet)");
  std::vector<std::vector<std::string>> accuracies;
  Json summary = {{"space", title}};
  for (const Answerer& answerer : answerers) {
    const std::string text = share_text(rows, answerer.column, "truth");
    accuracies.push_back({answerer.title, text, published(answerer.column)});
    size_t right = 0;
    for (size_t i = 0; i < rows.rows(); ++i) right += rows.number(i, answerer.column) == rows.number(i, "truth");
    summary["right"][answerer.column] = right;
  }
  summary.update({{"queries", rows.rows()},
                  {"explained_variance", mean_of("explained_variance")},
                  {"dead_share", mean_of("dead_share")},
                  {"l0", mean_of("l0")},
                  {"kept", mean_of("kept")},
                  {"active", mean_of("active")},
                  {"distance_again", distance_again},
                  {"distance_concepts", distance_concepts}});
  report.summary["spaces"].push_back(summary);
  report.text += fmt::format("## {}\n", title) + markdown_table({"", "accuracy, %", "published"}, accuracies) +
                 fmt::format(
                     "\nLocal heads on Ψ and Ψ̂ take {} steps, those on Φ̂, whatever their mask, {}.\n\nMean cosine of a "
                     "query with its {} neighbours, measured in Ψ: {:.4f} if chosen in Ψ, {:.4f} in "
                     "Ψ̂, {:.4f} in Φ̂; measured where they are chosen: {:.4f} in Ψ̂, {:.4f} in Φ̂. Of the neighbours in "
                     "Ψ, {:.1f} % are neighbours in Ψ̂ and {:.1f} % in Φ̂.\n\n",
                     space.at("local").at("epochs").get<size_t>(), space.at("mask_steps").get<size_t>(),
                     space.at("local").at("neighbours").get<size_t>(), mean_of("cosine_features"),
                     mean_of("cosine_again"), mean_of("cosine_concepts"), mean_of("within_again"),
                     mean_of("within_concepts"), 100 * mean_of("overlap_again"), 100 * mean_of("overlap_concepts"));
  add_figures(report, title, rows);
}

}  // namespace

Report observation_report(const Json& config, const Table& rows) {
  Report report;
  for (const Json& space : config.at("spaces"))
    add_space(report, space, rows.where("space", space.at("title").get<std::string>()));
  report.text +=
      "## What was fixed\nRows have length 1, as the autoencoder sees them; neighbours are nearest by cosine. Every "
      "local head learns from the neighbours in Ψ by full-batch Adam from its global head, for as many steps as its "
      "space says above; global heads are fitted alike (L-BFGS). The sparsity penalty is 0.2 times the share of a "
      "neighbourhood's concepts that the mask keeps; how the paper scales it, its steps and its learning rate are not "
      "published and are ours. Published figures are of ImageNet with CLIP: beside ours, not comparable with them.\n";
  return report;
}

}  // namespace hone::lab
