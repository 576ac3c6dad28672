// Times one shard of images through LeNet, forward and backward, on one thread, at the published widths. Prints medians
// and the products' GFLOP/s, of which lanes that hold no image are no part.
#include "hone/lenet.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/random.h"
#include "images/lenet_shard.h"

int main() {
  using namespace hone;
  constexpr int repeats = 51;
  set_threads(1);
  for (const double scale : {.35, .5, .7, 1., 1.9, 4.}) {
    const LeNetShape shape = LeNetShape::scaled(scale);
    const LeNet net(shape);
    LeNetShard shard(shape);
    RandomStream(0, "images").normals({shard.images().data, shard_images * shape.rows * shape.cols}, 1);
    std::vector<int> labels(shard_images);
    for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int>(i % shape.classes);
    std::vector<float> gradient(net.parameters().size());
    std::vector<double> seconds;
    for (int repeat = 0; repeat < repeats; ++repeat) {
      const auto start = std::chrono::steady_clock::now();
      shard.loss(net.parameters(), labels, 1.0F / shard_images, gradient);
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::ranges::nth_element(seconds, seconds.begin() + repeats / 2);
    const double median = seconds[repeats / 2];
    const auto square = [](size_t x) { return static_cast<double>(x * x); };
    const size_t out1 = shape.rows - shape.kernel1 + 1, out2 = out1 / 2 - shape.kernel2 + 1;
    const double first = square(out1) * square(shape.kernel1) * static_cast<double>(shape.channels1);
    const double second = square(out2) * square(shape.kernel2) * static_cast<double>(shape.channels1 * shape.channels2);
    // The first convolution's input has no gradient.
    fmt::print("width {:4}: {:7.3f} ms, {:5.1f} GFLOP/s\n", shape.features(), 1e3 * median,
               2e-9 * shard_images * (2 * first + 3 * second) / median);
  }
}
