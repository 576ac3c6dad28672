// MNIST and Fashion-MNIST as [SaG] reads them, and what its authors saved: networks, heads and hyperparameters.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "hone/heads.h"
#include "hone/lenet.h"
#include "lab/experiment.h"

namespace hone::lab {

struct ImageSet {
  Matrix images;  // normalised pixels [n, 784]
  std::vector<int> labels;

  size_t size() const { return labels.size(); }
};

// 50 000 images to train on and to search, in this order, and the test set of 10 000.
struct ImageData {
  ImageSet train, test;
};

// "MNIST": $HONE_DATA/mnist, with the authors' split of $HONE_DATA/ttt_mnist. "Fashion-MNIST":
// $HONE_DATA/fashion-mnist, else Debian's dataset-fashion-mnist; its first 50 000 images. Throws Error{not_found} that
// says what to install or to set, Error{corrupt}.
ImageData read_image_data(std::string_view name);
// A hash of the SHA-256 of all files that are read of them, for config.json: images, labels and, of MNIST, the split.
// Throws Error{not_found, io}.
std::string image_data_hash(std::string_view name);

// A file of $HONE_DATA/ttt_mnist. Throws Error{not_found} that says what to set.
std::filesystem::path saved_file(std::string_view name);
// {"file", "sha256"}, for config.json.
Json saved_file_config(const std::string& name);
// The path of such an entry. Throws Error{bad_input} if it is not the file that the run began with.
std::filesystem::path checked_file(const Json& entry);

// A network's last layer and its input.
struct FeatureSpace {
  LinearHead head;
  Matrix train, test;  // [50 000, d], [10 000, d]
};
FeatureSpace feature_space(const LeNet& net, const ImageData& data, const Watch& watch);
// A head that the authors saved by itself: layer.weight [C, d] and layer.bias [C]. Throws Error{corrupt, not_found}.
LinearHead open_saved_head(const std::filesystem::path& path);

// The networks that the experiments on saved models use: name of the file, and what the page calls it.
struct SavedNet {
  std::string file;
  std::string title;
  size_t width;
};
// Of each width the one that was trained longest: 25, 50, 192, 480.
std::vector<SavedNet> saved_nets();
// All eight networks.
std::vector<SavedNet> all_saved_nets();
// The accuracy on the test set that torch has for a file, as measured_here_saved_mnist_models.json beside it says.
double torch_accuracy(const std::string& file);

// The published hyperparameters of a width, for config.json: "scale", "training" {learning_rate, batch, epochs},
// "local" {neighbours, learning_rate, epochs}, "votes".
Json published_parameters(size_t width);

}  // namespace hone::lab
