#include <fmt/format.h>

#include <cmath>

#include "base/random.h"
#include "heads/checks.h"
#include "hone/heads.h"

namespace hone {

double choose_ridge(ConstMatrixView x, std::span<const int> y, size_t classes, std::span<const double> candidates,
                    const HeadFit& fit, uint64_t seed, const Watch& watch) {
  check_points(x, y, classes);
  if (candidates.empty()) throw Error(ErrorCode::bad_input, "ridge: there are no candidates to choose from");
  const size_t n = x.rows, held = n / 5;
  if (candidates.size() == 1 || held == 0) return candidates.front();
  const std::vector<size_t> order = RandomStream(seed, "ridge").draw(n, n);
  Matrix points = Matrix::uninitialized(n, x.cols);
  std::vector<int> labels(n);
  for (size_t i = 0; i < n; ++i) {
    std::ranges::copy(x.row(order[i]), points.row(i).begin());
    labels[i] = y[order[i]];
  }
  double best = candidates.front(), least = INFINITY;
  for (const double ridge : candidates) {
    HeadFit with = fit;
    with.ridge = ridge;
    const LinearHead head =
        fit_head(points.view().row_range(held, n - held), std::span(labels).subspan(held), classes, with, watch);
    Matrix log_p = head.logits(points.view().row_range(0, held));
    log_softmax(log_p);
    double loss = 0;
    for (size_t i = 0; i < held; ++i) loss -= log_p.row(i)[static_cast<size_t>(labels[i])];
    if (loss >= least) continue;
    least = loss;
    best = ridge;
  }
  return best;
}

}  // namespace hone
