#include "lab/observation_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "hone/masks.h"
#include "lab/image_answers.h"

namespace hone::lab {
namespace {

constexpr size_t queries_a_task = 25;

size_t tasks_of(const Json& space) { return (space.at("queries").get<size_t>() + queries_a_task - 1) / queries_a_task; }

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

}  // namespace

SearchedSpace::SearchedSpace(ConceptSpace made, size_t k, const Watch& watch)
    : space(std::move(made)),
      features(nearest(space.features, k, watch)),
      again(nearest(space.again, k, watch)),
      concepts(nearest(space.concepts, k, watch)) {}

size_t observation_tasks(const Json& config) {
  size_t tasks = 0;
  for (const Json& space : config.at("spaces")) tasks += tasks_of(space);
  return tasks;
}

ObservedQueries observed_queries(const Json& config, size_t task) {
  const Json& spaces = config.at("spaces");
  size_t s = 0;
  for (; task >= tasks_of(spaces.at(s)); ++s) task -= tasks_of(spaces.at(s));
  const size_t first = task * queries_a_task, queries = spaces.at(s).at("queries");
  return {s, first, std::min(queries_a_task, queries - first)};
}

std::vector<std::string> observation_columns() {
  std::vector<std::string> columns = {"space", "truth"};
  for (const Answerer& answerer : answerers) columns.emplace_back(answerer.column);
  for (const char* column : {"active", "kept", "own_learned", "own_all", "cosine_features", "cosine_again",
                             "cosine_concepts", "within_again", "within_concepts", "overlap_again", "overlap_concepts"})
    columns.emplace_back(column);
  for (const char* side : {"again", "learned"})
    for (size_t rank = 1; rank <= probabilities_shown; ++rank) columns.push_back(fmt::format("p{}_{}", rank, side));
  for (const char* column : {"explained_variance", "dead_share", "l0"}) columns.emplace_back(column);
  return columns;
}

std::vector<Row> observation_rows(const SearchedSpace& searched, const Json& settings, size_t first, size_t count,
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

}  // namespace hone::lab
