// scaling-width: [SaG]'s scaling study. Error of the global head, of local heads and of votes against the width of
// LeNet's last layer, on the networks that the authors saved and on our own.
#include <fmt/format.h>

#include <algorithm>

#include "lab/experiments.h"
#include "lab/image_answers.h"
#include "lab/image_data.h"

namespace hone::lab {
namespace {

// A network that we train: one of datasets × widths × seeds.
struct OwnNet {
  std::string data;
  size_t width;
  uint64_t seed;
};

// The widest, which take longest, first: no thread is left with one of them at the end.
std::vector<OwnNet> own_nets(const Json& config) {
  std::vector<OwnNet> nets;
  const uint64_t seeds = config.at("seeds");
  for (const Json& width : config.at("widths")) {
    if (!width.at("trained").get<bool>()) continue;
    for (const Json& data : config.at("data"))
      for (uint64_t seed = 0; seed < seeds; ++seed)
        nets.push_back({data.at("name"), width.at("width"), config.at("seed").get<uint64_t>() + seed});
  }
  std::ranges::stable_sort(nets, std::ranges::greater(), &OwnNet::width);
  return nets;
}

const Json& parameters_of(const Json& config, size_t width) {
  const Json& widths = config.at("widths");
  const auto found = std::ranges::find_if(widths, [&](const Json& one) { return one.at("width") == width; });
  if (found == widths.end())
    throw Error(ErrorCode::corrupt, fmt::format("a network has width {}, which is none of this experiment's; check the "
                                                "files below $HONE_DATA/ttt_mnist",
                                                width));
  return *found;
}

LeNet train(const OwnNet& own, const Json& config, const ImageSet& images, const Watch& watch) {
  const Json& parameters = parameters_of(config, own.width);
  const Json& training = parameters.at("training");
  LeNet net(LeNetShape::scaled(parameters.at("scale")), own.seed);
  net.train(images.images, images.labels,
            {.learning_rate = training.at("learning_rate"),
             .batch = training.at("batch"),
             .epochs = std::min(training.at("epochs").get<int>(), config.at("most_epochs").get<int>()),
             .seed = own.seed},
            watch);
  return net;
}

AnswerCounts measure(const LeNet& net, const Json& config, const ImageData& data, const Watch& watch) {
  const FeatureSpace space = feature_space(net, data, watch);
  const size_t queries = config.at("queries");
  const LocalProtocol protocol = LocalProtocol::from(parameters_of(config, net.shape().features()));
  return count_answers(space.head, space.train, data.train.labels, space.test.view().row_range(0, queries),
                       std::span(data.test.labels).first(queries), protocol, watch);
}

class ScalingWidth final : public Experiment {
 public:
  std::string_view name() const override { return "scaling-width"; }
  std::string_view about() const override {
    return "[SaG]: global and local heads against the width of LeNet's last layer, on MNIST and Fashion-MNIST.";
  }

  Json settings(Size size) const override {
    const bool quick = size == Size::quick;
    std::vector<size_t> widths = {25, 50, 96, 192, 480, 1152};
    if (quick) widths = {25, 192};
    if (size == Size::full) widths = {25, 50, 64, 96, 128, 192, 256, 480, 1152};
    Json settings = {{"data", Json::array()},         {"saved", Json::array()},
                     {"widths", Json::array()},       {"order", "saved networks, then ours from the widest"},
                     {"seeds", quick ? 1 : 3},        {"queries", quick ? 1000 : 10000},
                     {"most_epochs", quick ? 2 : 100}};
    for (const char* data : {"MNIST", "Fashion-MNIST"})
      settings["data"].push_back({{"name", data}, {"hash", image_data_hash(data)}});
    for (const SavedNet& net : quick ? saved_nets() : all_saved_nets()) {
      Json entry = saved_file_config(net.file + ".safetensors");
      entry["title"] = net.title;
      entry["torch_accuracy"] = torch_accuracy(net.file);
      settings["saved"].push_back(entry);
    }
    std::vector<size_t> used = widths;
    for (const SavedNet& net : saved_nets()) used.push_back(net.width);
    std::ranges::sort(used);
    used.erase(std::unique(used.begin(), used.end()), used.end());
    for (const size_t width : used) {
      Json parameters = published_parameters(width);
      parameters["width"] = width;
      parameters["trained"] = std::ranges::find(widths, width) != widths.end();
      settings["widths"].push_back(parameters);
    }
    return settings;
  }

  std::vector<Adjustable> adjustable() const override { return {{"seeds"}}; }
  std::vector<std::string> columns() const override {
    std::vector<std::string> columns = {"net", "data", "width", "seed"};
    for (std::string& column : answer_columns()) columns.push_back(std::move(column));
    return columns;
  }
  size_t tasks(const Json& config) const override { return config.at("saved").size() + own_nets(config).size(); }

  RunTask start(const Json& config, std::shared_ptr<const Model>, const Watch&) const override {
    auto data = std::make_shared<std::vector<std::pair<std::string, ImageData>>>();
    for (const Json& entry : config.at("data")) {
      const std::string name = entry.at("name");
      if (image_data_hash(name) != entry.at("hash"))
        throw Error(ErrorCode::bad_input, fmt::format("{} is not the data that this run began with", name));
      data->emplace_back(name, read_image_data(name));
    }
    return [config, data, own = own_nets(config)](size_t task, const Watch& watch) {
      const auto images = [&](const std::string& name) -> const ImageData& {
        return std::ranges::find(*data, name, &std::pair<std::string, ImageData>::first)->second;
      };
      const Json& saved = config.at("saved");
      Row row;
      if (task < saved.size()) {
        const LeNet net = LeNet::open(checked_file(saved.at(task)));
        row = {saved.at(task).at("title").get<std::string>(), std::string("MNIST"),
               static_cast<int64_t>(net.shape().features()), std::string("saved")};
        append(row, measure(net, config, images("MNIST"), watch));
      } else {
        const OwnNet& one = own[task - saved.size()];
        const LeNet net = train(one, config, images(one.data).train, watch);
        row = {std::string("ours"), one.data, static_cast<int64_t>(one.width), static_cast<int64_t>(one.seed)};
        append(row, measure(net, config, images(one.data), watch));
      }
      return std::vector<Row>{row};
    };
  }

  Report report(const Json& config, const Table& rows) const override {
    Report report;
    add_saved(config, rows.where("seed", "saved"), report);
    for (const Json& data : config.at("data"))
      add_own(data.at("name"), rows.where("net", "ours").where("data", data.at("name").get<std::string>()), report);
    report.text +=
        "## What was fixed\nNeighbours are exact, L2, among the 50 000 training images' last-layer features; training, "
        "k, learning rate and epochs of every width are the published ones, chosen by the authors on a validation set "
        "of MNIST. On Fashion-MNIST the same values are used, nothing is tuned. Majority votes of equal size go to the "
        "label that comes first among the neighbours. Intervals of accuracies are Wilson's over queries, those of "
        "gains "
        "paired over queries. Every seed answers the same test images: over several seeds these intervals are too "
        "narrow by a little, and the standard error over seeds stands beside.\n";
    return report;
  }

 private:
  static void add_saved(const Json& config, const Table& rows, Report& report) {
    std::vector<std::vector<std::string>> lines;
    report.summary["saved"] = Json::array();
    for (size_t i = 0; i < rows.rows(); ++i) {
      const AnswerCounts counts = read_answers(rows, i);
      const Json& saved = config.at("saved").at(i);
      std::vector<std::string> line = {rows.text(i, "net")};
      for (std::string& cell : answer_cells(counts)) line.push_back(std::move(cell));
      lines.push_back(line);
      Json entry = to_json(counts);
      entry["net"] = rows.text(i, "net");
      entry["torch_accuracy"] = saved.at("torch_accuracy");
      report.summary["saved"].push_back(entry);
      report.findings.push_back(
          {fmt::format("saved network {}, MNIST, {} test images: global accuracy, %", rows.text(i, "net"),
                       counts.queries),
           fmt::format("{:.2f}", 100 * static_cast<double>(counts.global) / static_cast<double>(counts.queries)),
           fmt::format("{:.2f} (torch on the same file, 10 000 images)",
                       100 * saved.at("torch_accuracy").get<double>())});
      report.findings.push_back({fmt::format("saved network {}: TTT's gain, points", rows.text(i, "net")),
                                 gain_text(counts),
                                 rows.text(i, "net") == "25" ? "+3.78 (torch, the same protocol, 10 000 images)"
                                                             : "– (the paper's is a plot)"});
    }
    std::vector<std::string> header = {"network"};
    for (std::string& cell : answer_header()) header.push_back(std::move(cell));
    report.text += "## The authors' saved networks, MNIST\n" + markdown_table(header, lines) + "\n";
  }

  static void add_own(const std::string& data, const Table& rows, Report& report) {
    std::vector<std::vector<std::string>> lines;
    Figure errors{data == "MNIST" ? "mnist" : "fashion-mnist",
                  FigureKind::lines,
                  fmt::format("Test error against width, {}", data),
                  "width of the last layer",
                  "error, %",
                  {}};
    errors.log_x = errors.log_y = true;
    errors.caption = "Our networks; all seeds' queries together, with 95 % Wilson intervals.";
    Figure gains{errors.name + "-gain",     FigureKind::lines,    fmt::format("What local heads gain, {}", data),
                 "width of the last layer", "points of accuracy", {}};
    gains.log_x = true;
    gains.caption = "TTT minus global on the same queries, with paired 95 % intervals over all seeds' queries.";
    Series global{"global", {}, {}}, local{"TTT", {}, {}}, vote{"majority", {}, {}}, gained{"", {}, {}};
    std::vector<std::string> widths = rows.distinct("width");
    std::ranges::reverse(widths);
    for (const std::string& width : widths) {
      const Table here = rows.where("width", width);
      const AnswerCounts counts = read_answers(here);
      std::vector<double> per_seed;
      for (size_t i = 0; i < here.rows(); ++i) per_seed.push_back(gain(read_answers(here, i)).mean);
      std::vector<std::string> line = {width, fmt::format("{}", here.rows())};
      for (std::string& cell : answer_cells(counts)) line.push_back(std::move(cell));
      line.push_back(per_seed.size() > 1 ? mean_text(per_seed, 2) : "–");
      lines.push_back(line);
      const double x = std::stod(width);
      push(global, x, share_interval(counts.queries - counts.global, counts.queries));
      push(local, x, share_interval(counts.queries - counts.local, counts.queries));
      push(vote, x, share_interval(counts.queries - counts.vote, counts.queries));
      const decide::Interval points = gain(counts);
      push(gained, x, {points.mean / 100, points.low / 100, points.high / 100});
      Json entry = to_json(counts);
      entry["data"] = data;
      entry["width"] = std::stoul(width);
      entry["seeds"] = here.rows();
      report.summary["ours"].push_back(entry);
      report.findings.push_back({fmt::format("our networks, {}, width {}: TTT's gain, points", data, width),
                                 gain_text(counts), "– (the paper's is a plot, MNIST)"});
    }
    std::vector<std::string> header = {"width", "seeds"};
    for (std::string& cell : answer_header()) header.push_back(std::move(cell));
    header.emplace_back("gain: mean of seeds ± standard error");
    report.text += fmt::format("## Our networks, {}\n", data) + markdown_table(header, lines) + "\n";
    errors.series = {global, local, vote};
    gains.series = {gained};
    report.figures.push_back(errors);
    report.figures.push_back(gains);
  }
};

}  // namespace

std::unique_ptr<const Experiment> make_scaling_width() { return std::make_unique<ScalingWidth>(); }

}  // namespace hone::lab
