// sae-observations: rows of a small made-up concept space against brute force, the report of hand-made rows, and what
// the config knows of its data.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <numeric>
#include <set>

#include "hone/data.h"
#include "hone/masks.h"
#include "lab/image_answers.h"
#include "lab/observation_rows.h"
#include "lab/text_vectors.h"
#include "tests/expect_error.h"
#include "tests/golden.h"
#include "tests/head_problem.h"
#include "tests/temporary_folder.h"

namespace hone::lab::sae_observations_test {
namespace {

constexpr size_t points = 60, queries = 30, inputs = 6, concepts = 24, classes = 3, k = 8;

SearchedSpace made_up_space() {
  const test::HeadProblem problem(points, inputs, classes, queries);
  const Sae sae = Sae::create({.inputs = inputs, .features = concepts, .active = 4}, 1);
  ConceptSpace space;
  space.train_labels = problem.y;
  for (size_t q = 0; q < queries; ++q) space.test_labels.push_back(static_cast<int>(q % classes));
  space.features = {sae.inputs(problem.x), sae.inputs(problem.queries), {}};
  space.train_codes = sae.encode(space.features.train);
  space.test_codes = sae.encode(space.features.test);
  space.again = {sae.decode(space.train_codes, sae.directions()), sae.decode(space.test_codes, sae.directions()), {}};
  space.concepts = {dense_codes(space.train_codes, concepts), dense_codes(space.test_codes, concepts), {}};
  for (ConceptView* view : {&space.features, &space.again, &space.concepts})
    view->head = fit_head(view->train, space.train_labels, classes, {.ridge = 1e-2});
  space.evaluation.explained_variance = 0.75;
  space.evaluation.dead_share = 0.125;
  space.evaluation.l0 = 4;
  return {std::move(space), k, {}};
}

Json made_up_settings() {
  return {{"title", "made up"},
          {"queries", queries},
          {"local", {{"neighbours", k}, {"learning_rate", 0.05}, {"epochs", 20}}},
          {"mask_steps", 40},
          {"mask_learning_rate", 0.05},
          {"sparsity", 0.2}};
}

double number(const Row& row, const std::string& column) {
  const std::vector<std::string> columns = observation_columns();
  const Cell& cell = row.at(static_cast<size_t>(std::ranges::find(columns, column) - columns.begin()));
  return std::holds_alternative<int64_t>(cell) ? static_cast<double>(std::get<int64_t>(cell)) : std::get<double>(cell);
}

double cosine(std::span<const float> a, std::span<const float> b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t j = 0; j < a.size(); ++j) {
    ab += static_cast<double>(a[j]) * b[j];
    aa += static_cast<double>(a[j]) * a[j];
    bb += static_cast<double>(b[j]) * b[j];
  }
  return aa * bb > 0 ? ab / std::sqrt(aa * bb) : 0;
}

// Mean of the k largest cosines: neighbours of equal distance do not matter.
double nearest_mean(const ConceptView& view, size_t query) {
  std::vector<double> cosines;
  for (size_t i = 0; i < points; ++i) cosines.push_back(cosine(view.test.row(query), view.train.row(i)));
  std::ranges::sort(cosines, std::greater<>());
  return std::reduce(cosines.begin(), cosines.begin() + k) / k;
}

TEST(TextsHash, KnowsTextsTheirOrderAndTheirEnds) {
  const std::vector<std::string> texts = {"ab", "c"}, same = texts, swapped = {"c", "ab"}, cut = {"a", "bc"};
  EXPECT_EQ(texts_hash(texts), texts_hash(same));
  EXPECT_NE(texts_hash(texts), texts_hash(swapped));
  EXPECT_NE(texts_hash(texts), texts_hash(cut));
}

// A variable of the environment, as it was before at the end.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name), was_set_(std::getenv(name) != nullptr) {
    if (was_set_) before_ = std::getenv(name);
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (was_set_)
      ::setenv(name_, before_.c_str(), 1);
    else
      ::unsetenv(name_);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  bool was_set_;
  std::string before_;
};

TEST(CachedVectors, AreThoseOfTheirPrecision) {
  const test::TemporaryFolder folder;
  const Variable cache("XDG_CACHE_HOME", folder.path().string());
  const std::vector<std::string> texts = {"the cafe", "playing, a token"};
  for (const Precision precision : {Precision::fp32, Precision::int8, Precision::fp32}) {
    const auto encoder = TextEncoder::open(test::golden_directory() / "models" / "bert", {.precision = precision});
    EXPECT_TRUE(test::same_bits(read_npy(cached_vectors(*encoder, texts, {})), encoder->embed(texts)));
  }
}

// Files of which only the hashes are looked at before the corpus is.
TEST(ConceptSpaces, AnotherCorpusIsRefused) {
  const test::TemporaryFolder folder;
  const Variable data("HONE_DATA", folder.path().string()), cache("XDG_CACHE_HOME", folder.path().string());
  folder.write("clinc150/data_full.json", "[");
  folder.write("hone/all-MiniLM-L6-v2/model.safetensors", "weights");
  for (const char* file : {"train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"})
    folder.write(std::string("mnist/") + file + "-ubyte.gz", file);
  folder.write("ttt_mnist/train_indices.txt.gz", "0");
  folder.write("ttt_mnist/mnist_scaled_model_seed1_hd192_ss1.0_ot-adam_lr0.0008bs100_ne50.safetensors", "net");
  folder.write("ttt_mnist/mnist_cnn_opt_params.json",
               R"({"192": {"size_scale": 1, "learning_rate": 0.1, "batch_size": 5, "num_epochs": 2}})");
  folder.write("ttt_mnist/lft_cnn_opt_params.json",
               R"({"192": {"num_neighbors": 5, "finetune_lr": 0.1, "finetune_epochs": 2}})");
  folder.write("ttt_mnist/majority_cnn_opt_params.json", R"({"192": {"num_neighbors": 3}})");
  EXPECT_FALSE(concept_spaces_config(Size::quick).at("spaces").at(0).contains("pieces_hash"));
  Json config;
  try {
    config = concept_spaces_config(Size::standard);
  } catch (const Error& error) {
    if (error.code != ErrorCode::not_found) throw;
    GTEST_SKIP() << error.message;
  }
  config["seed"] = 0;
  HONE_EXPECT_ERROR(make_concept_space(config, 0, {}), ErrorCode::corrupt, "data_full.json");  // nothing else differs
  config["spaces"][0]["pieces_hash"] = texts_hash({});
  HONE_EXPECT_ERROR(make_concept_space(config, 0, {}), ErrorCode::bad_input, "not those that this run began with");
}

TEST(ObservedQueries, AreAllOfThemOnce) {
  const Json config = {{"spaces", {{{"queries", 60}}, {{"queries", 25}}, {{"queries", 1}}}}};
  std::vector<std::vector<size_t>> seen(3);
  for (size_t task = 0; task < observation_tasks(config); ++task) {
    const ObservedQueries some = observed_queries(config, task);
    EXPECT_GT(some.count, 0U);
    EXPECT_LE(some.count, 25U);
    for (size_t i = 0; i < some.count; ++i) seen.at(some.space).push_back(some.first + i);
  }
  EXPECT_EQ(observation_tasks(config), 5U);
  for (size_t s = 0; s < 3; ++s) {
    std::vector<size_t> all(config.at("spaces").at(s).at("queries").get<size_t>());
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(seen[s], all) << s;
  }
}

TEST(ObservationRows, DoNotDependOnTheTask) {
  const SearchedSpace searched = made_up_space();
  const std::vector<Row> all = observation_rows(searched, made_up_settings(), 0, queries, {});
  std::vector<Row> parts;
  for (const auto& [first, count] : {std::pair(0, 25), std::pair(25, 4), std::pair(29, 1)})
    for (Row& row :
         observation_rows(searched, made_up_settings(), static_cast<size_t>(first), static_cast<size_t>(count), {}))
      parts.push_back(std::move(row));
  ASSERT_EQ(all.size(), queries);
  EXPECT_EQ(parts, all);
}

TEST(ObservationRows, SayWhatBruteForceFinds) {
  const SearchedSpace searched = made_up_space();
  const ConceptSpace& space = searched.space;
  const std::vector<Row> rows = observation_rows(searched, made_up_settings(), 0, queries, {});
  const std::pair<std::string, const ConceptView*> views[] = {
      {"global", &space.features}, {"global_again", &space.again}, {"global_concepts", &space.concepts}};
  for (size_t q = 0; q < queries; ++q) {
    const Row& row = rows[q];
    ASSERT_EQ(row.size(), observation_columns().size());
    EXPECT_EQ(std::get<std::string>(row[0]), "made up");
    EXPECT_EQ(number(row, "truth"), space.test_labels[q]);
    for (const auto& [column, view] : views)
      EXPECT_EQ(number(row, column), predictions(view->head.logits(view->test.view().row_range(q, 1)))[0]) << column;
    EXPECT_NEAR(number(row, "cosine_features"), nearest_mean(space.features, q), 1e-6);
    EXPECT_NEAR(number(row, "within_again"), nearest_mean(space.again, q), 1e-6);
    EXPECT_NEAR(number(row, "within_concepts"), nearest_mean(space.concepts, q), 1e-6);

    const auto own = searched.features.ids_of(q);
    const std::set<int64_t> near(own.begin(), own.end());
    for (const auto& [name, found] : {std::pair("again", &searched.again), std::pair("concepts", &searched.concepts)}) {
      double sum = 0, both = 0;
      for (const int64_t id : found->ids_of(q)) {
        sum += cosine(space.features.test.row(q), space.features.train.row(static_cast<size_t>(id)));
        both += static_cast<double>(near.count(id));
      }
      EXPECT_NEAR(number(row, std::string("cosine_") + name), sum / k, 1e-6) << name;
      EXPECT_NEAR(number(row, std::string("overlap_") + name), both / k, 1e-12) << name;
    }
    std::set<uint32_t> active;
    for (const int64_t id : own)
      for (const uint32_t concept_id : space.train_codes.row_features(static_cast<size_t>(id)))
        active.insert(concept_id);
    EXPECT_EQ(number(row, "active"), static_cast<double>(active.size()));
    EXPECT_LE(number(row, "kept"), number(row, "active"));
    for (const std::string side : {"_again", "_learned"}) {
      double sum = 0;
      for (size_t rank = 1; rank <= probabilities_shown; ++rank) {
        const double p = number(row, "p" + std::to_string(rank) + side);
        EXPECT_LE(p, rank == 1 ? 1 : number(row, "p" + std::to_string(rank - 1) + side));
        if (rank > classes) {
          EXPECT_EQ(p, 0);
        }
        sum += p;
      }
      EXPECT_NEAR(sum, 1, 1e-12);
    }
    EXPECT_EQ(number(row, "explained_variance"), 0.75);
    EXPECT_EQ(number(row, "dead_share"), 0.125);
    EXPECT_EQ(number(row, "l0"), 4);
  }
}

// Local heads that take no step are the global ones, of which each mask leaves its own concepts.
TEST(ObservationRows, WithoutStepsOnlyMasksDiffer) {
  const SearchedSpace searched = made_up_space();
  const ConceptSpace& space = searched.space;
  const LinearHead& head = space.concepts.head;
  Json settings = made_up_settings();
  settings["local"]["epochs"] = 0;
  settings["mask_steps"] = 0;
  const std::vector<Row> rows = observation_rows(searched, settings, 0, queries, {});
  for (size_t q = 0; q < queries; ++q) {
    const Row& row = rows[q];
    EXPECT_EQ(number(row, "ttt"), number(row, "global"));
    EXPECT_EQ(number(row, "ttt_again"), number(row, "global_again"));
    EXPECT_EQ(number(row, "of_query"), number(row, "global_concepts"));
    EXPECT_EQ(number(row, "kept"), number(row, "active"));
    EXPECT_EQ(number(row, "learned"), number(row, "ttt_concepts"));
    EXPECT_EQ(number(row, "own_learned"), number(row, "own_all"));

    Matrix near(k, concepts), query(1, concepts);
    double right = 0;
    std::set<uint32_t> active;
    for (size_t i = 0; i < k; ++i) {
      const auto id = static_cast<size_t>(searched.features.ids_of(q)[i]);
      std::ranges::copy(space.concepts.train.row(id), near.row(i).begin());
      right += predictions(head.logits(near.view().row_range(i, 1)))[0] == space.train_labels[id];
      const auto kept = space.train_codes.row_features(id);
      active.insert(kept.begin(), kept.end());
    }
    EXPECT_NEAR(number(row, "own_all"), right / k, 1e-12);
    for (const uint32_t concept_id : active) query.row(0)[concept_id] = space.concepts.test.row(q)[concept_id];
    EXPECT_EQ(number(row, "ttt_concepts"), predictions(head.logits(query))[0]);

    const Matrix logits = space.again.head.logits(space.again.test.view().row_range(q, 1));
    double sum = 0;
    for (const float z : logits.row(0)) sum += std::exp(static_cast<double>(z));
    EXPECT_NEAR(number(row, "p1_again"), std::exp(static_cast<double>(*std::ranges::max_element(logits.row(0)))) / sum,
                1e-6);
  }
}

// What is left is the bias: one answer for the query and for all of its neighbours.
TEST(ObservationRows, AHeavyPenaltyKeepsNoConcept) {
  const SearchedSpace searched = made_up_space();
  Json settings = made_up_settings();
  settings["sparsity"] = 1000;
  const std::vector<Row> rows = observation_rows(searched, settings, 0, queries, {}),
                         usual = observation_rows(searched, made_up_settings(), 0, queries, {});
  for (size_t q = 0; q < queries; ++q) {
    EXPECT_EQ(number(rows[q], "kept"), 0);
    EXPECT_EQ(number(rows[q], "active"), number(usual[q], "active"));
    EXPECT_EQ(number(rows[q], "ttt_concepts"), number(usual[q], "ttt_concepts"));
    EXPECT_EQ(number(rows[q], "of_query"), number(usual[q], "of_query"));
    double same = 0;
    for (const int64_t id : searched.features.ids_of(q))
      same += searched.space.train_labels[static_cast<size_t>(id)] == number(rows[q], "learned");
    EXPECT_NEAR(number(rows[q], "own_learned"), same / k, 1e-12);
  }
}

// Cells that are not given are 0.
void add(Table& table, const std::map<std::string, std::string>& given) {
  std::vector<std::string> cells;
  for (const std::string& column : table.columns()) cells.push_back(given.contains(column) ? given.at(column) : "0");
  table.add(cells);
}

Table hand_made_rows() {
  std::vector<std::string> columns = observation_columns();
  columns.insert(columns.begin(), "task");
  Table table(columns);
  struct Query {
    const char *truth, *global, *ttt, *again, *learned, *kept, *cosine, *cosine_concepts, *own_learned;
  };
  for (const Query& q : {Query{"0", "0", "0", "0", "0", "10", "0.1", "0.3", "0.5"},
                         Query{"1", "1", "1", "1", "1", "20", "0.2", "0.4", "0.5"},
                         Query{"1", "0", "1", "1", "0", "30", "0.3", "0.5", "1"},
                         Query{"0", "1", "1", "0", "0", "40", "0.4", "0.6", "1"}})
    add(table, {{"space", "first"},
                {"truth", q.truth},
                {"global", q.global},
                {"ttt", q.ttt},
                {"ttt_again", q.again},
                {"learned", q.learned},
                {"active", "100"},
                {"kept", q.kept},
                {"own_learned", q.own_learned},
                {"own_all", "1"},
                {"cosine_features", q.cosine},
                {"cosine_again", q.cosine},
                {"cosine_concepts", q.cosine_concepts},
                {"within_again", "0.7"},
                {"within_concepts", "0.8"},
                {"overlap_again", "1"},
                {"overlap_concepts", "0.5"},
                {"p1_again", "0.75"},
                {"p1_learned", "0.5"},
                {"explained_variance", "0.9"},
                {"dead_share", "0.02"},
                {"l0", "16"}});
  add(table, {{"space", "second"}, {"truth", "1"}, {"of_query", "1"}});
  return table;
}

TEST(ObservationReport, OfHandMadeRows) {
  const Json config = {{"spaces",
                        {{{"title", "first"}, {"local", {{"neighbours", 50}, {"epochs", 30}}}, {"mask_steps", 90}},
                         {{"title", "second"}, {"local", {{"neighbours", 7}, {"epochs", 40}}}, {"mask_steps", 80}}}}};
  const Report report = observation_report(config, hand_made_rows());
  const auto finding = [&](const std::string& start) {
    for (const Finding& one : report.findings)
      if (one.quantity.starts_with(start)) return one.ours;
    ADD_FAILURE() << "no finding: " << start;
    return std::string();
  };
  EXPECT_EQ(finding("first: explained variance"), "0.9000");
  EXPECT_EQ(finding("first: dead features"), "2.00");
  EXPECT_EQ(finding("first: O1"), "0.000, 0.500");
  EXPECT_EQ(finding("first: O2: concepts kept"), "25.0 of 100.0");
  EXPECT_EQ(finding("first: O2: accuracy"), "75.00, 100.00");
  EXPECT_EQ(finding("first: O3"), accuracy_text(3, 4));
  EXPECT_EQ(finding("second: O3"), accuracy_text(1, 1));
  EXPECT_EQ(report.findings.size(), 12U);

  const Json &first = report.summary.at("spaces").at(0), &second = report.summary.at("spaces").at(1);
  const std::map<std::string, int> right = {{"global", 2},  {"global_again", 2}, {"global_concepts", 2},
                                            {"ttt", 3},     {"ttt_again", 4},    {"ttt_concepts", 2},
                                            {"learned", 3}, {"of_query", 2}};
  EXPECT_EQ(first.at("right").size(), right.size());
  for (const auto& [column, count] : right) {
    EXPECT_EQ(first.at("right").at(column), count) << column;
    EXPECT_EQ(second.at("right").at(column), column == "of_query" ? 1 : 0) << column;
  }
  EXPECT_EQ(first.at("queries"), 4);
  EXPECT_EQ(second.at("queries"), 1);
  EXPECT_EQ(first.at("l0"), 16.0);
  EXPECT_EQ(first.at("distance_again"), 0.0);
  EXPECT_EQ(first.at("distance_concepts"), 0.5);

  const auto expect_text = [&](const std::string& words) {
    EXPECT_NE(report.text.find(words), std::string::npos) << words << "\n" << report.text;
  };
  expect_text("TTT, learned mask of Φ̂ | " + accuracy_text(3, 4) + " | 72.64 ± .20");
  expect_text("TTT, Ψ | " + accuracy_text(3, 4) + " | –");
  expect_text("its 50 neighbours, measured in Ψ: 0.2500 if chosen in Ψ, 0.2500 in Ψ̂, 0.4500 in Φ̂");
  expect_text("where they are chosen: 0.7000 in Ψ̂, 0.8000 in Φ̂");
  expect_text("100.0 % are neighbours in Ψ̂ and 50.0 % in Φ̂");
  expect_text("its 7 neighbours");
  expect_text("Local heads on Ψ and Ψ̂ take 30 steps, those on Φ̂, whatever their mask, 90.");
  expect_text("Local heads on Ψ and Ψ̂ take 40 steps, those on Φ̂, whatever their mask, 80.");

  std::vector<std::string> names;
  for (const Figure& figure : report.figures) names.push_back(figure.name);
  EXPECT_EQ(names, (std::vector<std::string>{"o1-0", "o2-0", "o3-0", "o1-1", "o2-1", "o3-1"}));
  EXPECT_EQ(report.figures[0].series.size(), 3U);
  EXPECT_EQ(report.figures[1].series[0].x, (std::vector<double>{10, 10, 20, 30, 40}));  // from 0 on
  EXPECT_EQ(report.figures[2].series[0].y[0], 0.75);
  EXPECT_EQ(report.figures[2].series[1].y[0], 0.5);
}

}  // namespace
}  // namespace hone::lab::sae_observations_test
