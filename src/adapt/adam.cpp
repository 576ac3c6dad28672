#include <fmt/format.h>

#include <cmath>

#include "base/parallel.h"
#include "hone/adapt.h"

namespace hone {

Adam::Adam(float learning_rate, float beta1, float beta2, float epsilon)
    : learning_rate_(learning_rate), beta1_(beta1), beta2_(beta2), epsilon_(epsilon) {}

void Adam::update(Matrix& values, const Matrix& gradient, Moments& moments) const {
  if (moments.first.empty()) {
    moments.first = Matrix(values.rows(), values.cols());
    moments.second = Matrix(values.rows(), values.cols());
  }
  const float correction1 = 1 - std::pow(beta1_, static_cast<float>(steps_));
  const float correction2 = 1 - std::pow(beta2_, static_cast<float>(steps_));
  parallel_ranges(values.size(), 1 << 12, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const float g = gradient.data()[i];
      float &m = moments.first.data()[i], &v = moments.second.data()[i];
      m = beta1_ * m + (1 - beta1_) * g;
      v = beta2_ * v + (1 - beta2_) * g * g;
      values.data()[i] -= learning_rate_ * (m / correction1) / (std::sqrt(v / correction2) + epsilon_);
    }
  });
}

void Adam::step(Adapter& adapter, const std::map<MatrixId, Adapter::LowRank>& gradients) {
  ++steps_;
  for (const auto& [id, gradient] : gradients) {
    const auto pair = adapter.low_rank.find(id);
    if (pair == adapter.low_rank.end())
      throw Error(ErrorCode::bad_input, fmt::format("a gradient of {}, where the adapter has no LoRA", name(id)));
    auto& [a, b] = moments_[id];
    update(pair->second.a, gradient.a, a);
    update(pair->second.b, gradient.b, b);
  }
}

}  // namespace hone
