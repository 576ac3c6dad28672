#include "interpret/revival.h"

#include <algorithm>
#include <numeric>

#include "base/parallel.h"
#include "interpret/sparse.h"
#include "model/gemm.h"

namespace hone {
namespace {

// Everything outside the k largest of a row counts as 0.
void keep_only(std::span<float> values, size_t k, Selection& selection) {
  select_largest(values, k, selection);
  size_t next = 0;
  for (const uint32_t kept : selection.features) {
    std::fill(values.data() + next, values.data() + kept, 0.0F);
    next = kept + 1;
  }
  std::fill(values.data() + next, values.data() + values.size(), 0.0F);
}

}  // namespace

Revived revive(const SaeTraining& training, std::span<const uint32_t> dead, ConstMatrixView error, MatrixView values,
               ConstMatrixView centred, ConstMatrixView directions) {
  const size_t n = error.rows, d = error.cols;
  const bool few = training.revival == Revival::auxiliary_k;
  const double weight = few ? training.auxiliary_weight : 1, cells = static_cast<double>(n) * static_cast<double>(d);
  Revived result{.place = std::vector<size_t>(directions.rows, SIZE_MAX),
                 .encoder = Matrix(dead.size(), d),
                 .decoder = Matrix(dead.size(), d),
                 .encoder_bias = std::vector<float>(dead.size())};
  Matrix rows = Matrix::uninitialized(dead.size(), d);
  for (size_t j = 0; j < dead.size(); ++j) {
    result.place[dead[j]] = j;
    std::ranges::copy(directions.row(dead[j]), rows.row(j).begin());
  }
  Matrix missing = Matrix::uninitialized(n, d);  // decoded − (x − x̂)
  parallel_ranges(n, 8, [&](size_t begin, size_t end) {
    Selection selection;
    for (size_t i = begin; i < end; ++i) {
      if (few) keep_only(values.row(i), training.auxiliary_active, selection);
      std::ranges::copy(error.row(i), missing.row(i).begin());
    }
  });
  linear_backward_input(values, weight_view(rows), missing, true);
  std::vector<double> losses(n);
  parallel_ranges(n, 8, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      losses[i] = inner_product(missing.row(i), missing.row(i));
      scale_by(static_cast<float>(2 * weight / cells), missing.row(i));
    }
  });
  result.loss = weight * std::accumulate(losses.begin(), losses.end(), 0.0) / cells;
  linear_backward_weight(values, missing, result.decoder);
  Matrix d_values = Matrix::uninitialized(n, dead.size());
  linear_forward(missing, rows, d_values);
  const float keep_scale = 1 / (1 - training.dropout);
  parallel_ranges(n, 8, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i)
      for (size_t j = 0; j < dead.size(); ++j)
        d_values.row(i)[j] = values.row(i)[j] == 0 ? 0.0F : keep_scale * d_values.row(i)[j];
  });
  linear_backward_weight(d_values, centred, result.encoder);
  for (size_t i = 0; i < n; ++i) add_scaled(1, d_values.row(i), result.encoder_bias);
  return result;
}

}  // namespace hone
