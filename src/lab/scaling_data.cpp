// scaling-data: [SaG]'s second scaling study. The network is fixed; its last layer is trained on n images, and the same
// n images are searched for neighbours.
#include <fmt/format.h>

#include "base/random.h"
#include "lab/experiments.h"
#include "lab/image_answers.h"
#include "lab/image_data.h"

namespace hone::lab {
namespace {

constexpr const char* reference_net = "torch_global_classifier_mnist_ot-adam_lr0.005bs400_ne50";
constexpr size_t reference_width = 50;

// The first `count` of a random order of the training images; larger counts contain smaller ones.
std::vector<size_t> subset(uint64_t seed, size_t count, size_t of) {
  return RandomStream(seed, "scaling-data").draw(of, count);
}

class ScalingData final : public Experiment {
 public:
  std::string_view name() const override { return "scaling-data"; }
  std::string_view about() const override {
    return "[SaG]: global and local heads against the number of training images, on MNIST.";
  }

  Json settings(Size size) const override {
    const bool quick = size == Size::quick;
    Json settings = published_parameters(reference_width);
    settings.update({{"data_hash", image_data_hash("MNIST")},
                     {"net", saved_file_config(std::string(reference_net) + ".safetensors")},
                     {"images", quick ? Json{500, 5000, 50000} : Json{500, 1500, 5000, 15000, 50000}},
                     {"seeds", by_size(size, 1, 3, 10)},
                     {"queries", quick ? 1000 : 10000},
                     {"head", {{"ridge", 1e-4}, {"max_iterations", 500}}},
                     {"saved_heads", Json::array()}});
    for (const size_t images : {500, 1500}) {
      const std::string file = fmt::format("mnist_linear_classifier_ns{}", images);
      Json entry = saved_file_config(file + ".safetensors");
      entry["images"] = images;
      entry["torch_accuracy"] = torch_accuracy(file);
      settings["saved_heads"].push_back(entry);
    }
    return settings;
  }
  std::vector<Adjustable> adjustable() const override { return {{"seeds"}}; }
  std::vector<std::string> columns() const override {
    std::vector<std::string> columns = {"head", "images", "seed"};
    for (std::string& column : answer_columns()) columns.push_back(std::move(column));
    return columns;
  }
  size_t tasks(const Json& config) const override {
    return config.at("saved_heads").size() + config.at("images").size() * config.at("seeds").get<size_t>();
  }

  RunTask start(const Json& config, std::shared_ptr<const Model>, const Watch& at_start) const override {
    if (image_data_hash("MNIST") != config.at("data_hash"))
      throw Error(ErrorCode::bad_input, "MNIST is not the data that this run began with");
    const ImageData data = read_image_data("MNIST");
    const LeNet net = LeNet::open(checked_file(config.at("net")));
    auto space = std::make_shared<const FeatureSpace>(feature_space(net, data, at_start));
    return [config, space, labels = data.train.labels, truth = data.test.labels](size_t task, const Watch& watch) {
      const Json& saved = config.at("saved_heads");
      const size_t seeds = config.at("seeds"), own = task - saved.size(), queries = config.at("queries");
      const uint64_t seed = config.at("seed").get<uint64_t>() + (task < saved.size() ? 0 : own % seeds);
      const size_t images = task < saved.size() ? saved.at(task).at("images") : config.at("images").at(own / seeds);
      Matrix x = Matrix::uninitialized(images, space->train.cols());
      std::vector<int> y;
      for (const size_t i : subset(seed, images, labels.size())) {
        std::ranges::copy(space->train.row(i), x.row(y.size()).begin());
        y.push_back(labels[i]);
      }
      const Json& fit = config.at("head");
      const LinearHead start =
          task < saved.size() ? open_saved_head(checked_file(saved.at(task)))
                              : fit_head(x, y, space->head.classes(),
                                         {.ridge = fit.at("ridge"), .max_iterations = fit.at("max_iterations")}, watch);
      Row row = {std::string(task < saved.size() ? "saved" : "ours"), static_cast<int64_t>(images),
                 static_cast<int64_t>(seed)};
      append(row, count_answers(start, x, y, space->test.view().row_range(0, queries), std::span(truth).first(queries),
                                LocalProtocol::from(config), watch));
      return std::vector<Row>{row};
    };
  }

  Report report(const Json& config, const Table& rows) const override {
    Report report;
    std::vector<std::vector<std::string>> lines;
    const auto add_line = [&](const std::string& head, const std::string& images, const AnswerCounts& counts) {
      std::vector<std::string> line = {head, images};
      for (std::string& cell : answer_cells(counts)) line.push_back(std::move(cell));
      lines.push_back(line);
      Json entry = to_json(counts);
      entry["head"] = head;
      entry["images"] = std::stoul(images);
      report.summary["heads"].push_back(entry);
    };
    const Table saved = rows.where("head", "saved"), ours = rows.where("head", "ours");
    for (size_t i = 0; i < saved.rows(); ++i) {
      const AnswerCounts counts = read_answers(saved, i);
      add_line("saved", saved.text(i, "images"), counts);
      report.findings.push_back(
          {fmt::format("saved head of {} images, {} test images: global accuracy, %", saved.text(i, "images"),
                       counts.queries),
           fmt::format("{:.2f}", 100 * static_cast<double>(counts.global) / static_cast<double>(counts.queries)),
           fmt::format("{:.2f} (torch on the same file, 10 000 images)",
                       100 * config.at("saved_heads").at(i).at("torch_accuracy").get<double>())});
    }
    Figure errors{"error",           FigureKind::lines, "Test error against training images, MNIST, width 50",
                  "training images", "error, %",        {}};
    errors.log_x = errors.log_y = true;
    errors.caption = "Heads that we trained, all seeds' queries together, with 95 % Wilson intervals.";
    Figure gains{"gain", FigureKind::lines, "What local heads gain", "training images", "points of accuracy", {}};
    gains.log_x = true;
    gains.caption = "TTT minus global on the same queries, with paired 95 % intervals over all seeds' queries.";
    Series global{"global", {}, {}}, local{"TTT", {}, {}}, vote{"majority", {}, {}}, gained{"", {}, {}};
    for (const std::string& images : ours.distinct("images")) {
      const AnswerCounts counts = read_answers(ours.where("images", images));
      add_line("ours", images, counts);
      const double x = std::stod(images);
      push(global, x, share_interval(counts.queries - counts.global, counts.queries));
      push(local, x, share_interval(counts.queries - counts.local, counts.queries));
      push(vote, x, share_interval(counts.queries - counts.vote, counts.queries));
      const decide::Interval points = gain(counts);
      push(gained, x, {points.mean / 100, points.low / 100, points.high / 100});
      report.findings.push_back({fmt::format("{} training images: TTT's gain, points", images), gain_text(counts),
                                 "– (the paper: grows slightly; a plot)"});
    }
    errors.series = {global, local, vote};
    gains.series = {gained};
    report.figures = {errors, gains};
    std::vector<std::string> header = {"head", "images"};
    for (std::string& cell : answer_header()) header.push_back(std::move(cell));
    report.text =
        "## Every size\n" + markdown_table(header, lines) +
        "\n## What was fixed\nFeatures are those of the authors' reference network of width 50, which saw all "
        "50 000 images; only the head and the neighbours know n of them. Heads of ours are at the minimum of "
        "cross-entropy with a ridge of 1e-4 (L-BFGS), so that none is trained for too short at few images; k, "
        "learning rate and epochs of local heads are the published ones of width 50. Which 500 and 1 500 images "
        "the saved heads were trained on is not published: their neighbours are searched among as many images "
        "of our own draw. All seeds answer the same test images: intervals over several seeds are too narrow "
        "by a little.\n";
    return report;
  }
};

}  // namespace

std::unique_ptr<const Experiment> make_scaling_data() { return std::make_unique<ScalingData>(); }

}  // namespace hone::lab
