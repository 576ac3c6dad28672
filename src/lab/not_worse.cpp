#include "lab/not_worse.h"

#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "lab/statistics.h"

namespace hone::lab {

NotWorse not_worse(std::string rule, std::string condition, std::span<const double> errors,
                   std::span<const double> reference, uint64_t seed) {
  if (errors.empty() || errors.size() != reference.size())
    throw Error(ErrorCode::bad_input,
                fmt::format("'{}' has {} tasks, its reference {}; the same, at least one, are needed", rule,
                            errors.size(), reference.size()));
  const double tasks = static_cast<double>(errors.size());
  std::vector<double> differences, beyond_margin;
  for (size_t i = 0; i < errors.size(); ++i) {
    differences.push_back(errors[i] - reference[i]);
    beyond_margin.push_back(errors[i] - (1 + allowed_share) * reference[i]);
  }
  NotWorse result;
  result.rule = std::move(rule);
  result.condition = std::move(condition);
  result.tasks = errors.size();
  result.reference = std::reduce(reference.begin(), reference.end()) / tasks;
  result.difference = decide::bootstrap_mean(differences, seed);
  const double mean = std::reduce(beyond_margin.begin(), beyond_margin.end()) / tasks;
  const double deviation = standard_error(beyond_margin);
  if (deviation > 0)
    result.p = std::erfc(-mean / deviation / std::sqrt(2.0)) / 2;
  else
    result.p = mean < 0 ? 0 : 1;
  return result;
}

void correct(std::span<NotWorse> family) {
  std::vector<double> p;
  for (const NotWorse& one : family) p.push_back(one.p);
  const std::vector<double> corrected = holm(p);
  for (size_t i = 0; i < family.size(); ++i) {
    family[i].holm_p = corrected[i];
    family[i].shown = corrected[i] <= 0.05 && family[i].difference.high <= allowed_share * family[i].reference &&
                      family[i].tasks >= least_tasks;
  }
}

}  // namespace hone::lab
