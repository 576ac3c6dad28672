// The aggregating algorithm for squared loss (Vovk, Competitive on-line statistics, 2001) on the no-harm mixture: an
// expert's "log-probability" is −η times its squared error.
#include <algorithm>
#include <numeric>

#include "decide/checks.h"
#include "hone/selectors.h"

namespace hone::decide {

SelectorMixture::SelectorMixture(std::vector<double> prior, double low, double high, Sharing sharing)
    : mixture_(std::move(prior), sharing), low_(low), high_(high), rate_(2 / ((high - low) * (high - low))) {
  if (!(low < high) || !std::isfinite(low) || !std::isfinite(high) || !std::isfinite(rate_) || rate_ == 0)
    throw Error(ErrorCode::bad_input, fmt::format("selectors: [{}, {}] is not a range of answers", low, high));
}

std::vector<double> SelectorMixture::log_probs(std::span<const double> experts, double truth) const {
  check_size("selectors", experts.size(), mixture_.experts());
  check_finite("selectors", experts);
  std::vector<double> logs;
  for (const double prediction : experts) {
    const double error = truth - std::clamp(prediction, low_, high_);
    logs.push_back(-rate_ * error * error);
  }
  return logs;
}

double SelectorMixture::predict(std::span<const double> experts) const {
  const auto g = [&](double truth) { return -mixture_.log_prob(log_probs(experts, truth)) / rate_; };
  const double prediction = std::midpoint(low_, high_) + (g(low_) - g(high_)) / (2 * (high_ - low_));
  return std::clamp(prediction, low_, high_);
}

void SelectorMixture::observe(std::span<const double> experts, double truth) {
  if (!(truth >= low_ && truth <= high_))
    throw Error(ErrorCode::bad_input, fmt::format("selectors: the answer {} is not in [{}, {}]", truth, low_, high_));
  mixture_.update(log_probs(experts, truth));
}

double SelectorMixture::bound(size_t predictions) const {
  return mixture_.bound_bits(predictions) * std::log(2.0) / rate_;
}

}  // namespace hone::decide
