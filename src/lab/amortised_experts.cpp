// experts: [SaG]'s amortised test-time training. One local head for each of E centroids; accuracy against E, from the
// global head to a head for every training image.
#include <fmt/format.h>

#include <algorithm>

#include "base/files.h"
#include "lab/experiments.h"
#include "lab/image_answers.h"
#include "lab/image_data.h"

namespace hone::lab {
namespace {

constexpr const char* reference_net = "torch_global_classifier_mnist_ot-adam_lr0.005bs400_ne50";
constexpr const char* reference_head = "mnist_linear_classifier_lr0.005bs400_ne100";
constexpr size_t reference_width = 50;

class AmortisedExperts final : public Experiment {
 public:
  std::string_view name() const override { return "experts"; }
  std::string_view about() const override {
    return "[SaG]: a fixed number of local heads, trained beforehand, from one to one for every training image.";
  }

  Json settings(Size size) const override {
    std::vector<size_t> counts = {1, 10, 100, 1000, 5000, 10000, 50000};
    if (size == Size::quick) counts = {1, 10, 100, 1000, 5000};
    if (size == Size::full) counts = {1, 3, 10, 30, 50, 100, 300, 500, 1000, 3000, 5000, 10000, 30000, 40000, 50000};
    Json settings = published_parameters(reference_width);
    settings.update({{"data_hash", image_data_hash("MNIST")},
                     {"net", saved_file_config(std::string(reference_net) + ".safetensors")},
                     {"head", saved_file_config(std::string(reference_head) + ".safetensors")},
                     {"torch_accuracy", torch_accuracy(reference_head)},
                     {"kmeans_iterations", size == Size::quick ? 5 : 10},
                     {"queries", size == Size::quick ? 2000 : 10000},
                     {"experts", Json::array()}});
    for (const size_t count : counts) settings["experts"].push_back(published_expert(count));
    return settings;
  }
  std::vector<std::string> columns() const override {
    std::vector<std::string> columns = {"experts"};
    for (std::string& column : answer_columns()) columns.push_back(std::move(column));
    return columns;
  }
  // The first task is test-time training itself.
  size_t tasks(const Json& config) const override { return 1 + config.at("experts").size(); }

  RunTask start(const Json& config, std::shared_ptr<const Model>, const Watch& at_start) const override {
    if (image_data_hash("MNIST") != config.at("data_hash"))
      throw Error(ErrorCode::bad_input, "MNIST is not the data that this run began with");
    const ImageData data = read_image_data("MNIST");
    FeatureSpace space = feature_space(LeNet::open(checked_file(config.at("net"))), data, at_start);
    space.head = open_saved_head(checked_file(config.at("head")));
    return [config, space = std::make_shared<const FeatureSpace>(std::move(space)), labels = data.train.labels,
            truth = data.test.labels](size_t task, const Watch& watch) {
      const size_t count = config.at("queries");
      const ConstMatrixView queries = space->test.view().row_range(0, count);
      const std::span answers = std::span(truth).first(count);
      Row row = {static_cast<int64_t>(task == 0 ? 0 : config.at("experts").at(task - 1).at("experts").get<size_t>())};
      append(row, task == 0 ? count_answers(space->head, space->train, labels, queries, answers,
                                            LocalProtocol::from(config), watch)
                            : with_experts(*space, labels, queries, answers, config, task - 1, watch));
      return std::vector<Row>{row};
    };
  }

  Report report(const Json& config, const Table& rows) const override {
    Report report;
    const AnswerCounts ttt = read_answers(rows, 0);
    std::vector<std::vector<std::string>> lines;
    Figure figure{"experts",   FigureKind::lines, "Accuracy against the number of experts, MNIST, width 50",
                  "experts E", "accuracy, %",     {}};
    figure.log_x = true;
    figure.caption = "With 95 % Wilson intervals; dashed: the global head, and a local head for every query.";
    Series experts{"experts", {}, {}}, global{"global", {}, {}, {}, {}, true}, local{"TTT", {}, {}, {}, {}, true};
    for (size_t i = 1; i < rows.rows(); ++i) {
      const AnswerCounts counts = read_answers(rows, i);
      const Json& entry = config.at("experts").at(i - 1);
      lines.push_back({rows.text(i, "experts"), entry.at("neighbours").dump(), entry.at("learning_rate").dump(),
                       entry.at("epochs").dump(), accuracy_text(counts.local, counts.queries), gain_text(counts),
                       fmt::format("{:.4f}", counts.local_loss)});
      push(experts, rows.number(i, "experts"), share_interval(counts.local, counts.queries));
      for (auto [series, right] : {std::pair(&global, ttt.global), std::pair(&local, ttt.local)}) {
        series->x.push_back(rows.number(i, "experts"));
        series->y.push_back(100 * static_cast<double>(right) / static_cast<double>(ttt.queries));
      }
      Json result = to_json(counts);
      for (const char* not_counted : {"majority", "majority_same_k"}) result.erase(not_counted);
      result["experts"] = entry.at("experts");
      report.summary["experts"].push_back(result);
      report.findings.push_back({fmt::format("{} experts: accuracy, %", rows.text(i, "experts")),
                                 accuracy_text(counts.local, counts.queries), "– (the paper's is a plot)"});
    }
    report.summary["ttt"] = to_json(ttt);
    report.findings.insert(report.findings.begin(),
                           {{fmt::format("saved head, {} test images: global accuracy, %", ttt.queries),
                             accuracy_text(ttt.global, ttt.queries),
                             fmt::format("{:.2f} (torch on the same file, 10 000 images)",
                                         100 * config.at("torch_accuracy").get<double>())},
                            {"a head for every query (TTT): accuracy, %", accuracy_text(ttt.local, ttt.queries), "–"}});
    figure.series = {experts, global, local};
    report.figures = {figure};
    report.text =
        "## Every number of experts\n" +
        markdown_table({"experts", "k", "learning rate", "epochs", "accuracy, %", "gain, points", "log-loss"}, lines) +
        fmt::format(
            "\nGlobal head: {} %, log-loss {:.4f}. A head for every query: {} %, gain {}, log-loss {:.4f}. Majority "
            "vote: {} % at its own k = {}, {} % at TTT's k = {}.\n",
            accuracy_text(ttt.global, ttt.queries), ttt.global_loss, accuracy_text(ttt.local, ttt.queries),
            gain_text(ttt), ttt.local_loss, accuracy_text(ttt.vote, ttt.queries), config.at("votes").dump(),
            accuracy_text(ttt.vote_same, ttt.queries), config.at("local").at("neighbours").dump()) +
        "\n## What was fixed\nThe authors' reference network of width 50 and their linear head. k, learning rate and "
        "epochs are the published ones of each E; centroids are ours (k-means from points drawn at random, at E = 50 "
        "000 "
        "every training image). TTT has the published k, learning rate and epochs of width 50.\n";
    return report;
  }

 private:
  static Json published_expert(size_t experts) {
    const std::filesystem::path path = saved_file("moe_opt_params.json");
    try {
      const Json of = Json::parse(read_file(path)).at(fmt::format("{}", experts));
      return {{"experts", experts},
              {"neighbours", of.at("num_neighbors").get<size_t>()},
              {"learning_rate", of.at("finetune_lr").get<double>()},
              {"epochs", of.at("finetune_epochs").get<size_t>()}};
    } catch (const Json::exception& error) {
      throw Error(ErrorCode::corrupt, fmt::format("'{}': {}", path.string(), error.what()));
    }
  }

  static AnswerCounts with_experts(const FeatureSpace& space, std::span<const int> y, ConstMatrixView queries,
                                   std::span<const int> truth, const Json& config, size_t which, const Watch& watch) {
    const Json& entry = config.at("experts").at(which);
    ExpertOptions options{.experts = entry.at("experts"),
                          .neighbours = entry.at("neighbours"),
                          .training = {},
                          .iterations = config.at("kmeans_iterations"),
                          .seed = config.at("seed")};
    options.training.steps = entry.at("epochs");
    options.training.learning_rate = entry.at("learning_rate");
    const NeighbourIndex index = NeighbourIndex::build(space.train, {}, watch);
    const Experts experts = Experts::fit(space.head, space.train, y, index, options, watch);
    return compare_answers(space.head.logits(queries), experts.logits(queries, watch), truth);
  }
};

}  // namespace

std::unique_ptr<const Experiment> make_experts() { return std::make_unique<AmortisedExperts>(); }

}  // namespace hone::lab
