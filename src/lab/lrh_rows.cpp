#include "lab/lrh_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "hone/neighbours.h"
#include "lab/lrh_model.h"

namespace hone::lab {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

const std::vector<std::string> parts = {"global", "shared", "recovery", "locality"};

struct Setting {
  int64_t d1 = 0, d2 = 0, s = 0, k = 0;
  double noise = 0;  // σ², the signal's variance being 1
};

Row row_of(const std::string& part, const Setting& at, std::string method, double error, double theory,
           double own_share = 0) {
  return {part, at.d1, at.d2, at.s, at.k, at.noise, std::move(method), error, theory, own_share};
}

// The part's settings: the base, and the base with one entry at a time replaced by each value of its grid.
std::vector<Setting> settings_of(const Json& part) {
  const Json& base = part.at("base");
  const Setting start{base.value("d1", int64_t{0}), base.value("d2", int64_t{0}), base.value("s", int64_t{0}),
                      base.value("k", int64_t{0}), base.value("noise", 0.0)};
  std::vector<Setting> all = {start};
  const auto same = [](const Setting& a, const Setting& b) {
    return a.d1 == b.d1 && a.d2 == b.d2 && a.s == b.s && a.k == b.k && a.noise == b.noise;
  };
  for (const auto& [name, values] : part.at("grid").items())
    for (const Json& value : values) {
      Setting one = start;
      if (name == "noise")
        one.noise = value;
      else
        (name == "d1" ? one.d1 : name == "d2" ? one.d2 : name == "s" ? one.s : one.k) = value;
      if (std::ranges::none_of(all, [&](const Setting& other) { return same(one, other); })) all.push_back(one);
    }
  return all;
}

size_t as_size(int64_t value) { return static_cast<size_t>(value); }

VectorXd unit_vector(RandomStream& random, size_t size) { return draw_gaussian(random, size, 1).col(0).normalized(); }

VectorXd noisy(RandomStream& random, const VectorXd& signal, double noise) {
  return signal + std::sqrt(noise) * draw_gaussian(random, static_cast<size_t>(signal.size()), 1).col(0);
}

std::vector<Row> global_rows(const Json& part, RandomStream& random, const Watch& watch) {
  std::vector<Row> rows;
  for (Setting at : settings_of(part)) {
    watch.cancel.check();
    const size_t d1 = as_size(at.d1), d2 = as_size(at.d2), n = part.at("examples_per_feature").get<size_t>() * d2;
    const VectorXd w = unit_vector(random, d1);
    const MatrixXd projection = draw_gaussian(random, d2, d1);
    const double best = best_global_head(projection, MatrixXd::Identity(as_index(d1), as_index(d1)), w).error;
    const MatrixXd concepts = draw_gaussian(random, n, d1);
    const VectorXd head = least_squares(concepts * projection.transpose(), concepts * w);
    const double measured = (projection.transpose() * head - w).squaredNorm();
    at.k = static_cast<int64_t>(n);
    rows.push_back(row_of("global", at, "best head", best, global_error(d1, d2)));
    rows.push_back(
        row_of("global", at, "least squares", measured, global_error(d1, d2) * least_squares_inflation(d2, n)));
  }
  return rows;
}

// Only the s columns of the projection that belong to the support are ever used: d1 does not matter.
std::vector<Row> shared_rows(const Json& part, RandomStream& random, const Watch& watch) {
  std::vector<Row> rows;
  for (const Setting& at : settings_of(part)) {
    watch.cancel.check();
    const size_t s = as_size(at.s), k = as_size(at.k);
    const VectorXd w = unit_vector(random, s);
    const MatrixXd projection = draw_gaussian(random, as_size(at.d2), s);
    const MatrixXd concepts = draw_gaussian(random, k, s);
    const VectorXd head = least_squares(concepts * projection.transpose(), noisy(random, concepts * w, at.noise));
    const double error = (projection.transpose() * head - w).squaredNorm();
    rows.push_back(row_of("shared", at, "least squares", error, at.noise * (least_squares_inflation(s, k) - 1)));
  }
  return rows;
}

std::vector<Row> recovery_rows(const Json& part, RandomStream& random, const Watch& watch) {
  std::vector<Row> rows;
  for (const Setting& at : settings_of(part)) {
    watch.cancel.check();
    const size_t d1 = as_size(at.d1), s = as_size(at.s), k = as_size(at.k);
    const double coefficient = 1 / std::sqrt(static_cast<double>(s));
    VectorXd w = VectorXd::Zero(as_index(d1));
    for (const size_t j : draw_subset(random, s, d1)) w[as_index(j)] = random.below(2) ? coefficient : -coefficient;
    const MatrixXd concepts = draw_gaussian(random, k, d1);
    const VectorXd y = noisy(random, concepts * w, at.noise);
    const LassoTheory theory = lasso_theory(d1, s, k, at.noise, coefficient);
    rows.push_back(
        row_of("recovery", at, "lasso", (lasso(concepts, y, theory.penalty) - w).squaredNorm(), theory.error));
    rows.push_back(row_of("recovery", at, "pursuit", (matching_pursuit(concepts, y, s) - w).squaredNorm(),
                          at.noise * (least_squares_inflation(s, k) - 1)));
  }
  return rows;
}

// Groups of points; a group's concepts are its own s of d1, each ±mean + N(0, 1).
struct Groups {
  std::vector<std::vector<size_t>> supports;
  std::vector<VectorXd> means;  // [s], of the values on the support
  VectorXd target;              // w [d1]; the target has second moment 1
  MatrixXd moment;              // E φφᵀ [d1, d1]

  Groups(RandomStream& random, const Json& part, size_t d1, size_t s) {
    const size_t count = part.at("groups");
    const double mean = part.at("mean");
    moment = MatrixXd::Zero(as_index(d1), as_index(d1));
    for (size_t g = 0; g < count; ++g) {
      supports.push_back(draw_subset(random, s, d1));
      VectorXd values(as_index(s));
      for (size_t i = 0; i < s; ++i) values[as_index(i)] = random.below(2) ? mean : -mean;
      for (size_t i = 0; i < s; ++i)
        for (size_t j = 0; j < s; ++j)
          moment(as_index(supports[g][i]), as_index(supports[g][j])) +=
              (values[as_index(i)] * values[as_index(j)] + (i == j ? 1 : 0)) / static_cast<double>(count);
      means.push_back(std::move(values));
    }
    target = unit_vector(random, d1);
    target /= std::sqrt(target.dot(moment * target));
  }
};

// Points of all groups, seen through a projection.
struct Sample {
  Matrix features;             // [n, d2]
  std::vector<double> values;  // of the target, without noise
  std::vector<size_t> group;

  Sample(RandomStream& random, const Groups& groups, const MatrixXd& projection, std::vector<size_t> members)
      : features(Matrix::uninitialized(members.size(), static_cast<size_t>(projection.rows()))),
        group(std::move(members)) {
    for (size_t i = 0; i < group.size(); ++i) {
      const std::vector<size_t>& support = groups.supports[group[i]];
      VectorXd seen = VectorXd::Zero(projection.rows());
      double value = 0;
      for (size_t j = 0; j < support.size(); ++j) {
        const double concept_value = groups.means[group[i]][as_index(j)] + random.normal();
        seen += concept_value * projection.col(as_index(support[j]));
        value += concept_value * groups.target[as_index(support[j])];
      }
      for (size_t d = 0; d < features.cols(); ++d) features.row(i)[d] = static_cast<float>(seen[as_index(d)]);
      values.push_back(value);
    }
  }
};

// What two local heads say at a query. `started` is the global head, moved by ridge regression on what it leaves of the
// neighbours; the ridge is σ²/τ² with τ² so that a feature vector's prior variance is the global head's error. `plain`
// is least squares from nothing (a ridge of 1e-8 of the features' mean square, for rounding).
struct LocalAnswer {
  double started = 0, plain = 0;
};
LocalAnswer local_answer(const Sample& train, std::span<const double> labels, std::span<const int64_t> neighbours,
                         const GlobalHead& global, const VectorXd& query, double noise) {
  MatrixXd x(as_index(neighbours.size()), query.size());
  VectorXd y(x.rows());
  for (Index i = 0; i < x.rows(); ++i) {
    const auto id = static_cast<size_t>(neighbours[static_cast<size_t>(i)]);
    for (Index d = 0; d < x.cols(); ++d) x(i, d) = train.features.row(id)[static_cast<size_t>(d)];
    y[i] = labels[id];
  }
  const double square = x.squaredNorm() / static_cast<double>(x.rows());
  const VectorXd moved = ridge_regression(x, y - x * global.head, noise * square / global.error);
  return {query.dot(global.head + moved), query.dot(ridge_regression(x, y, 1e-8 * square))};
}

std::vector<Row> locality_rows(const Json& part, RandomStream& random, const Watch& watch) {
  std::vector<Row> rows;
  const size_t count = part.at("groups"), members = part.at("members"), queries = part.at("queries");
  std::vector<size_t> train_groups(count * members), query_groups(queries);
  for (size_t i = 0; i < train_groups.size(); ++i) train_groups[i] = i / members;
  const std::vector<size_t> ks = part.at("k");
  for (const Json& width : part.at("d2")) {
    Setting at{part.at("d1"), width, part.at("s"), 0, 0};
    const Groups groups(random, part, as_size(at.d1), as_size(at.s));
    const MatrixXd projection = draw_gaussian(random, as_size(at.d2), as_size(at.d1));
    const GlobalHead global = best_global_head(projection, groups.moment, groups.target);
    const Sample train(random, groups, projection, train_groups);
    std::vector<double> deviations(train.values.size());
    for (double& deviation : deviations) deviation = random.normal();
    for (size_t& group : query_groups) group = random.below(count);
    const Sample asked(random, groups, projection, query_groups);
    const Neighbours found = NeighbourIndex::build(train.features).search(asked.features, std::ranges::max(ks));
    for (const Json& noise : part.at("noise")) {
      at.noise = noise;
      at.k = 0;
      rows.push_back(row_of("locality", at, "global", global.error, global_error(as_size(at.d1), as_size(at.d2))));
      std::vector<double> labels = train.values;
      for (size_t i = 0; i < labels.size(); ++i) labels[i] += std::sqrt(at.noise) * deviations[i];
      for (const size_t k : ks) {
        watch.cancel.check();
        double started = 0, plain = 0, own = 0;
        for (size_t q = 0; q < queries; ++q) {
          const auto nearest = found.ids_of(q).first(k);
          VectorXd query(as_index(asked.features.cols()));
          for (Index d = 0; d < query.size(); ++d) query[d] = asked.features.row(q)[static_cast<size_t>(d)];
          const LocalAnswer answer = local_answer(train, labels, nearest, global, query, at.noise);
          started += std::pow(answer.started - asked.values[q], 2) / static_cast<double>(queries);
          plain += std::pow(answer.plain - asked.values[q], 2) / static_cast<double>(queries);
          for (const int64_t id : nearest) own += train.group[static_cast<size_t>(id)] == query_groups[q];
        }
        at.k = static_cast<int64_t>(k);
        const double rate = at.noise * static_cast<double>(at.s) / static_cast<double>(k);
        const double share = own / static_cast<double>(queries * k);
        rows.push_back(row_of("locality", at, "local", started, rate, share));
        rows.push_back(row_of("locality", at, "plain", plain, rate, share));
      }
    }
  }
  return rows;
}

}  // namespace

size_t lrh_tasks(const Json& config) {
  size_t tasks = 0;
  for (const std::string& part : parts) tasks += config.at(part).at("draws").get<size_t>();
  return tasks;
}

std::vector<std::string> lrh_columns() {
  return {"part", "d1", "d2", "s", "k", "noise", "method", "error", "theory", "own_share"};
}

std::vector<Row> lrh_rows(const Json& config, size_t task, const Watch& watch) {
  RandomStream random(config.at("seed"), fmt::format("lrh-theory {}", task));
  for (const std::string& name : parts) {
    const Json& part = config.at(name);
    const size_t draws = part.at("draws");
    if (task >= draws) {
      task -= draws;
      continue;
    }
    if (name == "global") return global_rows(part, random, watch);
    if (name == "shared") return shared_rows(part, random, watch);
    if (name == "recovery") return recovery_rows(part, random, watch);
    return locality_rows(part, random, watch);
  }
  return {};
}

}  // namespace hone::lab
