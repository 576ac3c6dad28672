// L-BFGS for heads (Liu and Nocedal 1989). A head's logits are linear in its weights, so along a line the objective
// costs no matrix product: an objective is asked for its value and two derivatives there, and the line search is
// Newton's.
#pragma once

#include <vector>

#include "heads/kernel.h"
#include "hone/base.h"

namespace hone {

// A convex function of `size` weights, seen from a point that moves.
class LineObjective {
 public:
  virtual ~LineObjective() = default;
  virtual void gradient(float* to) = 0;  // at the point
  // No entry of a gradient exceeds `tolerance`, in the objective's units.
  virtual bool flat(const float* gradient, double tolerance) const = 0;
  virtual void precondition(float*) const {}     // values → M⁻¹ values, M about proportional to the Hessian
  virtual void aim(const float* direction) = 0;  // lines start at the point and go along `direction`
  virtual LinePoint at(float t) = 0;             // on that line
  virtual void move(float t) = 0;                // makes the t that at() was asked for last the point
};

// One object minimises one function after another; nothing is allocated after construction.
class Lbfgs {
 public:
  explicit Lbfgs(size_t most_weights, size_t memory = 8);

  void start(size_t size);  // forgets everything; the next function has `size` weights
  // One iteration. False, with the objective unmoved, if the gradient is flat within `tolerance` or no step
  // decreases the value in single precision.
  bool step(LineObjective& objective, double tolerance);

 private:
  void find_direction(const LineObjective& objective);
  float search(LineObjective& objective, double slope, float first);
  void remember(float t);

  size_t size_;
  Matrix changes_, gradient_changes_;  // [memory, size], a ring
  std::vector<double> products_;       // 1 / <change, gradient change>
  std::vector<double> coefficients_;
  Matrix gradient_, next_gradient_, direction_;  // [1, size]; the kernel wants them aligned
  size_t count_ = 0;                             // pairs remembered since start(), the last `memory` of them held
  bool begun_ = false;
  double value_ = 0;
};

}  // namespace hone
