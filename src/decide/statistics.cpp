// How sure a mean or a share is: the percentile bootstrap (Efron 1979) and Wilson's interval; the median.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "base/random.h"
#include "decide/statistics.h"

namespace hone::decide {
namespace {

void check_values(std::span<const double> values, std::string_view what) {
  if (values.empty()) throw Error(ErrorCode::bad_input, fmt::format("{}: there are no values", what));
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      throw Error(ErrorCode::bad_input, fmt::format("{}: value {} is {}, not a finite number", what, i, values[i]));
}

// Interpolates linearly between the neighbouring order statistics of `sorted`.
double quantile(std::span<const double> sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], position - static_cast<double>(below));
}

}  // namespace

std::vector<std::vector<double>> resampled_means(std::span<const std::span<const double>> series, uint64_t seed,
                                                 size_t draws) {
  constexpr size_t block = 64;  // draws whose indices are held at a time
  if (draws == 0) throw Error(ErrorCode::bad_input, "bootstrap_mean: draws is 0; ask for at least one resample");
  std::vector<std::vector<double>> means(series.size());
  if (series.empty()) return means;
  const size_t count = series.front().size();
  for (const std::span<const double> values : series) {
    check_values(values, "bootstrap_mean");
    if (values.size() != count)
      throw Error(ErrorCode::bad_input,
                  fmt::format("bootstrap_mean: series of {} and of {} values", count, values.size()));
  }
  RandomStream random(seed, "bootstrap");
  std::vector<size_t> indices;
  for (size_t done = 0; done < draws; done += block) {
    indices.resize(std::min(block, draws - done) * count);
    for (size_t& i : indices) i = random.below(count);
    parallel_for(series.size(), [&](size_t s) {
      for (auto drawn = indices.begin(); drawn != indices.end(); drawn += static_cast<std::ptrdiff_t>(count)) {
        double sum = 0;
        for (size_t i = 0; i < count; ++i) sum += series[s][drawn[static_cast<std::ptrdiff_t>(i)]];
        means[s].push_back(sum / static_cast<double>(count));
      }
    });
  }
  return means;
}

Interval bootstrap_interval(double mean, std::vector<double> resampled_means) {
  std::sort(resampled_means.begin(), resampled_means.end());
  return {mean, quantile(resampled_means, 0.025), quantile(resampled_means, 0.975)};
}

Interval bootstrap_mean(std::span<const double> values, uint64_t seed, size_t draws) {
  std::vector<double> means = std::move(resampled_means({&values, 1}, seed, draws).front());
  return bootstrap_interval(std::reduce(values.begin(), values.end()) / static_cast<double>(values.size()),
                            std::move(means));
}

Interval share_interval(size_t count, size_t total) {
  if (total == 0 || count > total)
    throw Error(ErrorCode::bad_input, fmt::format("share_interval: {} of {} is not a share", count, total));
  constexpr double z = 1.959963984540054;
  const double n = static_cast<double>(total), p = static_cast<double>(count) / n;
  const double middle = (p + z * z / (2 * n)) / (1 + z * z / n);
  const double half = z / (1 + z * z / n) * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  return {p, count == 0 ? 0 : middle - half, count == total ? 1 : middle + half};
}

double median(std::vector<double> values) {
  check_values(values, "median");
  const auto upper = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), upper, values.end());
  if (values.size() % 2 == 1) return *upper;
  return std::midpoint(*std::max_element(values.begin(), upper), *upper);
}

}  // namespace hone::decide
