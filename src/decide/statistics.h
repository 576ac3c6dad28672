// The percentile bootstrap in two steps, for many differences of a few series.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hone/decide.h"

namespace hone::decide {

// The means of bootstrap_mean()'s resamples, [series][draws]. All series, of one length, are resampled alike, so the
// resampled means of their differences are the differences of their resampled means. Uses all threads. Throws as
// bootstrap_mean(), and Error{bad_input} for lengths that differ.
std::vector<std::vector<double>> resampled_means(std::span<const std::span<const double>> series, uint64_t seed = 0,
                                                 size_t draws = 10000);
// `mean` with the 2.5 % and 97.5 % quantiles of the resampled means, of which there is one at least.
Interval bootstrap_interval(double mean, std::vector<double> resampled_means);

}  // namespace hone::decide
