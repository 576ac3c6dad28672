// Some images through LeNet, forward and backward, on one thread: what images share a shard, and what thread works on
// it, changes no result.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "hone/lenet.h"
#include "images/convolution.h"
#include "images/lane_groups.h"
#include "images/max_pool.h"
#include "images/one_thread.h"

namespace hone {

constexpr size_t shard_images = 48;  // at most: whole groups of any number of lanes

// A tensor's place in LeNet::parameters().
struct LeNetTensor {
  const char* name;
  std::vector<size_t> shape;
  size_t offset;
  size_t inputs;  // of one unit

  size_t size() const;
  // As safetensors.h has it: [product of all but the last extent, last extent].
  size_t cols() const { return shape.back(); }
};

// In the order of a saved file.
struct LeNetTensors {
  explicit LeNetTensors(const LeNetShape& shape);

  LeNetTensor weight1, bias1, weight2, bias2, head_weight, head_bias;

  std::vector<const LeNetTensor*> all() const;
  size_t size() const { return head_bias.offset + head_bias.size(); }
};

// Throws Error{bad_input} for images of another size or values that are not finite.
void check_images(const LeNetShape& shape, ConstMatrixView images);

class LeNetShard {
 public:
  explicit LeNetShard(const LeNetShape& shape);

  // Where the caller puts the pixels [shard_images, rows·cols]; rows that are not needed hold anything finite.
  MatrixView images() { return images_; }
  // Of the first `count` images [count, d].
  ConstMatrixView features(std::span<const float> parameters, size_t count);
  // Σ −log p(y) over the first y.size() images, and `scale` times its gradient [parameters]; overwritten.
  double loss(std::span<const float> parameters, std::span<const int> y, float scale, std::span<float> gradient);

 private:
  // Work on so many groups only.
  void take(size_t groups);

  LeNetTensors tensors_;
  ConvolutionShape convolution1_, convolution2_;
  PoolShape pool1_, pool2_;
  size_t classes_;
  Matrix images_, features_, logits_, d_features_;  // a row an image
  // [plane, row · column · lane], as convolution.h and max_pool.h have it.
  Matrix pixels_, convolved1_, pooled1_, convolved2_, pooled2_;
  Matrix d_convolved1_, d_pooled1_, d_convolved2_, d_pooled2_;
};

// One shard for every thread, made when it is needed.
class LeNetShards {
 public:
  explicit LeNetShards(const LeNetShape& shape) : shape_(shape), shards_(static_cast<size_t>(threads())) {}

  // Calls body(shard, i) for i in [0, count).
  template <class Body>
  void run(size_t count, const Body& body) {
    const size_t workers = std::min(count, shards_.size());
    parallel_for(workers, [&](size_t worker) {
      const OneThread one;
      if (!shards_[worker]) shards_[worker].emplace(shape_);
      for (size_t i = worker; i < count; i += workers) body(*shards_[worker], i);
    });
  }

 private:
  LeNetShape shape_;
  std::vector<std::optional<LeNetShard>> shards_;
};

}  // namespace hone
