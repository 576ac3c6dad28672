#include "heads/local_trainer.h"

#include <algorithm>
#include <cmath>

namespace hone {
namespace {

// The mean cross-entropy of `points` plus ridge/2 times the squared distance from the start, as a function of the
// change of the weights.
class LocalObjective : public LineObjective {
 public:
  // logits: of the start, moved along. All but points are tile lists of `classes` rows; weights come as zeros.
  LocalObjective(const LocalPoints& points, size_t classes, float ridge, float* logits, float* change, float* residuals,
                 float* weights, MomentInverse moments)
      : points_(points),
        classes_(classes),
        ridge_(ridge),
        logits_(logits),
        change_(change),
        residuals_(residuals),
        weights_(weights),
        moments_(moments),
        size_(tile_list_size(classes, points.features)) {
    std::copy_n(logits, tile_list_size(classes, points.points), residuals);
    local_residuals(points, classes, residuals);
    local_moments(points, moments_);
  }

  bool flat(const float* gradient, double tolerance) const override {
    return std::all_of(gradient, gradient + size_, [&](float g) { return std::abs(g) <= tolerance; });
  }
  void gradient(float* to) override {
    local_gradient(points_, residuals_, classes_, to);
    add_scaled(ridge_, weights_, to, size_);
  }
  void precondition(float* values) const override { local_precondition(moments_, classes_, points_.features, values); }
  void aim(const float* direction) override {
    direction_ = direction;
    local_logits(points_, direction, classes_, change_);
    square_ = dot(weights_, weights_, size_);
    product_ = dot(weights_, direction, size_);
    direction_square_ = dot(direction, direction, size_);
  }
  LinePoint at(float t) override {
    LinePoint p = local_line(points_, classes_, logits_, change_, t, residuals_);
    p.value += 0.5 * ridge_ * (square_ + 2.0 * t * product_ + static_cast<double>(t) * t * direction_square_);
    p.slope += ridge_ * (product_ + t * direction_square_);
    p.curvature += ridge_ * direction_square_;
    return p;
  }
  void move(float t) override {
    add_scaled(t, direction_, weights_, size_);
    add_scaled(t, change_, logits_, tile_list_size(classes_, points_.points));
  }

 private:
  const LocalPoints& points_;
  size_t classes_;
  float ridge_;
  float *logits_, *change_, *residuals_, *weights_;
  MomentInverse moments_;
  size_t size_;
  const float* direction_ = nullptr;
  double square_ = 0, product_ = 0, direction_square_ = 0;
};

constexpr double local_tolerance = 1e-6;  // of a gradient's entry

}  // namespace

LocalTrainer::LocalTrainer(const LinearHead& start, ConstMatrixView x, std::span<const int> y, size_t k,
                           const LocalTraining& training, bool left_out)
    : x_(x),
      y_(y),
      training_(training),
      checkpoints_(checkpoints_of(training)),
      classes_(start.classes()),
      features_(start.dimension() + 1),
      all_(k, x.cols),
      even_(left_out ? (k + 1) / 2 : 0, x.cols),
      odd_(left_out ? k / 2 : 0, x.cols),
      query_(1, x.cols),
      start_(1, tile_list_size(classes_, features_)),
      weights_(1, start_.size()),
      logits_(1, tile_list_size(classes_, k)),
      asked_logits_(1, tile_list_size(classes_, std::max<size_t>(left_out ? (k + 1) / 2 : 0, 1))),
      first_(1, training.solver == LocalSolver::adam ? start_.size() : 0),
      second_(1, first_.size()),
      scratch_(1, training.solver == LocalSolver::adam ? classes_ * tile_width() : 0),
      change_(1, training.solver == LocalSolver::lbfgs ? logits_.size() : 0),
      residuals_(1, change_.size()),
      mean_(1, training.solver == LocalSolver::lbfgs ? tile_list_size(1, features_) : 0),
      asked_start_(1, training.solver == LocalSolver::lbfgs ? asked_logits_.size() : 0),
      lbfgs_(training.solver == LocalSolver::lbfgs ? start_.size() : 0),
      basis_(training.solver == LocalSolver::lbfgs ? std::min(k, features_) : 0,
             std::max<size_t>(left_out ? (k + 1) / 2 : 0, 1)) {
  const size_t width = tile_width();
  for (size_t c = 0; c < classes_; ++c)
    for (size_t f = 0; f < features_; ++f)
      start_.data()[(f / width * classes_ + c) * width + f % width] =
          f + 1 < features_ ? start.weights.row(c)[f] : start.bias[c];
}

template <class Ask>
void LocalTrainer::train_adam(const LocalPoints& points, const LocalPoints& asked, const Ask& ask) {
  std::copy_n(start_.data(), start_.size(), weights_.data());
  std::fill_n(first_.data(), first_.size(), 0.0F);
  std::fill_n(second_.data(), second_.size(), 0.0F);
  size_t next = 0;
  double power1 = 1, power2 = 1;
  for (int step = 0;; ++step) {
    if (checkpoints_[next] == step) {
      local_logits(asked, weights_.data(), classes_, asked_logits_.data());
      ask(next, asked_logits_.data());
      if (++next == checkpoints_.size()) return;
    }
    power1 *= adam_beta1;
    power2 *= adam_beta2;
    local_logits(points, weights_.data(), classes_, logits_.data());
    local_residuals(points, classes_, logits_.data());
    const AdamStep adam{static_cast<float>(training_.learning_rate / (1 - power1)),
                        static_cast<float>(1 / std::sqrt(1 - power2))};
    local_adam_step(points, logits_.data(), classes_, adam, weights_.data(), first_.data(), second_.data(),
                    scratch_.data());
  }
}

// An iteration costs two products with the points; in their own basis these are of k instead of d features.
bool LocalTrainer::worth_reducing(const LocalPoints& points) const {
  constexpr size_t iterations = 10;
  return !keep_features_ && points.points < features_ &&
         points.points * features_ < 2 * iterations * classes_ * (features_ - points.points);
}

template <class Ask>
void LocalTrainer::train_lbfgs(const LocalPoints& points, const LocalPoints& asked, const Ask& ask) {
  local_logits(points, start_.data(), classes_, logits_.data());
  local_logits(asked, start_.data(), classes_, asked_start_.data());
  const bool reduce = worth_reducing(points);
  const LocalPoints& seen = reduce ? basis_.reduce(points) : points;
  const LocalPoints& questions = reduce ? basis_.project(asked) : asked;
  const size_t size = tile_list_size(classes_, seen.features);
  std::fill_n(weights_.data(), size, 0.0F);
  LocalObjective objective(seen, classes_, training_.ridge, logits_.data(), change_.data(), residuals_.data(),
                           weights_.data(), {mean_.data()});
  lbfgs_.start(size);
  size_t next = 0;
  bool moving = true;
  for (int step = 0;; ++step) {
    if (checkpoints_[next] == step) {
      local_logits(questions, weights_.data(), classes_, asked_logits_.data());
      add_scaled(1, asked_start_.data(), asked_logits_.data(), tile_list_size(classes_, asked.points));
      ask(next, asked_logits_.data());
      if (++next == checkpoints_.size()) return;
    }
    moving = moving && lbfgs_.step(objective, local_tolerance);
  }
}

template <class Ask>
void LocalTrainer::train(const LocalPoints& points, const LocalPoints& asked, const Ask& ask) {
  if (asked.points == 0) return;
  if (points.points == 0) {
    local_logits(asked, start_.data(), classes_, asked_logits_.data());
    for (size_t j = 0; j < checkpoints_.size(); ++j) ask(j, asked_logits_.data());
    return;
  }
  if (training_.solver == LocalSolver::adam) return train_adam(points, asked, ask);
  train_lbfgs(points, asked, ask);
}

void LocalTrainer::answer(std::span<const int64_t> ids, std::span<const float> query, std::span<float* const> logits,
                          float* left_out) {
  all_.gather(x_, y_, ids);
  query_.gather(query);
  train(all_.points, query_.points, [&](size_t j, const float* said) {
    for (size_t c = 0; c < classes_; ++c) logits[j][c] = said[c * tile_width()];
  });
  if (left_out == nullptr) return;
  even_.gather(x_, y_, ids, 0, 2);
  odd_.gather(x_, y_, ids, 1, 2);
  std::fill_n(left_out, checkpoints_.size(), 0.0F);
  const auto train_half = [&](const LocalPoints& seen, const LocalPoints& unseen) {
    train(seen, unseen,
          [&](size_t j, const float* said) { left_out[j] += static_cast<float>(local_loss(unseen, classes_, said)); });
  };
  train_half(even_.points, odd_.points);
  train_half(odd_.points, even_.points);
}

LinearHead LocalTrainer::head(std::span<const int64_t> ids) {
  all_.gather(x_, y_, ids);
  query_.gather(x_.row(0));
  std::copy_n(start_.data(), start_.size(), weights_.data());
  keep_features_ = true;
  train(all_.points, query_.points, [](size_t, const float*) {});
  keep_features_ = false;
  if (training_.solver == LocalSolver::lbfgs && all_.points.points > 0)
    add_scaled(1, start_.data(), weights_.data(), start_.size());
  LinearHead head{Matrix::uninitialized(classes_, features_ - 1), std::vector<float>(classes_)};
  const size_t width = tile_width();
  for (size_t c = 0; c < classes_; ++c)
    for (size_t f = 0; f < features_; ++f)
      (f + 1 < features_ ? head.weights.row(c)[f] : head.bias[c]) =
          weights_.data()[(f / width * classes_ + c) * width + f % width];
  return head;
}

}  // namespace hone
