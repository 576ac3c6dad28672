#include "images/lenet_shard.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "base/flushed.h"
#include "model/gemm.h"

namespace hone {
namespace {

ConvolutionShape first_convolution(const LeNetShape& s) {
  return {groups_of(shard_images), s.rows, s.cols, 1, s.channels1, s.kernel1};
}

ConvolutionShape second_convolution(const LeNetShape& s) {
  const ConvolutionShape first = first_convolution(s);
  return {first.groups, first.out_rows() / 2, first.out_cols() / 2, s.channels1, s.channels2, s.kernel2};
}

PoolShape pool_after(const ConvolutionShape& s) { return {s.groups * s.out_channels, s.out_rows(), s.out_cols()}; }

Matrix activations(const PoolShape& s) { return {s.planes, s.rows * s.cols * group_lanes()}; }

Matrix gradients(const PoolShape& s) { return {s.planes, s.rows * (s.cols + 2 * gradient_margin) * group_lanes()}; }

Matrix pooled(const PoolShape& s) { return {s.planes, (s.rows / 2) * (s.cols / 2) * group_lanes()}; }

}  // namespace

size_t LeNetTensor::size() const { return std::reduce(shape.begin(), shape.end(), size_t{1}, std::multiplies<>()); }

LeNetTensors::LeNetTensors(const LeNetShape& s) {
  size_t offset = 0;
  const auto place = [&](const char* name, std::vector<size_t> shape, size_t inputs) {
    LeNetTensor tensor{name, std::move(shape), offset, inputs};
    offset += tensor.size();
    return tensor;
  };
  const size_t inputs1 = s.kernel1 * s.kernel1, inputs2 = s.channels1 * s.kernel2 * s.kernel2;
  weight1 = place("feature_extractor.0.weight", {s.channels1, 1, s.kernel1, s.kernel1}, inputs1);
  bias1 = place("feature_extractor.0.bias", {s.channels1}, inputs1);
  weight2 = place("feature_extractor.3.weight", {s.channels2, s.channels1, s.kernel2, s.kernel2}, inputs2);
  bias2 = place("feature_extractor.3.bias", {s.channels2}, inputs2);
  head_weight = place("classifier.weight", {s.classes, s.features()}, s.features());
  head_bias = place("classifier.bias", {s.classes}, s.features());
}

std::vector<const LeNetTensor*> LeNetTensors::all() const {
  return {&weight1, &bias1, &weight2, &bias2, &head_weight, &head_bias};
}

LeNetShard::LeNetShard(const LeNetShape& shape)
    : tensors_(shape),
      convolution1_(first_convolution(shape)),
      convolution2_(second_convolution(shape)),
      pool1_(pool_after(first_convolution(shape))),
      pool2_(pool_after(second_convolution(shape))),
      classes_(shape.classes),
      images_(shard_images, shape.rows * shape.cols),
      features_(shard_images, shape.features()),
      logits_(shard_images, shape.classes),
      d_features_(shard_images, shape.features()),
      pixels_(convolution1_.groups, shape.rows * shape.cols * group_lanes()),
      convolved1_(activations(pool1_)),
      pooled1_(pooled(pool1_)),
      convolved2_(activations(pool2_)),
      pooled2_(pooled(pool2_)),
      d_convolved1_(gradients(pool1_)),
      d_pooled1_(pooled(pool1_)),
      d_convolved2_(gradients(pool2_)),
      d_pooled2_(pooled(pool2_)) {}

void LeNetShard::take(size_t groups) {
  convolution1_.groups = convolution2_.groups = groups;
  pool1_.planes = groups * convolution1_.out_channels;
  pool2_.planes = groups * convolution2_.out_channels;
}

ConstMatrixView LeNetShard::features(std::span<const float> parameters, size_t count) {
  const float* p = parameters.data();
  take(groups_of(count));
  to_groups(images_.view().row_range(0, count), pixels_.data());
  convolution(convolution1_, pixels_.data(), p + tensors_.weight1.offset, p + tensors_.bias1.offset,
              convolved1_.data());
  max_pool(pool1_, convolved1_.data(), pooled1_.data());
  convolution(convolution2_, pooled1_.data(), p + tensors_.weight2.offset, p + tensors_.bias2.offset,
              convolved2_.data());
  max_pool(pool2_, convolved2_.data(), pooled2_.data());
  const MatrixView result = features_.view().row_range(0, count);
  from_groups(pooled2_.data(), result);
  return result;
}

double LeNetShard::loss(std::span<const float> parameters, std::span<const int> y, float scale,
                        std::span<float> gradient) {
  // The last group's other lanes are computed with; what they hold gets no gradient.
  const size_t rows = groups_of(y.size()) * group_lanes();
  const ConstMatrixView inputs = features(parameters, rows);
  const float* p = parameters.data();
  float* d = gradient.data();
  const size_t width = inputs.cols;
  const ConstMatrixView head{p + tensors_.head_weight.offset, classes_, width};
  const float* bias = p + tensors_.head_bias.offset;
  const MatrixView logits = logits_.view().row_range(0, rows), d_features = d_features_.view().row_range(0, rows);
  linear_forward(inputs, head, logits);
  // From here on logits are their own gradient.
  float* d_bias = d + tensors_.head_bias.offset;
  std::fill_n(d_bias, classes_, 0.0F);
  double loss = 0;
  for (size_t i = 0; i < rows; ++i) {
    const std::span<float> row = logits.row(i);
    if (i >= y.size()) {
      std::ranges::fill(row, 0.0F);
      continue;
    }
    for (size_t c = 0; c < classes_; ++c) row[c] += bias[c];
    const float most = *std::ranges::max_element(row);
    double sum = 0;
    for (const float logit : row) sum += std::exp(static_cast<double>(logit) - most);
    const double log_sum = most + std::log(sum);
    const auto label = static_cast<size_t>(y[i]);
    loss += log_sum - row[label];
    for (size_t c = 0; c < classes_; ++c) {
      const double share = std::exp(row[c] - log_sum);
      row[c] = scale * static_cast<float>((share < least_probability ? 0 : share) - (c == label ? 1 : 0));
      d_bias[c] += row[c];
    }
  }
  linear_backward_weight(logits, inputs, {d + tensors_.head_weight.offset, classes_, width});
  linear_backward_input(logits, weight_view(head), d_features);
  to_groups(d_features, d_pooled2_.data());
  max_pool_backward(pool2_, convolved2_.data(), pooled2_.data(), d_pooled2_.data(), d_convolved2_.data());
  convolution_backward_weights(convolution2_, pooled1_.data(), d_convolved2_.data(), d + tensors_.weight2.offset,
                               d + tensors_.bias2.offset);
  convolution_backward_input(convolution2_, d_convolved2_.data(), p + tensors_.weight2.offset, d_pooled1_.data());
  max_pool_backward(pool1_, convolved1_.data(), pooled1_.data(), d_pooled1_.data(), d_convolved1_.data());
  convolution_backward_weights(convolution1_, pixels_.data(), d_convolved1_.data(), d + tensors_.weight1.offset,
                               d + tensors_.bias1.offset);
  return loss;
}

}  // namespace hone
