// Random points around class centres, and heads in plain double precision, for the tests of heads.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/random.h"
#include "hone/heads.h"

namespace hone::test {

struct HeadProblem {
  HeadProblem(size_t points, size_t dimension, size_t classes, size_t asked, uint64_t seed = 1)
      : x(Matrix::uninitialized(points, dimension)),
        y(points),
        queries(Matrix::uninitialized(asked, dimension)),
        start{Matrix::uninitialized(classes, dimension), std::vector<float>(classes)} {
    RandomStream random(seed, "head problem");
    Matrix centres = Matrix::uninitialized(classes, dimension);
    random.normals({centres.data(), centres.size()}, 1);
    random.normals({x.data(), x.size()}, 1);
    random.normals({queries.data(), queries.size()}, 1);
    random.normals({start.weights.data(), start.weights.size()}, 0.3F);
    random.normals(start.bias, 0.3F);
    for (size_t i = 0; i < points; ++i) {
      y[i] = static_cast<int>(random.below(classes));
      for (size_t f = 0; f < dimension; ++f) x.row(i)[f] += centres.row(static_cast<size_t>(y[i]))[f];
    }
  }

  size_t classes() const { return start.classes(); }
  // The first k points for every query, each list shifted by one.
  std::vector<int64_t> neighbours(size_t k) const {
    std::vector<int64_t> ids;
    for (size_t q = 0; q < queries.rows(); ++q)
      for (size_t i = 0; i < k; ++i) ids.push_back(static_cast<int64_t>((i + q) % x.rows()));
    return ids;
  }

  Matrix x;
  std::vector<int> y;
  Matrix queries;
  LinearHead start;
};

// A head [classes, dimension + 1] in double precision; the last column is the bias.
struct PlainHead {
  explicit PlainHead(const LinearHead& head) : classes(head.classes()), columns(head.dimension() + 1) {
    for (size_t c = 0; c < classes; ++c) {
      for (const float w : head.weights.row(c)) weights.push_back(w);
      weights.push_back(head.bias[c]);
    }
  }

  std::vector<double> logits(std::span<const float> x) const {
    std::vector<double> result(classes);
    for (size_t c = 0; c < classes; ++c) {
      result[c] = weights[(c + 1) * columns - 1];
      for (size_t f = 0; f + 1 < columns; ++f) result[c] += weights[c * columns + f] * x[f];
    }
    return result;
  }
  std::vector<double> probabilities(std::span<const float> x) const {
    std::vector<double> p = logits(x);
    const double top = *std::ranges::max_element(p);
    double sum = 0;
    for (double& value : p) sum += value = std::exp(value - top);
    for (double& value : p) value /= sum;
    return p;
  }
  double loss(std::span<const float> x, int y) const {
    const std::vector<double> z = logits(x);
    const double top = *std::ranges::max_element(z);
    double sum = 0;
    for (const double value : z) sum += std::exp(value - top);
    return top + std::log(sum) - z[static_cast<size_t>(y)];
  }
  // Mean loss over the points `ids` of the problem, and its gradient.
  double mean_loss(const HeadProblem& problem, std::span<const int64_t> ids) const {
    double sum = 0;
    for (const int64_t id : ids)
      sum += loss(problem.x.row(static_cast<size_t>(id)), problem.y[static_cast<size_t>(id)]);
    return sum / static_cast<double>(ids.size());
  }
  std::vector<double> gradient(const HeadProblem& problem, std::span<const int64_t> ids) const {
    std::vector<double> g(weights.size());
    for (const int64_t id : ids) {
      const auto row = problem.x.row(static_cast<size_t>(id));
      std::vector<double> p = probabilities(row);
      p[static_cast<size_t>(problem.y[static_cast<size_t>(id)])] -= 1;
      for (size_t c = 0; c < classes; ++c)
        for (size_t f = 0; f < columns; ++f)
          g[c * columns + f] += p[c] * (f + 1 < columns ? row[f] : 1) / static_cast<double>(ids.size());
    }
    return g;
  }
  // Full-batch Adam as torch.optim.Adam, fresh state.
  void train(const HeadProblem& problem, std::span<const int64_t> ids, double rate, int steps) {
    std::vector<double> first(weights.size()), second(weights.size());
    for (int step = 1; step <= steps; ++step) {
      const std::vector<double> g = gradient(problem, ids);
      for (size_t i = 0; i < g.size(); ++i) {
        first[i] = 0.9 * first[i] + 0.1 * g[i];
        second[i] = 0.999 * second[i] + 0.001 * g[i] * g[i];
        const double m = first[i] / (1 - std::pow(0.9, step)), v = second[i] / (1 - std::pow(0.999, step));
        weights[i] -= rate * m / (std::sqrt(v) + 1e-8);
      }
    }
  }

  size_t classes, columns;
  std::vector<double> weights;
};

inline std::vector<int64_t> first_ids(size_t count) {
  std::vector<int64_t> ids(count);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

}  // namespace hone::test
