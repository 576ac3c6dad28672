#include "hone/lenet.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "images/lenet_shard.h"
#include "model/safetensors.h"

namespace hone {
namespace {

constexpr double max_scale = 64;

void check_shape(const LeNetShape& s) {
  if (s.channels1 == 0 || s.channels2 == 0 || s.kernel1 == 0 || s.kernel2 == 0 || s.classes == 0)
    throw Error(ErrorCode::bad_input, "a LeNet needs at least one channel, one class and kernels of at least 1");
  if (s.features() == 0)
    throw Error(ErrorCode::bad_input,
                fmt::format("nothing is left of {} x {} pixels after kernels of {} and {} and two halvings; give "
                            "larger images or smaller kernels",
                            s.rows, s.cols, s.kernel1, s.kernel2));
}

// Pixels that are left of `size` after both convolutions and maxima; 0 if a kernel does not fit.
size_t left_of(size_t size, const LeNetShape& s) {
  for (const size_t kernel : {s.kernel1, s.kernel2}) size = size < kernel ? 0 : (size - kernel + 1) / 2;
  return size;
}

// The extents of a tensor that must have `dimensions` of them.
std::vector<size_t> extents(const std::filesystem::path& path, const SafeTensors& file, const char* name,
                            size_t dimensions) {
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end() || found->second.shape.size() != dimensions)
    throw Error(ErrorCode::corrupt,
                fmt::format("'{}': {} with {} dimensions is needed; this is not a LeNet in the layout of lenet.h",
                            path.string(), name, dimensions));
  return found->second.shape;
}

LeNetShape read_shape(const std::filesystem::path& path, const SafeTensors& file, size_t rows, size_t cols) {
  const std::vector<size_t> first = extents(path, file, "feature_extractor.0.weight", 4);
  const std::vector<size_t> second = extents(path, file, "feature_extractor.3.weight", 4);
  const std::vector<size_t> head = extents(path, file, "classifier.weight", 2);
  LeNetShape shape{rows, cols, first[0], first[2], second[0], second[2], head[0]};
  try {
    check_shape(shape);
  } catch (const Error& error) {
    throw Error(ErrorCode::corrupt, fmt::format("'{}': {}", path.string(), error.message));
  }
  return shape;
}

}  // namespace

Matrix normalized_pixels(ConstMatrixView pixels, const PixelScale& scale) {
  Matrix result = Matrix::uninitialized(pixels.rows, pixels.cols);
  parallel_ranges(pixels.rows, 64, [&](size_t begin, size_t end) {
    for (size_t i = begin * pixels.cols; i < end * pixels.cols; ++i)
      result.data()[i] = (pixels.data[i] / 255 - scale.mean) / scale.deviation;
  });
  return result;
}

LeNetShape LeNetShape::scaled(double s) {
  const auto round = [](double x) { return x >= 0.5 ? static_cast<size_t>(std::lround(x)) : size_t{0}; };
  if (!(s > 0 && s <= max_scale))
    throw Error(ErrorCode::bad_input, fmt::format("scale {}: give one in (0, {}]", s, max_scale));
  LeNetShape shape;
  shape.channels1 = round(4 * s);
  shape.kernel1 = s < 0.5 ? 3 : 5;
  shape.channels2 = s > 0.5 ? round(20 * s - 8) : round(4 * s);
  shape.kernel2 = s > 0.5 ? 5 : 3;
  if (shape.channels1 == 0 || shape.channels2 == 0)
    throw Error(ErrorCode::bad_input, fmt::format("scale {} leaves no channel; give a larger one", s));
  return shape;
}

size_t LeNetShape::features() const { return channels2 * left_of(rows, *this) * left_of(cols, *this); }

LeNet::LeNet(const LeNetShape& shape, uint64_t seed) : shape_(shape) {
  check_shape(shape);
  const LeNetTensors tensors(shape);
  parameters_.resize(tensors.size());
  RandomStream random(seed, "lenet");
  for (const LeNetTensor* tensor : tensors.all()) {
    const double bound = 1 / std::sqrt(static_cast<double>(tensor->inputs));
    for (size_t i = 0; i < tensor->size(); ++i)
      parameters_[tensor->offset + i] = static_cast<float>(bound * (2 * random.uniform() - 1));
  }
}

LeNet LeNet::open(const std::filesystem::path& path, size_t rows, size_t cols) {
  const SafeTensors file = SafeTensors::open(path);
  LeNet net;
  net.shape_ = read_shape(path, file, rows, cols);
  const LeNetTensors tensors(net.shape_);
  for (const LeNetTensor* tensor : tensors.all()) {
    const std::vector<size_t> shape = extents(path, file, tensor->name, tensor->shape.size());
    if (shape != tensor->shape)
      throw Error(
          ErrorCode::corrupt,
          fmt::format("'{}': {} is [{}], not [{}] as the other tensors and images of {} x {} pixels need",
                      path.string(), tensor->name, fmt::join(shape, ", "), fmt::join(tensor->shape, ", "), rows, cols));
  }
  net.parameters_.resize(tensors.size());
  for (const LeNetTensor* tensor : tensors.all()) {
    const Matrix values = file.matrix(tensor->name);
    if (!std::all_of(values.data(), values.data() + values.size(), [](float value) { return std::isfinite(value); }))
      throw Error(ErrorCode::corrupt, fmt::format("'{}': {} holds a value that is not finite; get the file again",
                                                  path.string(), tensor->name));
    std::copy_n(values.data(), values.size(), net.parameters_.data() + tensor->offset);
  }
  return net;
}

void LeNet::save(const std::filesystem::path& path) const {
  std::vector<NamedMatrix> named;
  const LeNetTensors tensors(shape_);
  for (const LeNetTensor* tensor : tensors.all())
    named.push_back({tensor->name,
                     {parameters_.data() + tensor->offset, tensor->size() / tensor->cols(), tensor->cols()},
                     tensor->shape});
  write_safetensors(path, named);
}

LinearHead LeNet::head() const {
  const LeNetTensors tensors(shape_);
  LinearHead head{Matrix::uninitialized(shape_.classes, shape_.features()), {}};
  std::copy_n(parameters_.data() + tensors.head_weight.offset, head.weights.size(), head.weights.data());
  head.bias.assign(parameters_.begin() + static_cast<ptrdiff_t>(tensors.head_bias.offset), parameters_.end());
  return head;
}

void check_images(const LeNetShape& shape, ConstMatrixView images) {
  if (images.cols != shape.rows * shape.cols)
    throw Error(ErrorCode::bad_input,
                fmt::format("images have {} pixels, this LeNet reads {} x {}", images.cols, shape.rows, shape.cols));
  for (size_t i = 0; i < images.rows; ++i)
    if (!std::ranges::all_of(images.row(i), [](float x) { return std::isfinite(x); }))
      throw Error(ErrorCode::bad_input, fmt::format("images: row {} holds a value that is not finite", i));
}

Matrix LeNet::features(ConstMatrixView images, const Watch& watch) const {
  check_images(shape_, images);
  Matrix result = Matrix::uninitialized(images.rows, shape_.features());
  LeNetShards shards(shape_);
  constexpr size_t at_a_time = 64;  // shards between two reports
  const size_t total = (images.rows + shard_images - 1) / shard_images;
  for (size_t done = 0; done < total; done += at_a_time) {
    watch.report("features", done * shard_images, images.rows);
    shards.run(std::min(at_a_time, total - done), [&](LeNetShard& shard, size_t i) {
      const size_t first = (done + i) * shard_images, count = std::min(shard_images, images.rows - first);
      std::copy_n(images.data + first * images.cols, count * images.cols, shard.images().data);
      const ConstMatrixView features = shard.features(parameters_, count);
      std::copy_n(features.data, count * features.cols, result.row(first).data());
    });
  }
  return result;
}

Matrix LeNet::logits(ConstMatrixView images, const Watch& watch) const {
  return head().logits(features(images, watch));
}

}  // namespace hone
