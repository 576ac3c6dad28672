#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"
#include "hone/lenet.h"
#include "images/lenet_shard.h"

namespace hone {
namespace {

// Adam (Kingma & Ba 2015) on all parameters.
class FlatAdam {
 public:
  FlatAdam(double learning_rate, size_t size) : learning_rate_(learning_rate), first_(size), second_(size) {}

  void step(std::span<const float> gradient, std::span<float> values) {
    ++steps_;
    const auto rate = static_cast<float>(learning_rate_ / (1 - std::pow(beta1, steps_)));
    const auto correction = static_cast<float>(std::sqrt(1 - std::pow(beta2, steps_)));
    for (size_t i = 0; i < values.size(); ++i) {
      const float g = gradient[i];
      first_[i] += static_cast<float>(1 - beta1) * (g - first_[i]);
      second_[i] += static_cast<float>(1 - beta2) * (g * g - second_[i]);
      values[i] -= rate * first_[i] / (std::sqrt(second_[i]) / correction + epsilon);
    }
  }

 private:
  static constexpr double beta1 = 0.9, beta2 = 0.999;
  static constexpr float epsilon = 1e-8F;

  double learning_rate_;
  int steps_ = 0;
  std::vector<float> first_, second_;
};

void check_labels(const LeNetShape& shape, ConstMatrixView images, std::span<const int> y) {
  if (images.rows == 0) throw Error(ErrorCode::bad_input, "there are no images to train on");
  if (y.size() != images.rows)
    throw Error(ErrorCode::bad_input, fmt::format("{} labels for {} images", y.size(), images.rows));
  for (size_t i = 0; i < y.size(); ++i)
    if (y[i] < 0 || static_cast<size_t>(y[i]) >= shape.classes)
      throw Error(ErrorCode::bad_input, fmt::format("label {} of image {} is not in [0, {})", y[i], i, shape.classes));
}

}  // namespace

std::vector<double> LeNet::train(ConstMatrixView images, std::span<const int> y, const LeNetTraining& training,
                                 const Watch& watch) {
  check_labels(shape_, images, y);
  if (training.batch == 0 || training.epochs < 0 || !(training.learning_rate > 0))
    throw Error(ErrorCode::bad_input,
                "training needs batches of at least 1, a positive learning rate and no negative "
                "number of epochs");
  check_images(shape_, images);
  std::vector<float> parameters = parameters_;
  FlatAdam adam(training.learning_rate, parameters.size());
  LeNetShards shards(shape_);
  const size_t most = (std::min(training.batch, images.rows) + shard_images - 1) / shard_images;
  Matrix gradients = Matrix::uninitialized(most, parameters.size());
  std::vector<double> losses(most), curve;
  RandomStream random(training.seed, "lenet order");
  std::vector<size_t> order(images.rows);
  std::iota(order.begin(), order.end(), size_t{0});

  for (int epoch = 0; epoch < training.epochs; ++epoch) {
    random.shuffle(std::span(order));
    double total = 0;
    for (size_t first = 0; first < order.size(); first += training.batch) {
      watch.report("training", static_cast<size_t>(epoch) * order.size() + first,
                   static_cast<size_t>(training.epochs) * order.size());
      const std::span batch(order.data() + first, std::min(training.batch, order.size() - first));
      const float scale = 1 / static_cast<float>(batch.size());
      const size_t count = (batch.size() + shard_images - 1) / shard_images;
      shards.run(count, [&](LeNetShard& shard, size_t i) {
        const auto part = batch.subspan(i * shard_images, std::min(shard_images, batch.size() - i * shard_images));
        std::vector<int> labels;
        for (size_t at = 0; at < part.size(); ++at) {
          std::ranges::copy(images.row(part[at]), shard.images().row(at).begin());
          labels.push_back(y[part[at]]);
        }
        losses[i] = shard.loss(parameters, labels, scale, gradients.row(i));
      });
      const std::span<float> gradient = gradients.row(0);
      for (size_t i = 1; i < count; ++i)
        std::ranges::transform(gradient, gradients.row(i), gradient.begin(), std::plus<>());
      total += std::reduce(losses.begin(), losses.begin() + static_cast<ptrdiff_t>(count));
      adam.step(gradient, parameters);
    }
    curve.push_back(total / static_cast<double>(order.size()));
    if (!std::isfinite(curve.back()))
      throw Error(ErrorCode::bad_input,
                  fmt::format("the loss is no longer finite in epoch {}; give a smaller learning rate", epoch + 1));
  }
  parameters_ = std::move(parameters);
  return curve;
}

}  // namespace hone
