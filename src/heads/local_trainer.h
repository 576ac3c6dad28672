// One thread's memory for training local heads, query after query.
#pragma once

#include "heads/kernel.h"
#include "heads/lbfgs.h"
#include "hone/heads.h"

namespace hone {

// Room for some points and their labels in both orientations. The last feature is the constant 1, whose weight is the
// bias.
class PointRoom {
 public:
  PointRoom(size_t most_points, size_t dimension);
  // The rows ids[first], ids[first + step], … of x; −1 is left out.
  void gather(ConstMatrixView x, std::span<const int> y, std::span<const int64_t> ids, size_t first = 0,
              size_t step = 1);
  void gather(std::span<const float> query);

  LocalPoints points;

 private:
  void fill();

  Matrix values_;
  std::vector<const float*> rows_;
  size_t dimension_;
};

// The same points as seen from themselves: their Gram is Uᵀ U (Cholesky), and with column i of U as the features of
// point i all inner products stay what they are, in as many dimensions as there are points. So does a ridge objective.
class GramBasis {
 public:
  GramBasis(size_t most_points, size_t most_asked);
  // Features of `points` in the new basis; labels stay theirs.
  const LocalPoints& reduce(const LocalPoints& points);
  // Features of other points: their projections. Only by_feature is there.
  const LocalPoints& project(const LocalPoints& asked);

 private:
  Matrix upper_, by_point_, asked_;
  std::vector<float> inverse_pivots_;
  LocalPoints from_, reduced_, projected_;
};

class LocalTrainer {
 public:
  // Queries of at most k neighbours; what the views show must outlive the trainer.
  LocalTrainer(const LinearHead& start, ConstMatrixView x, std::span<const int> y, size_t k,
               const LocalTraining& training, bool left_out);

  // Logits [C] of `query` at every checkpoint; left_out [checkpoints], or nullptr.
  void answer(std::span<const int64_t> ids, std::span<const float> query, std::span<float* const> logits,
              float* left_out);
  // The head that training ends with.
  LinearHead head(std::span<const int64_t> ids);

 private:
  // Trains on `points` and calls ask(j, logits of `asked`, a tile list [classes by points]) at checkpoint j.
  template <class Ask>
  void train(const LocalPoints& points, const LocalPoints& asked, const Ask& ask);
  template <class Ask>
  void train_adam(const LocalPoints& points, const LocalPoints& asked, const Ask& ask);
  template <class Ask>
  void train_lbfgs(const LocalPoints& points, const LocalPoints& asked, const Ask& ask);
  bool worth_reducing(const LocalPoints& points) const;

  ConstMatrixView x_;
  std::span<const int> y_;
  const LocalTraining& training_;
  std::vector<int> checkpoints_;
  size_t classes_, features_;
  PointRoom all_, even_, odd_, query_;
  // Tile lists [classes by features] and [classes by points].
  Matrix start_, weights_, logits_, asked_logits_;
  Matrix first_, second_, scratch_;                 // Adam
  Matrix change_, residuals_, mean_, asked_start_;  // L-BFGS
  Lbfgs lbfgs_;
  GramBasis basis_;
  bool keep_features_ = false;
};

// {steps} if none are named. Throws Error{bad_input}.
std::vector<int> checkpoints_of(const LocalTraining& training);

}  // namespace hone
