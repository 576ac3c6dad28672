#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/parallel.h"
#include "heads/neighbours_flat.h"
#include "heads/neighbours_kernels.h"
#include "hone/neighbours.h"

namespace hone {
namespace {

using Numbers = std::vector<double>;

void check(const SiftOptions& options) {
  if (options.count == 0) throw Error(ErrorCode::bad_input, "SIFT: 0 points to choose; give at least 1");
  if (!(options.noise > 0 && std::isfinite(options.noise)))
    throw Error(ErrorCode::bad_input, fmt::format("SIFT: noise {} is not a variance above 0", options.noise));
}

// Of a Gaussian process at the pool's points and the query, given what was chosen so far.
struct Posterior {
  Numbers variance;    // [m]
  Numbers covariance;  // [m], with the query
  double query_variance = 0;
};

// The point whose observation lowers the query's variance most, by covariance²/(variance + λ).
size_t best_of(const Posterior& posterior, double noise, const std::vector<char>& taken) {
  size_t best = taken.size();
  double most = -1;
  for (size_t j = 0; j < taken.size(); ++j) {
    if (taken[j]) continue;
    const double gain = posterior.covariance[j] * posterior.covariance[j] / (posterior.variance[j] + noise);
    if (gain > most) {
      most = gain;
      best = j;
    }
  }
  return best;
}

// `prior` writes k(x_i, x_j) for all j. Every choice adds one row to the Cholesky factor of K_X + λI, extended to all
// points of the pool: row t holds k_t(x_i, x_j)/sqrt(k_t(x_i, x_i) + λ), k_t being the posterior covariance given the
// first t choices.
SiftChoice choose(Posterior posterior, const std::function<void(size_t, std::span<double>)>& prior,
                  const SiftOptions& options) {
  const size_t pool = posterior.variance.size();
  SiftChoice choice;
  choice.variances.push_back(posterior.query_variance);
  std::vector<char> taken(pool);
  std::vector<Numbers> factor;
  while (choice.chosen.size() < options.count) {
    const size_t i = best_of(posterior, options.noise, taken);
    if (i == pool) break;
    taken[i] = !options.repeats;
    choice.chosen.push_back(i);
    Numbers row(pool);
    prior(i, row);
    for (const Numbers& earlier : factor)
      for (size_t j = 0; j < pool; ++j) row[j] -= earlier[i] * earlier[j];
    const double scale = 1 / std::sqrt(posterior.variance[i] + options.noise);
    const double of_query = posterior.covariance[i] * scale;
    for (size_t j = 0; j < pool; ++j) {
      row[j] *= scale;
      posterior.variance[j] = std::max(0.0, posterior.variance[j] - row[j] * row[j]);
      posterior.covariance[j] -= of_query * row[j];
    }
    posterior.query_variance = std::max(0.0, posterior.query_variance - of_query * of_query);
    choice.variances.push_back(posterior.query_variance);
    factor.push_back(std::move(row));
  }
  return choice;
}

// Rows as the kernel takes them.
SiftChoice choose_by_features(std::span<const float> query, ConstMatrixView pool, const SiftOptions& options) {
  const auto kernel = [&](std::span<const float> a, std::span<const float> b) {
    return inner_product(a.data(), b.data(), a.size());
  };
  Posterior posterior;
  posterior.query_variance = kernel(query, query);
  for (size_t j = 0; j < pool.rows; ++j) {
    posterior.variance.push_back(kernel(pool.row(j), pool.row(j)));
    posterior.covariance.push_back(kernel(query, pool.row(j)));
  }
  const auto prior = [&](size_t i, std::span<double> row) {
    for (size_t j = 0; j < pool.rows; ++j) row[j] = kernel(pool.row(i), pool.row(j));
  };
  return choose(std::move(posterior), prior, options);
}

}  // namespace

SiftChoice sift(double query_variance, std::span<const float> query_covariance, ConstMatrixView covariance,
                const SiftOptions& options) {
  check(options);
  const size_t pool = query_covariance.size();
  if (covariance.rows != pool || covariance.cols != pool)
    throw Error(ErrorCode::bad_input, fmt::format("SIFT: a covariance [{}, {}] of a pool of {} points", covariance.rows,
                                                  covariance.cols, pool));
  if (!std::isfinite(query_variance))
    throw Error(ErrorCode::bad_input, fmt::format("SIFT: {} is not the query's variance", query_variance));
  require_finite(covariance, "SIFT, covariance");
  require_finite({query_covariance.data(), 1, pool}, "SIFT, the query's covariance");
  Posterior posterior{Numbers(pool), Numbers(query_covariance.begin(), query_covariance.end()), query_variance};
  for (size_t j = 0; j < pool; ++j) posterior.variance[j] = covariance.row(j)[j];
  if (std::ranges::any_of(posterior.variance, [](double variance) { return variance < 0; }))
    throw Error(ErrorCode::bad_input, "SIFT: the covariance's diagonal holds a negative variance");
  const auto prior = [&](size_t i, std::span<double> row) { std::ranges::copy(covariance.row(i), row.begin()); };
  return choose(std::move(posterior), prior, options);
}

SiftChoice sift(std::span<const float> query, ConstMatrixView pool, const SiftOptions& options) {
  check(options);
  if (query.size() != pool.cols)
    throw Error(ErrorCode::bad_input, fmt::format("SIFT: a query of {} values, a pool of {}", query.size(), pool.cols));
  const ConstMatrixView one{query.data(), 1, query.size()};
  require_finite(one, "SIFT, the query");
  require_finite(pool, "SIFT, the pool");
  if (!options.normalize) return choose_by_features(query, pool, options);
  return choose_by_features(at_length_one(one).row(0), at_length_one(pool), options);
}

Neighbours sift(ConstMatrixView points, ConstMatrixView queries, const Neighbours& pool, const SiftOptions& options,
                const Watch& watch) {
  check(options);
  if (pool.queries() != queries.rows || pool.distances.size() != pool.ids.size())
    throw Error(ErrorCode::bad_input,
                fmt::format("SIFT: pools of {} queries for {} queries", pool.queries(), queries.rows));
  const auto outside = std::ranges::find_if(
      pool.ids, [&](int64_t id) { return id < -1 || (id >= 0 && static_cast<size_t>(id) >= points.rows); });
  if (outside != pool.ids.end())
    throw Error(ErrorCode::bad_input, fmt::format("SIFT: the pool holds point {} of {}; give the points of the index",
                                                  *outside, points.rows));
  const size_t k = options.repeats ? options.count : std::min(options.count, pool.k);
  Neighbours found{k, std::vector<int64_t>(queries.rows * k, -1),
                   std::vector<float>(queries.rows * k, std::numeric_limits<float>::infinity())};
  watch.report("choosing neighbours", 0, queries.rows);
  parallel_for(queries.rows, [&](size_t q) {
    watch.cancel.check();
    const std::span<const int64_t> ids = pool.ids_of(q);
    const auto size = static_cast<size_t>(std::ranges::find(ids, -1) - ids.begin());
    Matrix rows = Matrix::uninitialized(size, points.cols);
    for (size_t j = 0; j < size; ++j) std::ranges::copy(points.row(static_cast<size_t>(ids[j])), rows.row(j).begin());
    const SiftChoice choice = sift(queries.row(q), rows, options);
    for (size_t j = 0; j < choice.chosen.size(); ++j) {
      found.ids[q * k + j] = ids[choice.chosen[j]];
      found.distances[q * k + j] = pool.distances_of(q)[choice.chosen[j]];
    }
  });
  return found;
}

}  // namespace hone
