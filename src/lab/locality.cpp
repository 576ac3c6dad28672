// locality: [SaG]'s table of what a local head knows. Four rows: the global head, a local head for every query, local
// heads on the neighbourhoods that they were trained on, and every local head on the whole test set.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lab/experiments.h"
#include "lab/image_answers.h"
#include "lab/saved_spaces.h"

namespace hone::lab {
namespace {

// The heads of some queries, one below the other, as one head of many classes.
LinearHead stack(std::span<const LinearHead> heads) {
  const size_t classes = heads.front().classes();
  LinearHead all{Matrix::uninitialized(heads.size() * classes, heads.front().dimension()), {}};
  for (size_t h = 0; h < heads.size(); ++h) {
    std::copy_n(heads[h].weights.data(), heads[h].weights.size(), all.weights.row(h * classes).data());
    all.bias.insert(all.bias.end(), heads[h].bias.begin(), heads[h].bias.end());
  }
  return all;
}

// How many of the images every head answers rightly.
std::vector<size_t> right_of_each(std::span<const LinearHead> heads, ConstMatrixView x, std::span<const int> truth,
                                  const Watch& watch) {
  constexpr size_t heads_at_a_time = 50;
  const size_t classes = heads.front().classes();
  std::vector<size_t> right(heads.size());
  for (size_t first = 0; first < heads.size(); first += heads_at_a_time) {
    watch.cancel.check();
    const size_t count = std::min(heads_at_a_time, heads.size() - first);
    const Matrix logits = stack(heads.subspan(first, count)).logits(x);
    for (size_t i = 0; i < x.rows; ++i)
      for (size_t h = 0; h < count; ++h) {
        const auto own = logits.row(i).subspan(h * classes, classes);
        right[first + h] += std::ranges::max_element(own) - own.begin() == truth[i];
      }
  }
  return right;
}

class Locality final : public Experiment {
 public:
  std::string_view name() const override { return "locality"; }
  std::string_view about() const override {
    return "[SaG]: local heads on their query, on their own neighbourhood, and on the whole test set.";
  }

  Json settings(Size size) const override {
    Json settings = saved_spaces_config();
    settings.update({{"queries", by_size(size, 400, 2000, 10000)}, {"queries_a_task", by_size(size, 100, 250, 250)}});
    return settings;
  }
  std::vector<std::string> columns() const override {
    std::vector<std::string> columns = {"net"};
    for (std::string& column : answer_columns()) columns.push_back(std::move(column));
    for (const char* column : {"own_points", "own_right", "everywhere", "everywhere_squares"})
      columns.emplace_back(column);
    return columns;
  }
  size_t tasks(const Json& config) const override { return config.at("nets").size() * query_tasks(config); }

  RunTask start(const Json& config, std::shared_ptr<const Model>, const Watch& at_start) const override {
    return [config, spaces = std::make_shared<const SavedSpaces>(config, at_start)](size_t task, const Watch& watch) {
      const QueryBlock block = query_block(config, task);
      const Json& net = config.at("nets").at(block.net);
      const FeatureSpace& space = spaces->spaces[block.net];
      const LocalProtocol protocol = LocalProtocol::from(net);
      const ConstMatrixView queries = space.test.view().row_range(block.first, block.count);
      const Neighbours neighbours = NeighbourIndex::build(space.train, {}, watch)
                                        .search(queries, std::max(protocol.neighbours, protocol.votes), watch);
      Row row = {net.at("title").get<std::string>()};
      append(row, count_answers(space.head, space.train, spaces->train_labels, queries,
                                std::span(spaces->test_labels).subspan(block.first, block.count), neighbours, protocol,
                                watch));
      const Neighbours own = neighbours.nearest(protocol.neighbours);
      const std::vector<LinearHead> heads =
          local_heads(space.head, space.train, spaces->train_labels, own.view(), protocol.training, watch);
      row.push_back(static_cast<int64_t>(own.ids.size()));
      row.push_back(static_cast<int64_t>(right_at_home(heads, space, spaces->train_labels, own)));
      double sum = 0, squares = 0;
      for (const size_t right : right_of_each(heads, space.test, spaces->test_labels, watch)) {
        const double share = static_cast<double>(right) / static_cast<double>(space.test.rows());
        sum += share;
        squares += share * share;
      }
      row.push_back(sum);
      row.push_back(squares);
      return std::vector<Row>{row};
    };
  }

  Report report(const Json& config, const Table& rows) const override {
    Report report;
    Figure figure{"locality", FigureKind::bars, "What a local head knows", "width of the last layer", "accuracy, %",
                  {}};
    figure.caption = "The authors' networks on MNIST.";
    Series bars[] = {{"global", {}, {}},
                     {"TTT", {}, {}},
                     {"local head on its own neighbourhood", {}, {}},
                     {"local head on all test images", {}, {}}};
    for (const Json& net : config.at("nets")) {
      const std::string title = net.at("title");
      const Table of_net = rows.where("net", title);
      const AnswerCounts counts = read_answers(of_net);
      const auto sum = [&](std::string_view column) {
        double total = 0;
        for (const double value : of_net.numbers(column)) total += value;
        return total;
      };
      const auto n = static_cast<double>(counts.queries);
      const double own = sum("own_right") / sum("own_points"), everywhere = sum("everywhere") / n;
      const double deviation = std::sqrt(std::max(0.0, sum("everywhere_squares") / n - everywhere * everywhere));
      const std::string own_text = fmt::format("{:.2f}", 100 * own),
                        everywhere_text =
                            fmt::format("{:.2f}, deviation over heads {:.2f}", 100 * everywhere, 100 * deviation);
      const std::string global_text = accuracy_text(counts.global, counts.queries),
                        local_text = accuracy_text(counts.local, counts.queries);
      report.text +=
          fmt::format("## Width {}\n", title) +
          markdown_table({"", "accuracy, %"},
                         {{"global head", global_text},
                          {"TTT: every query its own head", local_text},
                          {"local head on its own neighbourhood", own_text},
                          {"local head on all test images", everywhere_text},
                          {fmt::format("majority vote, its own k = {}", net.at("votes").dump()),
                           accuracy_text(counts.vote, counts.queries)},
                          {fmt::format("majority vote, TTT's k = {}", net.at("local").at("neighbours").dump()),
                           accuracy_text(counts.vote_same, counts.queries)}}) +
          "\n";
      const bool beside = net.at("width") == 192;
      const auto published = [&](const char* value) {
        return beside ? fmt::format("{} ([SaG], MNIST)", value) : std::string("–");
      };
      report.findings.push_back({fmt::format("width {}: global", title), global_text, published("98.57 ± .12")});
      report.findings.push_back({fmt::format("width {}: TTT", title), local_text, published("99.01 ± .10")});
      report.findings.push_back(
          {fmt::format("width {}: local head on its own neighbourhood", title), own_text, published("100")});
      report.findings.push_back(
          {fmt::format("width {}: local head on all test images", title), everywhere_text, published("36.38 ± .16")});
      report.summary["nets"].push_back({{"net", title},
                                        {"answers", to_json(counts)},
                                        {"own_neighbourhood", own},
                                        {"everywhere", everywhere},
                                        {"everywhere_deviation", deviation}});
      figure.categories.push_back(title);
      const double values[] = {static_cast<double>(counts.global) / n, static_cast<double>(counts.local) / n, own,
                               everywhere};
      for (size_t i = 0; i < 4; ++i) bars[i].y.push_back(100 * values[i]);
    }
    figure.series.assign(std::begin(bars), std::end(bars));
    report.figures = {figure};
    report.text +=
        "## What was fixed\nThe published table does not name its network; its global accuracy is that of the saved "
        "network of width 192 (98.56 %), beside which it stands here. k, learning rate and epochs are the published "
        "ones "
        "of each width. On all test images: the mean over the queries' heads of each head's accuracy on the 10 000.\n";
    return report;
  }

 private:
  // Answers of every head on the points that it was trained on.
  static size_t right_at_home(std::span<const LinearHead> heads, const FeatureSpace& space, std::span<const int> y,
                              const Neighbours& own) {
    size_t right = 0;
    Matrix points = Matrix::uninitialized(own.k, space.train.cols());
    for (size_t q = 0; q < heads.size(); ++q) {
      const auto ids = own.ids_of(q);
      for (size_t i = 0; i < own.k; ++i)
        std::ranges::copy(space.train.row(static_cast<size_t>(ids[i])), points.row(i).begin());
      const std::vector<int> answers = predictions(heads[q].logits(points));
      for (size_t i = 0; i < own.k; ++i) right += answers[i] == y[static_cast<size_t>(ids[i])];
    }
    return right;
  }
};

}  // namespace

std::unique_ptr<const Experiment> make_locality() { return std::make_unique<Locality>(); }

}  // namespace hone::lab
