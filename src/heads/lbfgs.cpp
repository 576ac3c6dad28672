#include "heads/lbfgs.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hone {

Lbfgs::Lbfgs(size_t most_weights, size_t memory)
    : size_(most_weights),
      changes_(memory, most_weights),
      gradient_changes_(memory, most_weights),
      products_(memory),
      coefficients_(memory),
      gradient_(1, most_weights),
      next_gradient_(1, most_weights),
      direction_(1, most_weights) {}

void Lbfgs::start(size_t size) {
  size_ = size;
  count_ = 0;
  begun_ = false;
}

// The two-loop recursion: −(approximate inverse Hessian) · gradient.
void Lbfgs::find_direction(const LineObjective& objective) {
  const size_t memory = changes_.rows(), held = std::min(count_, memory);
  std::transform(gradient_.data(), gradient_.data() + size_, direction_.data(), [](float g) { return -g; });
  for (size_t back = 1; back <= held; ++back) {
    const size_t i = (count_ - back) % memory;
    coefficients_[i] = products_[i] * dot(changes_.row(i).data(), direction_.data(), size_);
    add_scaled(static_cast<float>(-coefficients_[i]), gradient_changes_.row(i).data(), direction_.data(), size_);
  }
  objective.precondition(direction_.data());
  if (held > 0) {
    const size_t last = (count_ - 1) % memory;
    const float* y = gradient_changes_.row(last).data();
    float* scaled = next_gradient_.data();
    std::copy_n(y, size_, scaled);
    objective.precondition(scaled);
    const auto scale = static_cast<float>(1 / (products_[last] * dot(y, scaled, size_)));
    for (size_t j = 0; j < size_; ++j) direction_.data()[j] *= scale;
  }
  for (size_t back = held; back >= 1; --back) {
    const size_t i = (count_ - back) % memory;
    const double other = products_[i] * dot(gradient_changes_.row(i).data(), direction_.data(), size_);
    add_scaled(static_cast<float>(coefficients_[i] - other), changes_.row(i).data(), direction_.data(), size_);
  }
}

// A t > 0 that satisfies the strong Wolfe conditions, or 0 if rounding leaves none; the last that at() was asked for.
float Lbfgs::search(LineObjective& objective, double slope, float first) {
  constexpr double sufficient = 1e-4, flat = 0.5, rounding = 1e-7;
  constexpr int most = 25;
  constexpr float most_growth = 8;
  float low = 0, high = std::numeric_limits<float>::infinity(), t = first;
  for (int i = 0; i < most && t > 0; ++i) {
    const LinePoint p = objective.at(t);
    const bool decreased = p.value <= value_ + sufficient * t * slope + rounding * std::abs(value_);
    if (decreased && std::abs(p.slope) <= -flat * slope) {
      value_ = p.value;
      return t;
    }
    (decreased && p.slope < 0 ? low : high) = t;
    const float newton = t - static_cast<float>(p.slope / p.curvature);
    const float least = high < std::numeric_limits<float>::infinity() ? low + 0.05F * (high - low) : t * 1.1F;
    const float greatest =
        high < std::numeric_limits<float>::infinity() ? high - 0.05F * (high - low) : t * most_growth;
    t = newton > least && newton < greatest ? newton : std::isinf(high) ? greatest : (low + high) / 2;
  }
  return 0;
}

void Lbfgs::remember(float t) {
  const size_t i = count_ % changes_.rows();
  float *s = changes_.row(i).data(), *y = gradient_changes_.row(i).data();
  for (size_t j = 0; j < size_; ++j) s[j] = t * direction_.data()[j];
  for (size_t j = 0; j < size_; ++j) y[j] = next_gradient_.data()[j] - gradient_.data()[j];
  const double product = dot(s, y, size_);
  if (product <= 1e-8 * std::sqrt(dot(s, s, size_) * dot(y, y, size_))) return;  // nothing but rounding
  products_[i] = 1 / product;
  ++count_;
}

bool Lbfgs::step(LineObjective& objective, double tolerance) {
  if (!begun_) objective.gradient(gradient_.data());
  if (objective.flat(gradient_.data(), tolerance)) return false;
  find_direction(objective);
  double slope = dot(gradient_.data(), direction_.data(), size_);
  if (!(slope < 0)) {  // rounding has spoiled the memory
    count_ = 0;
    find_direction(objective);
    slope = dot(gradient_.data(), direction_.data(), size_);
    if (!(slope < 0)) return false;
  }
  objective.aim(direction_.data());
  float first = 1;
  if (!begun_ || count_ == 0) {
    const LinePoint here = objective.at(0);
    value_ = here.value;
    first = static_cast<float>(here.curvature > 0 ? -slope / here.curvature : 1 / -slope);
  }
  begun_ = true;
  const float t = search(objective, slope, first);
  if (t == 0) {
    objective.at(0);
    objective.move(0);
    return false;
  }
  objective.move(t);
  objective.gradient(next_gradient_.data());
  remember(t);
  std::swap(gradient_, next_gradient_);
  return true;
}

}  // namespace hone
