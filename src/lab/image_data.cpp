#include "lab/image_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "base/files.h"
#include "data/contents.h"
#include "hone/data.h"
#include "model/safetensors.h"

namespace hone::lab {
namespace {

namespace fs = std::filesystem;

constexpr size_t train_images = 50000, test_images = 10000;
constexpr int classes = 10;
constexpr const char* split_file = "train_indices.txt.gz";
constexpr PixelScale fashion_pixels{.mean = 0.2860F, .deviation = 0.3530F};

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// A folder of $HONE_DATA, "" if it is not there.
fs::path data_folder(std::string_view name) {
  const char* data = std::getenv("HONE_DATA");
  const fs::path folder = data ? fs::path(data) / name : fs::path();
  return is_folder(folder) ? folder : fs::path();
}

bool is_mnist(std::string_view name) { return name == "MNIST"; }

fs::path image_folder(std::string_view name) {
  if (is_mnist(name)) {
    fs::path folder = data_folder("mnist");
    if (folder.empty())
      throw Error(ErrorCode::not_found,
                  "MNIST is needed: set HONE_DATA to a folder that holds mnist/ with the four IDX files, .gz");
    return folder;
  }
  fs::path own = data_folder("fashion-mnist"), debian = "/usr/share/datasets/fashion-mnist";
  if (!own.empty()) return own;
  if (is_folder(debian)) return debian;
  throw Error(
      ErrorCode::not_found,
      "Fashion-MNIST is needed: install Debian's dataset-fashion-mnist, or set HONE_DATA to a folder that holds "
      "fashion-mnist/ with the four IDX files, .gz");
}

// The rows of the training file, in the authors' order.
std::vector<size_t> published_order(size_t images) {
  const fs::path path = saved_file(split_file);
  const Contents contents(path);
  const auto* at = reinterpret_cast<const char*>(contents.bytes().data());
  const char* const end = at + contents.bytes().size();
  std::vector<size_t> order;
  while (at != end) {
    size_t index = 0;
    const auto [after, error] = std::from_chars(at, end, index);
    if (error != std::errc() || index >= images)
      throw Error(ErrorCode::corrupt, fmt::format("'{}', line {}: not the number of one of {} images", path.string(),
                                                  order.size() + 1, images));
    order.push_back(index);
    at = std::find_if_not(after, end, [](char c) { return c == '\n' || c == '\r'; });
  }
  if (order.size() != train_images)
    throw Error(ErrorCode::corrupt,
                fmt::format("'{}' has {} lines, not {}", path.string(), order.size(), train_images));
  return order;
}

// At least `least` images, whose labels are 0 to 9.
ImageSet read_set(const fs::path& folder, const std::string& prefix, size_t least, const PixelScale& scale) {
  const fs::path images = folder / (prefix + "-images-idx3-ubyte.gz");
  ImageSet set{normalized_pixels(read_idx_images(images), scale),
               read_idx_labels(folder / (prefix + "-labels-idx1-ubyte.gz"))};
  if (set.images.rows() != set.size() || set.images.cols() != 784)
    throw Error(ErrorCode::corrupt, fmt::format("'{}' holds {} images of {} pixels for {} labels", images.string(),
                                                set.images.rows(), set.images.cols(), set.size()));
  if (set.size() < least)
    throw Error(ErrorCode::corrupt,
                fmt::format("'{}' holds {} images; the whole set has at least {}", images.string(), set.size(), least));
  if (const auto odd = std::ranges::find_if(set.labels, [](int label) { return label >= classes; });
      odd != set.labels.end())
    throw Error(ErrorCode::corrupt, fmt::format("the label of image {} of '{}' is {}; labels are 0 to {}",
                                                odd - set.labels.begin(), images.string(), *odd, classes - 1));
  return set;
}

ImageSet select(const ImageSet& all, std::span<const size_t> order) {
  ImageSet set{Matrix::uninitialized(order.size(), all.images.cols()), {}};
  for (size_t i = 0; i < order.size(); ++i) {
    std::ranges::copy(all.images.row(order[i]), set.images.row(i).begin());
    set.labels.push_back(all.labels[order[i]]);
  }
  return set;
}

Json read_json(const std::string& name) {
  const fs::path path = saved_file(name);
  Json parsed = Json::parse(read_file(path), nullptr, false);
  if (!parsed.is_object()) throw Error(ErrorCode::corrupt, fmt::format("'{}' is not a JSON object", path.string()));
  return parsed;
}

// Runs `read`; a key that is missing or of another type is a damaged file.
template <class Read>
auto from_json(const std::string& file, const Read& read) {
  try {
    return read(read_json(file));
  } catch (const Json::exception& error) {
    throw Error(ErrorCode::corrupt, fmt::format("'{}': {}", saved_file(file).string(), error.what()));
  }
}

}  // namespace

ImageData read_image_data(std::string_view name) {
  const fs::path folder = image_folder(name);
  const PixelScale scale = is_mnist(name) ? PixelScale{} : fashion_pixels;
  const ImageSet all = read_set(folder, "train", train_images, scale);
  std::vector<size_t> order;
  if (is_mnist(name))
    order = published_order(all.size());
  else
    for (size_t i = 0; i < train_images; ++i) order.push_back(i);
  return {select(all, order), read_set(folder, "t10k", test_images, scale)};
}

std::string image_data_hash(std::string_view name) {
  const fs::path folder = image_folder(name);
  std::string hashes;
  for (const char* file : {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz",
                           "t10k-labels-idx1-ubyte.gz"})
    hashes += sha256(folder / file);
  if (is_mnist(name)) hashes += sha256(saved_file(split_file));
  return content_hash(hashes);
}

fs::path saved_file(std::string_view name) {
  const fs::path folder = data_folder("ttt_mnist");
  if (folder.empty() || !is_there(folder / name))
    throw Error(ErrorCode::not_found,
                fmt::format("'{}' is needed: set HONE_DATA to a folder that holds ttt_mnist/, what the authors of "
                            "arXiv 2509.24510 saved",
                            name));
  return folder / name;
}

Json saved_file_config(const std::string& name) { return {{"file", name}, {"sha256", sha256(saved_file(name))}}; }

fs::path checked_file(const Json& entry) {
  fs::path path = saved_file(entry.at("file").get<std::string>());
  if (sha256(path) != entry.at("sha256"))
    throw Error(ErrorCode::bad_input, fmt::format("'{}' is not the file that this run began with", path.string()));
  return path;
}

FeatureSpace feature_space(const LeNet& net, const ImageData& data, const Watch& watch) {
  return {net.head(), net.features(data.train.images, watch), net.features(data.test.images, watch)};
}

LinearHead open_saved_head(const fs::path& path) {
  const SafeTensors file = SafeTensors::open(path);
  LinearHead head{file.matrix("layer.weight"), {}};
  const Matrix bias = file.matrix("layer.bias");
  head.bias.assign(bias.data(), bias.data() + bias.size());
  if (head.bias.size() != head.classes())
    throw Error(ErrorCode::corrupt,
                fmt::format("'{}': {} rows of weights and {} biases", path.string(), head.classes(), head.bias.size()));
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!std::ranges::all_of(head.bias, finite) ||
      !std::all_of(head.weights.data(), head.weights.data() + head.weights.size(), finite))
    throw Error(ErrorCode::corrupt,
                fmt::format("'{}' holds a value that is not finite; get the file again", path.string()));
  return head;
}

std::vector<SavedNet> saved_nets() {
  std::vector<SavedNet> chosen;
  for (const SavedNet& net : all_saved_nets())
    if (std::ranges::none_of(chosen, [&](const SavedNet& other) { return other.width == net.width; }))
      chosen.push_back(net);
  return chosen;
}

std::vector<SavedNet> all_saved_nets() {
  return {{"mnist_scaled_model_hd25_ss0.35_ot-adam_lr0.006bs500_ne50", "25", 25},
          {"mnist_scaled_model_seed1_hd25_ss0.35_ot-adam_lr0.006bs500_ne50", "25, seed 1", 25},
          {"mnist_scaled_model_seed2_hd25_ss0.35_ot-adam_lr0.006bs500_ne50", "25, seed 2", 25},
          {"torch_global_classifier_mnist_ot-adam_lr0.005bs400_ne50", "50", 50},
          {"torch_global_classifier_mnist_ot-adam_lr0.01bs50_ne2", "50, 2 epochs", 50},
          {"mnist_scaled_model_seed1_hd192_ss1.0_ot-adam_lr0.0008bs100_ne50", "192, seed 1", 192},
          {"mnist_scaled_model_hd480_ss1.9_ot-adam_lr0.002bs100_ne20", "480", 480},
          {"mnist_scaled_model_seed42_hd480_ss1.9_ot-adam_lr0.002bs100_ne2", "480, seed 42, 2 epochs", 480}};
}

double torch_accuracy(const std::string& file) {
  return from_json("measured_here_saved_mnist_models.json", [&](const Json& measured) -> double {
    for (const auto& [name, values] : measured.items())
      if (name.find(file + ".pth") != std::string::npos) return values.at("test").at("accuracy");
    throw Error(ErrorCode::corrupt, fmt::format("measured_here_saved_mnist_models.json does not know {}", file));
  });
}

Json published_parameters(size_t width) {
  const std::string key = fmt::format("{}", width);
  Json parameters;
  from_json("mnist_cnn_opt_params.json", [&](const Json& all) {
    const Json& of = all.at(key);
    parameters["scale"] = of.at("size_scale").get<double>();
    parameters["training"] = {{"learning_rate", of.at("learning_rate").get<double>()},
                              {"batch", of.at("batch_size").get<size_t>()},
                              {"epochs", of.at("num_epochs").get<size_t>()}};
  });
  from_json("lft_cnn_opt_params.json", [&](const Json& all) {
    const Json& of = all.at(key);
    parameters["local"] = {{"neighbours", of.at("num_neighbors").get<size_t>()},
                           {"learning_rate", of.at("finetune_lr").get<double>()},
                           {"epochs", of.at("finetune_epochs").get<size_t>()}};
  });
  from_json("majority_cnn_opt_params.json",
            [&](const Json& all) { parameters["votes"] = all.at(key).at("num_neighbors").get<size_t>(); });
  return parameters;
}

}  // namespace hone::lab
