#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/flushed.h"
#include "base/parallel.h"
#include "base/random.h"
#include "heads/checks.h"
#include "heads/lbfgs.h"
#include "hone/heads.h"
#include "model/gemm.h"

namespace hone {
namespace {

constexpr double far_from_flat = 0.01;  // an entry of a gradient where no minimum is near
constexpr double least_variation = std::numeric_limits<float>::epsilon();  // of a column, beside its mean
constexpr size_t chunk = 256;  // rows whose sums are one term, whatever the number of threads

[[noreturn]] void refuse_fit(const HeadFit& fit) {
  throw Error(ErrorCode::bad_input,
              fmt::format("head fit: no minimum was found in {} iterations; scale the features, e.g. to variance 1, or "
                          "give a larger ridge than {}",
                          fit.max_iterations, fit.ridge));
}

// Columns less their means. One that varies by less than a float's rounding of its mean is taken as constant: 0.
struct Centred {
  explicit Centred(ConstMatrixView from)
      : x(Matrix::uninitialized(from.rows, from.cols)), mean(from.cols), spread(from.cols) {
    const auto n = static_cast<double>(from.rows);
    for (size_t i = 0; i < from.rows; ++i)
      for (size_t j = 0; j < from.cols; ++j) mean[j] += from.row(i)[j] / n;
    for (size_t i = 0; i < from.rows; ++i)
      for (size_t j = 0; j < from.cols; ++j) {
        const double value = from.row(i)[j] - mean[j];
        x.row(i)[j] = static_cast<float>(value);
        spread[j] += value * value / n;
      }
    for (size_t j = 0; j < from.cols; ++j) {
      const double rounding = least_variation * mean[j];
      if (spread[j] > rounding * rounding) continue;
      spread[j] = 0;
      for (size_t i = 0; i < from.rows; ++i) x.row(i)[j] = 0;
    }
  }

  Matrix x;
  std::vector<double> mean, spread;  // variance
};

// (1/n) Σ_i −log softmax(W x_i + b)[y_i] + (ridge/2) ‖W‖² of weights laid out as W [C, d], then b + Wμ [C]: where the
// columns' means μ are large beside their deviations, W and b hold each other fast.
class GlobalObjective : public LineObjective {
 public:
  GlobalObjective(ConstMatrixView x, std::span<const int> y, size_t classes, double ridge)
      : centred_(x),
        x_(centred_.x),
        packed_(x_),
        y_(y),
        classes_(classes),
        ridge_(ridge),
        weights_(1, classes * (x.cols + 1)),
        logits_(x.rows, classes),
        change_(x.rows, classes),
        residuals_(x.rows, classes) {
    at(0);
  }

  size_t size() const { return weights_.size(); }
  void gradient(float* to) override {
    const size_t matrix = classes_ * x_.cols;
    linear_backward_weight(residuals_, x_, {to, classes_, x_.cols});
    add_scaled(static_cast<float>(ridge_), weights_.data(), to, matrix);
    std::vector<double> sums(classes_);
    for (size_t i = 0; i < x_.rows; ++i)
      for (size_t c = 0; c < classes_; ++c) sums[c] += residuals_.row(i)[c];
    std::ranges::copy(sums, to + matrix);
  }
  void precondition(float* values) const override {
    for (size_t i = 0; i < size(); ++i)
      if (const double here = curvature(i); here > 0) values[i] = static_cast<float>(values[i] / here);
  }
  // In units in which a bias has curvature 1.
  bool flat(const float* gradient, double tolerance) const override {
    const double bias = curvature(size() - 1);
    for (size_t i = 0; i < size(); ++i)
      if (!(std::abs(gradient[i]) <= tolerance * std::sqrt(curvature(i) / bias))) return false;
    return true;
  }
  void aim(const float* direction) override {
    direction_ = direction;
    const size_t matrix = classes_ * x_.cols;
    for (size_t i = 0; i < x_.rows; ++i) std::copy_n(direction + matrix, classes_, change_.row(i).begin());
    linear_forward(packed_, 0, x_.rows, {direction, classes_, x_.cols}, change_, true);
    square_ = dot(weights_.data(), weights_.data(), matrix);
    product_ = dot(weights_.data(), direction, matrix);
    direction_square_ = dot(direction, direction, matrix);
  }
  LinePoint at(float t) override {
    std::vector<LinePoint> parts((x_.rows + chunk - 1) / chunk);
    parallel_for(parts.size(), [&](size_t part) {
      for (size_t i = part * chunk; i < std::min(x_.rows, (part + 1) * chunk); ++i) add_row(i, t, parts[part]);
    });
    LinePoint sum;
    const auto n = static_cast<double>(x_.rows);
    for (const LinePoint& part : parts) {
      sum.value += part.value / n;
      sum.slope += part.slope / n;
      sum.curvature += part.curvature / n;
    }
    sum.value += 0.5 * ridge_ * (square_ + 2.0 * t * product_ + static_cast<double>(t) * t * direction_square_);
    sum.slope += ridge_ * (product_ + t * direction_square_);
    sum.curvature += ridge_ * direction_square_;
    return sum;
  }
  void move(float t) override {
    add_scaled(t, direction_, weights_.data(), weights_.size());
    add_scaled(t, change_.data(), logits_.data(), logits_.size());
  }

  LinearHead head() const {
    LinearHead head{Matrix::uninitialized(classes_, x_.cols), std::vector<float>(classes_)};
    std::copy_n(weights_.data(), head.weights.size(), head.weights.data());
    for (size_t c = 0; c < classes_; ++c) {
      double bias = weights_.data()[head.weights.size() + c];
      for (size_t j = 0; j < x_.cols; ++j) bias -= head.weights.row(c)[j] * centred_.mean[j];
      head.bias[c] = static_cast<float>(bias);
    }
    return head;
  }

 private:
  // The Hessian's diagonal at 0, where every class has probability 1/C.
  double curvature(size_t i) const {
    const double share = static_cast<double>(classes_ - 1) / static_cast<double>(classes_ * classes_);
    return i < classes_ * x_.cols ? share * centred_.spread[i % x_.cols] + ridge_ : share;
  }
  void add_row(size_t i, float t, LinePoint& sum) {
    const auto x = logits_.row(i), dx = change_.row(i), r = residuals_.row(i);
    const auto y = static_cast<size_t>(y_[i]);
    for (size_t c = 0; c < classes_; ++c) r[c] = x[c] + t * dx[c];
    const float top = *std::ranges::max_element(r), own = r[y];
    double total = 0, mean = 0, square = 0;
    for (size_t c = 0; c < classes_; ++c) {
      r[c] = std::exp(r[c] - top);
      const double relative = dx[c] - dx[y];
      total += r[c];
      mean += r[c] * relative;
      square += r[c] * relative * relative;
    }
    mean /= total;
    sum.value += static_cast<double>(top) - own + std::log(total);
    sum.slope += mean;
    sum.curvature += square / total - mean * mean;
    const auto share = 1 / static_cast<float>(x_.rows);
    const auto inverse = static_cast<float>(1 / total);
    for (float& value : r) value = flushed(value * inverse) * share;
    r[y] -= share;
  }

  Centred centred_;
  ConstMatrixView x_;
  PackedRows packed_;
  std::span<const int> y_;
  size_t classes_;
  double ridge_;
  Matrix weights_, logits_, change_, residuals_;
  const float* direction_ = nullptr;
  double square_ = 0, product_ = 0, direction_square_ = 0;
};

}  // namespace

LinearHead fit_head(ConstMatrixView x, std::span<const int> y, size_t classes, const HeadFit& fit, const Watch& watch) {
  check_points(x, y, classes);
  if (!(fit.ridge >= 0 && std::isfinite(fit.ridge)))
    throw Error(ErrorCode::bad_input, fmt::format("head fit: ridge is {}; give 0 or more", fit.ridge));
  GlobalObjective objective(x, y, classes, fit.ridge);
  Lbfgs lbfgs(objective.size());
  lbfgs.start(objective.size());
  for (int i = 0; i < fit.max_iterations; ++i) {
    watch.report("global head", static_cast<size_t>(i), static_cast<size_t>(fit.max_iterations));
    if (!lbfgs.step(objective, fit.tolerance)) break;
  }
  Matrix slope(1, objective.size());
  objective.gradient(slope.data());
  if (fit.max_iterations > 0 && !objective.flat(slope.data(), std::max(far_from_flat, fit.tolerance))) refuse_fit(fit);
  return objective.head();
}

LinearHead fit_head_adam(ConstMatrixView x, std::span<const int> y, size_t classes, const AdamFit& fit,
                         const Watch& watch) {
  check_points(x, y, classes);
  if (fit.batch == 0 || fit.epochs < 0 || !(fit.learning_rate > 0 && std::isfinite(fit.learning_rate)))
    throw Error(ErrorCode::bad_input, fmt::format("head fit: batch {}, epochs {} and learning_rate {} must be positive",
                                                  fit.batch, fit.epochs, fit.learning_rate));
  RandomStream random(fit.seed, "head");
  LinearHead head{Matrix::uninitialized(classes, x.cols), std::vector<float>(classes)};
  const double bound = 1 / std::sqrt(static_cast<double>(x.cols));
  const auto draw = [&](float& value) { value = static_cast<float>(bound * (2 * random.uniform() - 1)); };
  std::for_each_n(head.weights.data(), head.weights.size(), draw);
  std::ranges::for_each(head.bias, draw);

  const size_t matrix = head.weights.size(), most = std::min(fit.batch, x.rows);
  std::vector<float> first(matrix + classes), second(matrix + classes), bias_gradient(classes);
  Matrix gradient(classes, x.cols), rows(most, x.cols), logits(most, classes);
  std::vector<size_t> order(x.rows);
  std::iota(order.begin(), order.end(), 0);
  double power1 = 1, power2 = 1;
  const auto step = [&](float* values, const float* g, size_t count, size_t offset) {
    const auto rate = static_cast<float>(fit.learning_rate / (1 - power1));
    const auto correction = static_cast<float>(1 / std::sqrt(1 - power2));
    for (size_t i = 0; i < count; ++i) {
      float &m = first[offset + i], &v = second[offset + i];
      m = adam_beta1 * m + (1 - adam_beta1) * g[i];
      v = adam_beta2 * v + (1 - adam_beta2) * g[i] * g[i];
      values[i] -= rate * m / (std::sqrt(v) * correction + adam_epsilon);
    }
  };
  for (int epoch = 0; epoch < fit.epochs; ++epoch) {
    watch.report("global head", static_cast<size_t>(epoch), static_cast<size_t>(fit.epochs));
    random.shuffle(std::span(order));
    for (size_t begin = 0; begin < x.rows; begin += fit.batch) {
      watch.cancel.check();
      const size_t count = std::min(fit.batch, x.rows - begin);
      for (size_t i = 0; i < count; ++i) std::ranges::copy(x.row(order[begin + i]), rows.row(i).begin());
      const ConstMatrixView batch = rows.view().row_range(0, count);
      const MatrixView residuals = logits.view().row_range(0, count);
      for (size_t i = 0; i < count; ++i) std::ranges::copy(head.bias, residuals.row(i).begin());
      linear_forward(batch, head.weights, residuals, true);
      log_softmax(residuals);
      std::ranges::fill(bias_gradient, 0.0F);
      for (size_t i = 0; i < count; ++i) {
        const auto r = residuals.row(i);
        const auto share = 1 / static_cast<float>(count);
        for (float& value : r) value = flushed(std::exp(value)) * share;
        r[static_cast<size_t>(y[order[begin + i]])] -= share;
        for (size_t c = 0; c < classes; ++c) bias_gradient[c] += r[c];
      }
      linear_backward_weight(residuals, batch, gradient);
      power1 *= adam_beta1;
      power2 *= adam_beta2;
      step(head.weights.data(), gradient.data(), matrix, 0);
      step(head.bias.data(), bias_gradient.data(), classes, matrix);
    }
  }
  if (!is_finite(head.weights))
    throw Error(
        ErrorCode::bad_input,
        fmt::format("head fit: it diverged: its weights are not finite after {} epochs at learning_rate {}; give "
                    "a smaller learning_rate or fewer epochs, or scale the features",
                    fit.epochs, fit.learning_rate));
  return head;
}

CrossFit cross_fit(ConstMatrixView x, std::span<const int> y, size_t classes, int folds, const HeadFit& fit,
                   uint64_t seed, const Watch& watch) {
  check_points(x, y, classes);
  if (folds < 2 || static_cast<size_t>(folds) > x.rows)
    throw Error(ErrorCode::bad_input,
                fmt::format("cross-fit: {} folds of {} points; give 2 to {}", folds, x.rows, x.rows));
  // Dealt out class by class.
  std::vector<size_t> order(x.rows);
  std::iota(order.begin(), order.end(), 0);
  RandomStream(seed, "folds").shuffle(std::span(order));
  std::ranges::stable_sort(order, {}, [&](size_t i) { return y[i]; });
  CrossFit result{{}, std::vector<int>(x.rows)};
  for (size_t i = 0; i < order.size(); ++i) result.fold[order[i]] = static_cast<int>(i % static_cast<size_t>(folds));
  for (int f = 0; f < folds; ++f) {
    std::vector<int> labels;
    for (size_t i = 0; i < x.rows; ++i)
      if (result.fold[i] != f) labels.push_back(y[i]);
    Matrix rows = Matrix::uninitialized(labels.size(), x.cols);
    for (size_t i = 0, to = 0; i < x.rows; ++i)
      if (result.fold[i] != f) std::ranges::copy(x.row(i), rows.row(to++).begin());
    result.heads.push_back(fit_head(rows, labels, classes, fit, watch));
  }
  return result;
}

}  // namespace hone
