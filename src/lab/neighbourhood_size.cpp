// neighbours: accuracy of local heads and of votes against the number k of neighbours, on the authors' networks.
#include <fmt/format.h>

#include <algorithm>

#include "lab/experiments.h"
#include "lab/image_answers.h"
#include "lab/image_data.h"
#include "lab/saved_spaces.h"

namespace hone::lab {
namespace {

class NeighbourhoodSize final : public Experiment {
 public:
  std::string_view name() const override { return "neighbours"; }
  std::string_view about() const override {
    return "[SaG]: local heads and majority votes against the number of neighbours, on the authors' networks.";
  }

  Json settings(Size size) const override {
    const bool quick = size == Size::quick;
    Json settings = saved_spaces_config();
    settings.update({{"k", quick ? Json{1, 5, 20, 50, 200} : Json{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}},
                     {"queries", by_size(size, 500, 2000, 10000)},
                     {"queries_a_task", quick ? 250 : 500}});
    return settings;
  }
  std::vector<std::string> columns() const override {
    std::vector<std::string> columns = {"net", "k"};
    for (std::string& column : answer_columns()) columns.push_back(std::move(column));
    return columns;
  }
  size_t tasks(const Json& config) const override { return config.at("nets").size() * query_tasks(config); }

  RunTask start(const Json& config, std::shared_ptr<const Model>, const Watch& at_start) const override {
    return [config, spaces = std::make_shared<const SavedSpaces>(config, at_start)](size_t task, const Watch& watch) {
      const QueryBlock block = query_block(config, task);
      const Json& net = config.at("nets").at(block.net);
      const FeatureSpace& space = spaces->spaces[block.net];
      const ConstMatrixView queries = space.test.view().row_range(block.first, block.count);
      const std::span truth = std::span(spaces->test_labels).subspan(block.first, block.count);
      const std::vector<size_t> sizes = config.at("k");
      const Neighbours neighbours =
          NeighbourIndex::build(space.train, {}, watch).search(queries, std::ranges::max(sizes), watch);
      std::vector<Row> rows;
      for (const size_t k : sizes) {
        LocalProtocol protocol = LocalProtocol::from(net);
        protocol.neighbours = protocol.votes = k;
        Row row = {net.at("title").get<std::string>(), static_cast<int64_t>(k)};
        append(row, count_answers(space.head, space.train, spaces->train_labels, queries, truth, neighbours, protocol,
                                  watch));
        rows.push_back(std::move(row));
      }
      return rows;
    };
  }

  Report report(const Json& config, const Table& rows) const override {
    Report report;
    for (const Json& net : config.at("nets")) {
      const std::string title = net.at("title");
      const Table of_net = rows.where("net", title);
      std::vector<std::vector<std::string>> lines;
      Figure figure{fmt::format("width-{}", net.at("width").get<size_t>()),
                    FigureKind::lines,
                    fmt::format("Accuracy against the number of neighbours, width {}", title),
                    "neighbours k",
                    "accuracy, %",
                    {}};
      figure.log_x = true;
      figure.caption = "The authors' network on MNIST, with 95 % Wilson intervals; dashed: the global head.";
      Series local{"TTT", {}, {}}, vote{"majority", {}, {}}, global{"global", {}, {}, {}, {}, true};
      std::pair<size_t, std::string> best_local, best_vote;
      for (const std::string& k : of_net.distinct("k")) {
        const AnswerCounts counts = read_answers(of_net.where("k", k));
        lines.push_back({k, accuracy_text(counts.local, counts.queries), gain_text(counts),
                         accuracy_text(counts.vote, counts.queries), fmt::format("{:.4f}", counts.local_loss)});
        push(local, std::stod(k), share_interval(counts.local, counts.queries));
        push(vote, std::stod(k), share_interval(counts.vote, counts.queries));
        global.x.push_back(std::stod(k));
        global.y.push_back(100 * static_cast<double>(counts.global) / static_cast<double>(counts.queries));
        best_local = std::max(best_local, {counts.local, k}, first_is_less);
        best_vote = std::max(best_vote, {counts.vote, k}, first_is_less);
        Json entry = to_json(counts);
        entry["net"] = title;
        entry["k"] = std::stoul(k);
        report.summary["sizes"].push_back(entry);
      }
      figure.series = {local, vote, global};
      report.figures.push_back(figure);
      report.text +=
          fmt::format(
              "## Width {}\nGlobal head: {:.2f} %. Local heads take {} epochs at learning rate "
              "{}.\n\n",
              title, global.y.at(0), net.at("local").at("epochs").dump(), net.at("local").at("learning_rate").dump()) +
          markdown_table({"k", "TTT, %", "gain, points", "majority, %", "log-loss, TTT"}, lines) + "\n";
      report.findings.push_back(
          {fmt::format("width {}: best k of TTT, on these test images", title), best_local.second,
           fmt::format("{} ([SaG], chosen on a validation set)", net.at("local").at("neighbours").dump())});
      report.findings.push_back(
          {fmt::format("width {}: best k of the majority, on these test images", title), best_vote.second,
           fmt::format("{} ([SaG], of 3 to 8, chosen on a validation set)", net.at("votes").dump())});
    }
    report.text +=
        "## What was fixed\nLearning rate and epochs are the published ones of the width, at every k. The best k is "
        "read "
        "off the same test images, so its accuracy is too good by a little; of equal ones the smaller is named.\n";
    return report;
  }

 private:
  static bool first_is_less(const std::pair<size_t, std::string>& a, const std::pair<size_t, std::string>& b) {
    return a.first < b.first;
  }
};

}  // namespace

std::unique_ptr<const Experiment> make_neighbours() { return std::make_unique<NeighbourhoodSize>(); }

}  // namespace hone::lab
