#include "lab/statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <numeric>

#include "base/parallel.h"
#include "base/random.h"
#include "decide/statistics.h"

namespace hone::lab {
namespace {

constexpr size_t exact_limit = 16;  // differences whose sign flips are all tried
constexpr double alpha = 0.05;

void check(std::string_view what, std::span<const double> values) {
  if (values.empty()) throw Error(ErrorCode::bad_input, fmt::format("{}: there are no values", what));
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      throw Error(ErrorCode::bad_input, fmt::format("{}: value {} is {}, not a finite number", what, i, values[i]));
}

std::vector<double> minus(std::span<const double> a, std::span<const double> b) {
  std::vector<double> differences(a.size());
  std::ranges::transform(a, b, differences.begin(), std::minus<>());
  return differences;
}

// Σ ±d_i, bit i of `signs` set for plus.
double flipped_sum(std::span<const double> d, uint64_t signs) {
  double sum = 0;
  for (size_t i = 0; i < d.size(); ++i) sum += (signs >> i & 1) != 0 ? d[i] : -d[i];
  return sum;
}

}  // namespace

double mean(std::span<const double> values) {
  return std::reduce(values.begin(), values.end()) / static_cast<double>(values.size());
}

double standard_error(std::span<const double> values) {
  check("standard_error", values);
  if (values.size() == 1) return 0;
  const double n = static_cast<double>(values.size()), middle = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - middle) * (value - middle);
  return std::sqrt(squares / (n - 1) / n);
}

double sign_flip_p(std::span<const double> differences, uint64_t seed, size_t draws) {
  check("sign_flip_p", differences);
  std::vector<double> d;
  double observed = 0, most = 0;
  for (const double difference : differences) {
    if (difference == 0) continue;
    d.push_back(difference);
    observed += difference;
    most += std::abs(difference);
  }
  const double threshold = std::abs(observed) - 1e-12 * most;  // sums in another order round differently
  if (d.size() <= exact_limit) {
    const uint64_t flips = uint64_t{1} << d.size();
    size_t extreme = 0;
    for (uint64_t signs = 0; signs < flips; ++signs) extreme += std::abs(flipped_sum(d, signs)) >= threshold;
    return static_cast<double>(extreme) / static_cast<double>(flips);
  }
  // sums[256 g + signs]: of the eight differences of group g. A draw then adds one number for eight flips.
  const size_t groups = (d.size() + 7) / 8;
  std::vector<double> sums(256 * groups);
  for (size_t g = 0; g < groups; ++g)
    for (uint64_t signs = 0; signs < 256; ++signs)
      sums[256 * g + signs] = flipped_sum(std::span(d).subspan(8 * g, std::min<size_t>(8, d.size() - 8 * g)), signs);
  RandomStream random(seed, "sign flips");
  size_t extreme = 0;
  for (size_t draw = 0; draw < draws; ++draw) {
    double sum = 0;
    uint64_t signs = 0;
    for (size_t g = 0; g < groups; ++g, signs >>= 8) {
      if (g % 8 == 0) signs = random.next();
      sum += sums[256 * g + (signs & 255)];
    }
    extreme += std::abs(sum) >= threshold;
  }
  return static_cast<double>(1 + extreme) / static_cast<double>(1 + draws);
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> corrected(p.size());
  double largest = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    largest = std::max(largest, std::min(1.0, static_cast<double>(order.size() - i) * p[order[i]]));
    corrected[order[i]] = largest;
  }
  return corrected;
}

void correct(std::span<Comparison> family) {
  std::vector<double> p;
  for (const Comparison& comparison : family) p.push_back(comparison.p);
  const std::vector<double> corrected = holm(p);
  for (size_t i = 0; i < family.size(); ++i) {
    family[i].holm_p = corrected[i];
    family[i].found = corrected[i] <= alpha;
  }
}

std::vector<Comparison> compare(std::span<const Method> methods, std::span<const std::pair<size_t, size_t>> pairs,
                                uint64_t seed) {
  for (const auto& [first, second] : pairs) {
    const Method &a = methods[first], &b = methods[second];
    if (a.values.size() != b.values.size() || a.values.empty())
      throw Error(ErrorCode::bad_input,
                  fmt::format("{} has {} values and {} has {}; pairs need the same tasks, at least one", a.name,
                              a.values.size(), b.name, b.values.size()));
  }
  std::vector<std::vector<double>> resampled(methods.size());
  parallel_for(methods.size(), [&](size_t m) { resampled[m] = decide::resampled_means(methods[m].values, seed); });
  std::vector<Comparison> comparisons(pairs.size());
  parallel_for(pairs.size(), [&](size_t i) {
    const auto [first, second] = pairs[i];
    const std::vector<double> differences = minus(methods[first].values, methods[second].values);
    comparisons[i] = {methods[first].name, methods[second].name,
                      decide::bootstrap_interval(mean(differences), minus(resampled[first], resampled[second])),
                      sign_flip_p(differences, seed)};
  });
  correct(comparisons);
  return comparisons;
}

std::vector<Comparison> compare_all(std::span<const Method> methods, uint64_t seed) {
  std::vector<std::pair<size_t, size_t>> pairs;
  for (size_t a = 0; a < methods.size(); ++a)
    for (size_t b = a + 1; b < methods.size(); ++b) pairs.emplace_back(a, b);
  return compare(methods, pairs, seed);
}

}  // namespace hone::lab
