// sae-observations: [SaG]'s three observations about why a local head helps. Concepts come from a sparse autoencoder;
// O1: neighbourhoods are alike in features, reconstructions and codes; O2: a neighbourhood needs few concepts; O3: a
// local head on reconstructions finds what one on masked codes finds.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "hone/masks.h"
#include "hone/neighbours.h"
#include "lab/concept_spaces.h"
#include "lab/experiments.h"
#include "lab/image_answers.h"

namespace hone::lab {
namespace {

constexpr size_t queries_a_task = 25;
constexpr size_t probabilities_shown = 10;

// Who answers, as columns of rows.csv and as the page says it.
struct Answerer {
  const char* column;
  const char* title;
};
constexpr Answerer answerers[] = {
    {"global", "global head, features Ψ"},
    {"global_again", "global head, reconstructions Ψ̂"},
    {"global_concepts", "global head, codes Φ̂"},
    {"ttt", "TTT, Ψ"},
    {"ttt_again", "TTT, Ψ̂"},
    {"ttt_concepts", "TTT, all concepts of the neighbourhood"},
    {"learned", "TTT, learned mask of Φ̂"},
    {"of_query", "TTT, mask of the query's own concepts"},
};

// Mean cosine of a query with some points.
double mean_cosine(std::span<const float> query, ConstMatrixView points, std::span<const int64_t> ids) {
  const auto product = [](std::span<const float> a, std::span<const float> b) {
    double sum = 0;
    for (size_t j = 0; j < a.size(); ++j) sum += static_cast<double>(a[j]) * b[j];
    return sum;
  };
  double sum = 0;
  const double own = std::sqrt(product(query, query));
  for (const int64_t id : ids) {
    const std::span<const float> point = points.row(static_cast<size_t>(id));
    const double length = own * std::sqrt(product(point, point));
    if (length > 0) sum += product(query, point) / length;
  }
  return sum / static_cast<double>(ids.size());
}

double overlap(std::span<const int64_t> a, std::span<const int64_t> b) {
  std::vector<int64_t> x(a.begin(), a.end()), y(b.begin(), b.end()), both;
  std::ranges::sort(x);
  std::ranges::sort(y);
  std::ranges::set_intersection(x, y, std::back_inserter(both));
  return static_cast<double>(both.size()) / static_cast<double>(a.size());
}

// The largest probabilities of a row of logits, descending.
std::vector<double> largest_probabilities(std::span<const float> logits) {
  const double most = *std::ranges::max_element(logits);
  std::vector<double> p;
  double sum = 0;
  for (const float z : logits) {
    p.push_back(std::exp(z - most));
    sum += p.back();
  }
  for (double& value : p) value /= sum;
  std::ranges::sort(p, std::greater<>());
  p.resize(probabilities_shown);  // zeros where there are fewer classes
  return p;
}

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

SparseCodes rows_of(const SparseCodes& codes, size_t first, size_t count) {
  SparseCodes some(count, codes.width);
  std::copy_n(codes.counts.begin() + static_cast<std::ptrdiff_t>(first), count, some.counts.begin());
  const size_t from = first * codes.width;
  std::copy_n(codes.features.begin() + static_cast<std::ptrdiff_t>(from), some.features.size(), some.features.begin());
  std::copy_n(codes.values.begin() + static_cast<std::ptrdiff_t>(from), some.values.size(), some.values.begin());
  return some;
}

Neighbours nearest(const ConceptView& view, size_t k, const Watch& watch) {
  return NeighbourIndex::build(view.train, {.metric = Metric::cosine}, watch).search(view.test, k, watch);
}

// A space with the neighbours of all queries in its three views. Tasks run side by side and an index is for one thread.
struct Searched {
  ConceptSpace space;
  Neighbours features, again, concepts;

  Searched(ConceptSpace made, size_t k, const Watch& watch)
      : space(std::move(made)),
        features(nearest(space.features, k, watch)),
        again(nearest(space.again, k, watch)),
        concepts(nearest(space.concepts, k, watch)) {}
};

std::vector<Row> observe(const Searched& searched, const Json& settings, size_t first, size_t count,
                         const Watch& watch) {
  const ConceptSpace& space = searched.space;
  const Json& local = settings.at("local");
  const LocalTraining training{.steps = local.at("epochs"), .learning_rate = local.at("learning_rate")};
  const auto queries = [&](const ConceptView& view) { return view.test.view().row_range(first, count); };
  const Neighbours &own = searched.features, &again = searched.again, &concepts = searched.concepts;
  const NeighbourIds ids{std::span(own.ids).subspan(first * own.k, count * own.k), own.k};

  const auto global = [&](const ConceptView& view) { return view.head.logits(queries(view)); };
  // All heads learn from the neighbours in Ψ: what differs is what they see of them.
  const auto ttt = [&](const ConceptView& view) {
    return std::move(
        local_answers(view.head, view.train, space.train_labels, ids, queries(view), training, false, watch)
            .logits.back());
  };
  const SparseCodes codes = rows_of(space.test_codes, first, count);
  const auto masked = [&](Mask mask) {
    return masked_answers(space.concepts.head, space.train_codes, space.train_labels, ids, codes,
                          {.mask = mask,
                           .steps = settings.at("mask_steps"),
                           .learning_rate = training.learning_rate,
                           .mask_learning_rate = settings.at("mask_learning_rate"),
                           .sparsity = settings.at("sparsity")},
                          watch);
  };
  const Matrix again_logits = ttt(space.again);
  const MaskedAnswers learned = masked(Mask::learned), all = masked(Mask::none), of_query = masked(Mask::of_query);
  const std::vector<int> answers[] = {predictions(global(space.features)), predictions(global(space.again)),
                                      predictions(global(space.concepts)), predictions(ttt(space.features)),
                                      predictions(again_logits),           predictions(all.logits),
                                      predictions(learned.logits),         predictions(of_query.logits)};
  const std::string title = settings.at("title");
  std::vector<Row> rows;
  for (size_t q = 0; q < count; ++q) {
    const size_t i = first + q;
    Row row;
    row.emplace_back(std::in_place_type<std::string>, title);
    row.emplace_back(static_cast<int64_t>(space.test_labels[i]));
    for (const std::vector<int>& answer : answers) row.emplace_back(static_cast<int64_t>(answer[q]));
    row.emplace_back(static_cast<int64_t>(learned.active[q]));
    row.emplace_back(static_cast<int64_t>(learned.kept[q]));
    row.emplace_back(learned.own_accuracy[q]);
    row.emplace_back(all.own_accuracy[q]);
    const ConceptView& features = space.features;
    for (const Neighbours* found : {&own, &again, &concepts})
      row.emplace_back(mean_cosine(features.test.row(i), features.train, found->ids_of(i)));
    row.emplace_back(mean_cosine(space.again.test.row(i), space.again.train, again.ids_of(i)));
    row.emplace_back(mean_cosine(space.concepts.test.row(i), space.concepts.train, concepts.ids_of(i)));
    row.emplace_back(overlap(own.ids_of(i), again.ids_of(i)));
    row.emplace_back(overlap(own.ids_of(i), concepts.ids_of(i)));
    for (const Matrix* logits : {&again_logits, &learned.logits})
      for (const double p : largest_probabilities(logits->row(q))) row.emplace_back(p);
    row.emplace_back(space.evaluation.explained_variance);
    row.emplace_back(space.evaluation.dead_share);
    row.emplace_back(space.evaluation.l0);
    rows.push_back(std::move(row));
  }
  return rows;
}

double mean(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
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

class SaeObservations final : public Experiment {
 public:
  std::string_view name() const override { return "sae-observations"; }
  std::string_view about() const override {
    return "[SaG]: neighbourhoods in concept space, how few concepts they need, and what TTT finds.";
  }

  Json settings(Size size) const override {
    Json settings = concept_spaces_config(size);
    for (Json& space : settings["spaces"])
      space.update({{"mask_steps", 100}, {"mask_learning_rate", 0.05}, {"sparsity", 0.2}});
    return settings;
  }
  std::vector<std::string> columns() const override {
    std::vector<std::string> columns = {"space", "truth"};
    for (const Answerer& answerer : answerers) columns.emplace_back(answerer.column);
    for (const char* column :
         {"active", "kept", "own_learned", "own_all", "cosine_features", "cosine_again", "cosine_concepts",
          "within_again", "within_concepts", "overlap_again", "overlap_concepts"})
      columns.emplace_back(column);
    for (const char* side : {"again", "learned"})
      for (size_t rank = 1; rank <= probabilities_shown; ++rank) columns.push_back(fmt::format("p{}_{}", rank, side));
    for (const char* column : {"explained_variance", "dead_share", "l0"}) columns.emplace_back(column);
    return columns;
  }
  size_t tasks(const Json& config) const override {
    size_t tasks = 0;
    for (const Json& space : config.at("spaces")) tasks += tasks_of(space);
    return tasks;
  }

  RunTask start(const Json& config, std::shared_ptr<const Model>, const Watch& at_start) const override {
    auto spaces = std::make_shared<std::vector<Searched>>();
    for (size_t s = 0; s < config.at("spaces").size(); ++s)
      spaces->emplace_back(make_concept_space(config, s, at_start),
                           config.at("spaces").at(s).at("local").at("neighbours").get<size_t>(), at_start);
    return [config, spaces](size_t task, const Watch& watch) {
      size_t s = 0;
      for (; task >= tasks_of(config.at("spaces").at(s)); ++s) task -= tasks_of(config.at("spaces").at(s));
      const Json& settings = config.at("spaces").at(s);
      const size_t first = task * queries_a_task, queries = settings.at("queries");
      return observe(spaces->at(s), settings, first, std::min(queries_a_task, queries - first), watch);
    };
  }

  Report report(const Json& config, const Table& rows) const override {
    Report report;
    for (const Json& space : config.at("spaces"))
      add_space(report, space, rows.where("space", space.at("title").get<std::string>()));
    report.text +=
        "## What was fixed\nRows have length 1, as the autoencoder sees them; neighbours are nearest by cosine. Every "
        "local head learns from the neighbours in Ψ by the same protocol; global heads are fitted alike (L-BFGS). The "
        "sparsity penalty is 0.2 times the share of a neighbourhood's concepts that the mask keeps; how the paper "
        "scales it, its steps and its learning rate are not published and are ours. Published figures are of ImageNet "
        "with CLIP: beside ours, not comparable with them.\n";
    return report;
  }

 private:
  static size_t tasks_of(const Json& space) {
    return (space.at("queries").get<size_t>() + queries_a_task - 1) / queries_a_task;
  }

  static std::string share_text(const Table& rows, std::string_view a, std::string_view b) {
    size_t same = 0;
    for (size_t i = 0; i < rows.rows(); ++i) same += rows.number(i, a) == rows.number(i, b);
    return accuracy_text(same, rows.rows());
  }

  static void add_space(Report& report, const Json& space, const Table& rows) {
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
    add("O3: TTT in Ψ̂ and in masked Φ̂ agree, %", share_text(rows, "ttt_again", "learned"),
        "about 89 ([SaG], ImageNet)");
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
    report.text +=
        fmt::format("## {}\n", title) + markdown_table({"", "accuracy, %", "published"}, accuracies) +
        fmt::format(
            "\nMean cosine of a query with its {} neighbours, measured in Ψ: {:.4f} if chosen in Ψ, {:.4f} in "
            "Ψ̂, {:.4f} in Φ̂; measured where they are chosen: {:.4f} in Ψ̂, {:.4f} in Φ̂. Of the neighbours in "
            "Ψ, {:.1f} % are neighbours in Ψ̂ and {:.1f} % in Φ̂.\n\n",
            space.at("local").at("neighbours").get<size_t>(), mean_of("cosine_features"), mean_of("cosine_again"),
            mean_of("cosine_concepts"), mean_of("within_again"), mean_of("within_concepts"),
            100 * mean_of("overlap_again"), 100 * mean_of("overlap_concepts"));
    add_figures(report, title, rows);
  }

  static void add_figures(Report& report, const std::string& title, const Table& rows) {
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
};

}  // namespace

std::unique_ptr<const Experiment> make_sae_observations() { return std::make_unique<SaeObservations>(); }

}  // namespace hone::lab
