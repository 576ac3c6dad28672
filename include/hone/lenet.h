// lenet: the small convolutional network of [SaG]'s scaling study (Hübotter et al. 2025, arXiv 2509.24510), one channel
// in: convolution, maximum of 2 × 2, ReLU, twice, then a linear head. Its last layer's input are features for heads.h.
// Reading images is data.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "hone/base.h"
#include "hone/heads.h"

namespace hone {

// Mean and deviation of pixels after division by 255. The defaults are those of MNIST, which [SaG] uses.
struct PixelScale {
  float mean = 0.1307F;
  float deviation = 0.3081F;
};
// (p/255 − mean)/deviation of pixels [n, rows·cols] from 0 to 255, in fp32 and in the same shape: images for a LeNet.
Matrix normalized_pixels(ConstMatrixView pixels, const PixelScale& scale = {});

// Convolutions have no padding and stride 1; a maximum leaves out a last odd row or column.
struct LeNetShape {
  size_t rows = 28, cols = 28;  // of an image
  size_t channels1 = 4, kernel1 = 5;
  size_t channels2 = 12, kernel2 = 5;
  size_t classes = 10;

  // [SaG]'s width for the scale s on 28 × 28 pixels: round(4s) channels with kernel 5, or 3 if s < .5; then
  // round(20s − 8) channels with kernel 5 if s > .5, else round(4s) with kernel 3. s = .35 has 25 features, 1 has 192,
  // 4 has 1152. Throws Error{bad_input} unless s gives at least one channel and is at most 64.
  static LeNetShape scaled(double s);

  size_t features() const;  // d: channels2 times the pixels that are left
  bool operator==(const LeNetShape&) const = default;
};

// Minimises mean cross-entropy by Adam (β .9/.999, ε 1e-8, fixed learning rate, no decay) on mini-batches drawn anew
// every epoch without replacement; the last one of an epoch may be smaller.
struct LeNetTraining {
  float learning_rate = 0.0008F;
  size_t batch = 100;
  int epochs = 50;
  uint64_t seed = 0;  // of the order of images
};

// Owns its parameters; moves. Methods use the one thread pool: one thread calls them at a time.
// Images are rows [n, rows·cols] of normalised pixels, row-major. An image's result depends neither on the other images
// nor on the number of threads. Methods throw Error{bad_input} for images of another size, Error{cancelled}.
class LeNet {
 public:
  // Untrained: weights and biases uniform in ±1/√(inputs of a unit), as torch's layers start, from the stream (seed,
  // "lenet"). Throws Error{bad_input} for a shape in which nothing is left of an image, no classes or no channels.
  explicit LeNet(const LeNetShape& shape, uint64_t seed = 0);

  // safetensors in the layout of [SaG]'s saved models: feature_extractor.0 and feature_extractor.3 with weight [out,
  // in, kernel, kernel] and bias [out], classifier with weight [C, d] and bias [C]; d = channel · row · column. The
  // file does not hold the images' size. Throws Error{not_found, corrupt, unsupported} naming file and tensor; io when
  // saving.
  static LeNet open(const std::filesystem::path& path, size_t rows = 28, size_t cols = 28);
  void save(const std::filesystem::path& path) const;

  const LeNetShape& shape() const { return shape_; }
  LinearHead head() const;  // a copy of the last layer

  Matrix features(ConstMatrixView images, const Watch& watch = {}) const;  // [n, d]
  Matrix logits(ConstMatrixView images, const Watch& watch = {}) const;    // [n, C]

  // Goes on from the parameters as they are, with fresh Adam state. y [n] in [0, classes). Returns each epoch's mean
  // cross-entropy in nats, measured batch by batch while it trains. The same for every number of threads. Throws
  // Error{bad_input} for labels out of range, no images, or a loss that is no longer finite: the parameters are then as
  // they were before; so they are after Error{cancelled}.
  std::vector<double> train(ConstMatrixView images, std::span<const int> y, const LeNetTraining& training,
                            const Watch& watch = {});

  // All parameters, one after the other in the order of a saved file; layout as there.
  std::span<const float> parameters() const { return parameters_; }

 private:
  LeNet() = default;

  LeNetShape shape_;
  std::vector<float> parameters_;
};

}  // namespace hone
