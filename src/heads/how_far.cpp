#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "heads/checks.h"
#include "heads/local_trainer.h"
#include "hone/heads.h"

namespace hone {
namespace {

// What the prior is chosen by: for every pseudo-query and checkpoint, log p_j of its label, and left_out_j less its
// least.
struct PseudoQueries {
  std::vector<double> log_probabilities, excess;  // [count · checkpoints]
  size_t count = 0;
  size_t checkpoints = 0;
};

struct Mixing {
  std::vector<double> prior;
  double log_loss = 0;  // mean, in nats
};

// The pseudo-queries under one trust, with a_ij = exp(−trust · excess_ij). Probabilities of pseudo-query i are over
// exp(shift_i), the largest of them, so that what every head holds next to impossible does not vanish.
struct Tilted {
  std::vector<double> tilt, joint;  // [count · checkpoints]: a_ij, a_ij p_ij
  std::vector<double> base, shift;  // [count]: p_i0, shift_i
};

Tilted tilted(const PseudoQueries& pseudo, double trust) {
  const size_t m = pseudo.checkpoints;
  Tilted result;
  for (size_t i = 0; i < pseudo.count; ++i) {
    const double* log_p = &pseudo.log_probabilities[i * m];
    const double* excess = &pseudo.excess[i * m];
    double shift = log_p[0];
    for (size_t j = 0; j < m; ++j) shift = std::max(shift, log_p[j] - trust * excess[j]);
    for (size_t j = 0; j < m; ++j) {
      result.tilt.push_back(std::exp(-trust * excess[j]));
      result.joint.push_back(std::exp(log_p[j] - trust * excess[j] - shift));
    }
    result.base.push_back(std::exp(log_p[0] - shift));
    result.shift.push_back(shift);
  }
  return result;
}

// Maximises Σ_i log(floor·p_i0 + (1 − floor)·N_i / D_i), N_i = Σ_j prior_j a_ij p_ij, D_i = Σ_j prior_j a_ij, over the
// prior. Expectation-maximisation, where log D_i is bounded by its tangent:
//   prior_j ← prior_j · Σ_i s_i a_ij p_ij / N_i  /  Σ_i s_i a_ij / D_i,   s_i = the share of N_i / D_i in the sum.
// No step decreases the objective; with trust 0 it is plain EM for the weights of a mixture.
Mixing best_prior(const PseudoQueries& pseudo, double trust, double floor) {
  constexpr int most_iterations = 1000;
  constexpr double enough = 1e-7;  // nats a query
  const size_t m = pseudo.checkpoints;
  const Tilted under = tilted(pseudo, trust);
  Mixing mixing{std::vector<double>(m, 1 / static_cast<double>(m)), INFINITY};
  std::vector<double> gained(m), spent(m);
  for (int iteration = 0; iteration < most_iterations; ++iteration) {
    double loss = 0;
    std::ranges::fill(gained, 0);
    std::ranges::fill(spent, 0);
    for (size_t i = 0; i < pseudo.count; ++i) {
      const double *tilt = &under.tilt[i * m], *joint = &under.joint[i * m];
      double n = 0, d = 0;
      for (size_t j = 0; j < m; ++j) {
        d += mixing.prior[j] * tilt[j];
        n += mixing.prior[j] * joint[j];
      }
      const double adapted = n > 0 && d > 0 ? (1 - floor) * n / d : 0;
      const double total = floor * under.base[i] + adapted;
      const double log_p =
          total > 0 ? std::log(total) + under.shift[i] : std::log(floor) + pseudo.log_probabilities[i * m];
      loss -= log_p / static_cast<double>(pseudo.count);
      if (adapted == 0) continue;
      const double share = adapted / total;
      for (size_t j = 0; j < m; ++j) {
        gained[j] += share * mixing.prior[j] * joint[j] / n;
        spent[j] += share * tilt[j] / d;
      }
    }
    const bool settled = mixing.log_loss - loss < enough;
    mixing.log_loss = loss;
    if (settled) break;
    double sum = 0;
    for (size_t j = 0; j < m; ++j) sum += gained[j] = spent[j] > 0 ? gained[j] / spent[j] : 0;
    if (!(sum > 0)) break;
    for (size_t j = 0; j < m; ++j) mixing.prior[j] = gained[j] / sum;
  }
  return mixing;
}

// log softmax(logits)[c], or −∞ for all c where the head has diverged.
double log_probability(std::span<const float> logits, size_t c) {
  if (!is_finite(logits)) return -INFINITY;
  const double top = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float value : logits) sum += std::exp(value - top);
  return logits[c] - top - std::log(sum);
}

// left_out less its least; a half that diverged has no say.
void write_excess(std::span<const float> left_out, double* to) {
  constexpr double never = 1e9;
  const auto loss = [&](size_t j) { return std::isfinite(left_out[j]) ? static_cast<double>(left_out[j]) : never; };
  double least = never;
  for (size_t j = 0; j < left_out.size(); ++j) least = std::min(least, loss(j));
  for (size_t j = 0; j < left_out.size(); ++j) to[j] = loss(j) - least;
}

void check_floor(double floor) {
  if (!(floor > 0 && floor <= 1))
    refuse(fmt::format("checkpoint prior: floor is {}; give more than 0 and at most 1", floor));
}

}  // namespace

double CheckpointPrior::bound_bits() const { return -std::log2(floor); }

CheckpointPrior checkpoint_prior(const CrossFit& cross, ConstMatrixView x, std::span<const int> y,
                                 std::span<const int64_t> pseudo, const NeighbourIds& neighbours, size_t k,
                                 const LocalTraining& training, double floor, const Watch& watch) {
  check_floor(floor);
  const std::vector<int> checkpoints = checkpoints_of(training);
  const size_t m = checkpoints.size();
  if (checkpoints.front() != 0) refuse("checkpoint prior: checkpoints must begin with 0, the base");
  if (cross.fold.size() != x.rows) refuse(fmt::format("cross-fit: of {} points, not {}", cross.fold.size(), x.rows));
  if (pseudo.empty() || k == 0 || neighbours.queries() != pseudo.size())
    refuse(fmt::format("checkpoint prior: {} pseudo-queries with {} rows of neighbours, of which {} are to be used",
                       pseudo.size(), neighbours.queries(), k));
  if (!std::ranges::all_of(cross.fold, [&](int f) { return f >= 0 && static_cast<size_t>(f) < cross.heads.size(); }))
    refuse(fmt::format("cross-fit: a point's fold is none of its {}", cross.heads.size()));
  const auto inside = [&](int64_t id) { return id >= 0 && static_cast<size_t>(id) < x.rows; };
  for (const int64_t id : pseudo)
    if (!inside(id)) refuse(fmt::format("checkpoint prior: pseudo-query {} is no row of the {} points", id, x.rows));

  PseudoQueries all;
  all.checkpoints = m;
  all.count = pseudo.size();
  for (size_t f = 0; f < cross.heads.size(); ++f) {
    std::vector<size_t> rows;
    for (const int64_t id : pseudo)
      if (cross.fold[static_cast<size_t>(id)] == static_cast<int>(f)) rows.push_back(static_cast<size_t>(id));
    if (rows.empty()) continue;
    Matrix queries = Matrix::uninitialized(rows.size(), x.cols);
    for (size_t q = 0; q < rows.size(); ++q) std::ranges::copy(x.row(rows[q]), queries.row(q).begin());
    std::vector<int64_t> ids(rows.size() * k, -1);
    for (size_t q = 0, p = 0; p < pseudo.size(); ++p) {
      if (cross.fold[static_cast<size_t>(pseudo[p])] != static_cast<int>(f)) continue;
      size_t found = 0;
      for (const int64_t id : neighbours.of(p)) {
        if (id != -1 && !inside(id)) refuse(fmt::format("neighbours: {} is no row of the {} points", id, x.rows));
        if (found < k && id != -1 && cross.fold[static_cast<size_t>(id)] != static_cast<int>(f))
          ids[q * k + found++] = id;
      }
      ++q;
    }
    const LocalAnswers answers = local_answers(cross.heads[f], x, y, {ids, k}, queries, training, true, watch);
    for (size_t q = 0; q < rows.size(); ++q) {
      const auto label = static_cast<size_t>(y[rows[q]]);
      if (label >= answers.logits[0].cols())
        refuse(fmt::format("checkpoint prior: pseudo-query {} has label {}, the heads know {}", rows[q], y[rows[q]],
                           answers.logits[0].cols()));
      if (!is_finite(answers.logits[0].row(q)))
        refuse(fmt::format("checkpoint prior: the base's logits of pseudo-query {} are not finite", rows[q]));
      for (size_t j = 0; j < m; ++j) all.log_probabilities.push_back(log_probability(answers.logits[j].row(q), label));
      all.excess.resize(all.log_probabilities.size());
      write_excess(answers.left_out.row(q), all.excess.data() + all.excess.size() - m);
    }
  }

  CheckpointPrior prior;
  prior.floor = floor;
  prior.pseudo_queries = all.count;
  prior.log_loss.assign(m, 0);
  for (size_t i = 0; i < all.count; ++i)
    for (size_t j = 0; j < m; ++j)
      prior.log_loss[j] -= all.log_probabilities[i * m + j] / static_cast<double>(all.count);
  prior.mixture_log_loss = INFINITY;
  for (const double trust : {0.0, 0.01, 0.03, 0.1, 0.3, 1.0}) {
    Mixing mixing = best_prior(all, trust, floor);
    if (!(mixing.log_loss < prior.mixture_log_loss)) continue;
    prior.mixture_log_loss = mixing.log_loss;
    prior.weights = std::move(mixing.prior);
    prior.trust = trust;
  }
  return prior;
}

LocalMixture mix_checkpoints(const LocalAnswers& answers, const CheckpointPrior& prior) {
  check_floor(prior.floor);
  const size_t m = prior.weights.size();
  if (m == 0 || answers.logits.size() != m)
    refuse(fmt::format("mixture: answers at {} checkpoints, a prior of {}", answers.logits.size(), m));
  const size_t queries = answers.logits[0].rows(), classes = answers.logits[0].cols();
  for (const Matrix& logits : answers.logits)
    if (logits.rows() != queries || logits.cols() != classes)
      refuse(fmt::format("mixture: logits of [{}, {}] beside the base's [{}, {}]", logits.rows(), logits.cols(),
                         queries, classes));
  if (prior.trust > 0 && (answers.left_out.rows() != queries || answers.left_out.cols() != m))
    refuse("mixture: the prior trusts what left-out neighbours say; ask local_answers for left_out");
  LocalMixture mixture{Matrix(queries, classes), Matrix(queries, m), prior.bound_bits()};
  std::vector<double> weight(m), excess(m), sum(classes), base(classes);
  for (size_t q = 0; q < queries; ++q) {
    if (!is_finite(answers.logits[0].row(q)))
      refuse(fmt::format("mixture: the base's logits of query {} are not finite", q));
    if (prior.trust > 0) write_excess(answers.left_out.row(q), excess.data());
    double total = 0;
    for (size_t j = 0; j < m; ++j) {
      const double tilt = prior.trust > 0 ? std::exp(-prior.trust * excess[j]) : 1;
      total += weight[j] = is_finite(answers.logits[j].row(q)) ? prior.weights[j] * tilt : 0;
    }
    for (size_t j = 0; j < m; ++j)
      weight[j] = (total > 0 ? (1 - prior.floor) * weight[j] / total : 0) + (j == 0 ? total > 0 ? prior.floor : 1 : 0);
    std::ranges::fill(sum, 0);
    for (size_t j = 0; j < m; ++j) {
      if (weight[j] == 0) continue;
      const auto logits = answers.logits[j].row(q);
      const double top = *std::ranges::max_element(logits);
      double normaliser = 0;
      for (const float value : logits) normaliser += std::exp(value - top);
      for (size_t c = 0; c < classes; ++c) sum[c] += weight[j] * std::exp(logits[c] - top) / normaliser;
      for (size_t c = 0; j == 0 && c < classes; ++c)
        base[c] = std::log(weight[0]) + logits[c] - top - std::log(normaliser);
      mixture.weights.row(q)[j] = static_cast<float>(weight[j]);
    }
    // Where every probability has vanished the base's share, whose logarithm has not, keeps the bound.
    for (size_t c = 0; c < classes; ++c)
      mixture.log_probabilities.row(q)[c] = static_cast<float>(std::max(std::log(sum[c]), base[c]));
  }
  return mixture;
}

}  // namespace hone
