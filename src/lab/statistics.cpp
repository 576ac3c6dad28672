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

constexpr size_t exact_limit = 16;       // differences whose sign flips are all tried
constexpr size_t default_draws = 20000;  // of sign_flip_p()
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

// Σ ±v_i, bit i of `signs` set for plus.
double flipped_sum(std::span<const double> values, uint64_t signs) {
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) sum += (signs >> i & 1) != 0 ? values[i] : -values[i];
  return sum;
}

// Σ ±v_i for `draws` flips: the same flips for series of one length and seed, so the sums of their differences are the
// differences of their sums.
std::vector<double> flipped_sums(std::span<const double> values, uint64_t seed, size_t draws) {
  // table[256 g + signs]: of the eight values of group g. A draw then adds one number for eight flips.
  const size_t groups = (values.size() + 7) / 8;
  std::vector<double> table(256 * groups), sums(draws);
  for (size_t g = 0; g < groups; ++g)
    for (uint64_t signs = 0; signs < 256; ++signs)
      table[256 * g + signs] = flipped_sum(values.subspan(8 * g, std::min<size_t>(8, values.size() - 8 * g)), signs);
  RandomStream random(seed, "sign flips");
  for (double& sum : sums) {
    uint64_t signs = 0;
    for (size_t g = 0; g < groups; ++g, signs >>= 8) {
      if (g % 8 == 0) signs = random.next();
      sum += table[256 * g + (signs & 255)];
    }
  }
  return sums;
}

// The differences that a flip changes, and what makes a flip's sum as extreme as theirs.
class SignFlips {
 public:
  explicit SignFlips(std::span<const double> differences) {
    double observed = 0, most = 0;
    for (const double difference : differences) {
      if (difference == 0) continue;
      changed_.push_back(difference);
      observed += difference;
      most += std::abs(difference);
    }
    threshold_ = std::abs(observed) - 1e-12 * most;  // sums in another order round differently
  }
  bool few() const { return changed_.size() <= exact_limit; }
  double exact_p() const {
    const uint64_t flips = uint64_t{1} << changed_.size();
    size_t extreme = 0;
    for (uint64_t signs = 0; signs < flips; ++signs) extreme += is_extreme(flipped_sum(changed_, signs));
    return static_cast<double>(extreme) / static_cast<double>(flips);
  }
  double p(std::span<const double> sums) const {
    const auto extreme = std::ranges::count_if(sums, [&](double sum) { return is_extreme(sum); });
    return static_cast<double>(1 + extreme) / static_cast<double>(1 + sums.size());
  }

 private:
  bool is_extreme(double sum) const { return std::abs(sum) >= threshold_; }

  std::vector<double> changed_;
  double threshold_;
};

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
  const SignFlips flips(differences);
  return flips.few() ? flips.exact_p() : flips.p(flipped_sums(differences, seed, draws));
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
  std::vector<std::span<const double>> series;
  for (const Method& method : methods) {
    const Method& first = methods.front();
    if (method.values.size() != first.values.size() || method.values.empty())
      throw Error(ErrorCode::bad_input,
                  fmt::format("{} has {} values and {} has {}; pairs need the same tasks, at least one", first.name,
                              first.values.size(), method.name, method.values.size()));
    series.emplace_back(method.values);
  }
  const std::vector<std::vector<double>> resampled = decide::resampled_means(series, seed);
  std::vector<std::vector<double>> flipped(methods.size());
  parallel_for(methods.size(), [&](size_t m) { flipped[m] = flipped_sums(series[m], seed, default_draws); });
  std::vector<Comparison> comparisons(pairs.size());
  parallel_for(pairs.size(), [&](size_t i) {
    const auto [first, second] = pairs[i];
    const std::vector<double> differences = minus(series[first], series[second]);
    const SignFlips flips(differences);
    comparisons[i] = {methods[first].name, methods[second].name,
                      decide::bootstrap_interval(mean(differences), minus(resampled[first], resampled[second])),
                      flips.few() ? flips.exact_p() : flips.p(minus(flipped[first], flipped[second]))};
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
