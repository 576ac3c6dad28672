// The no-harm mixture. docs/mixture.md proves the bounds; B, n and g below are defined there.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "hone/decide.h"

namespace hone::decide {
namespace {

constexpr double impossible = -std::numeric_limits<double>::infinity();
constexpr double lowest_double = std::numeric_limits<double>::lowest();

// log(e^a + e^b) without overflow; −inf is log 0.
double log_add(double a, double b) {
  const auto [low, high] = std::minmax(a, b);
  return high == impossible ? impossible : high + std::log1p(std::exp(low - high));
}

// Σ_j e^logs[j] = e^(largest + rest), split so that normalising keeps its precision when `largest` is huge.
struct LogSum {
  double largest = impossible;
  double rest = 0;
};

// At least one of `logs` is finite.
LogSum log_sum(const std::vector<double>& logs) {
  LogSum sum{*std::max_element(logs.begin(), logs.end()), 0};
  for (const double x : logs) sum.rest += std::exp(x - sum.largest);
  sum.rest = std::log(sum.rest);
  return sum;
}

// log(w_j p_j) = logs[j] + scale. `scale` is the largest log p_j: kept apart, it costs the logs no precision.
struct Joint {
  std::vector<double> logs;  // logs[0] is finite: an update never has to normalise zero
  double scale = 0;
};

Joint joint(const std::vector<double>& log_weights, std::span<const double> log_probs) {
  if (log_probs.size() != log_weights.size())
    throw Error(ErrorCode::bad_input, fmt::format("mixture: {} log-probabilities for {} experts; pass one per expert",
                                                  log_probs.size(), log_weights.size()));
  if (!std::isfinite(log_probs[0]) || log_probs[0] > 0)
    throw Error(
        ErrorCode::bad_input,
        fmt::format(
            "mixture: the base's log-probability is {}; it must be finite and at most 0 (is the model damaged?)",
            log_probs[0]));
  Joint joint{log_weights, log_probs[0]};
  const auto usable = [](double log_prob) { return log_prob <= 0; };  // false for NaN
  for (const double x : log_probs)
    if (usable(x)) joint.scale = std::max(joint.scale, x);
  for (size_t j = 0; j < log_probs.size(); ++j)
    joint.logs[j] += usable(log_probs[j]) ? log_probs[j] - joint.scale : impossible;
  joint.logs[0] = std::max(joint.logs[0], lowest_double);
  return joint;
}

// log(floor·e^base + (1 − floor)·e^mixed)
double with_floor(double base, double mixed, double floor) {
  return floor == 0 ? mixed : log_add(std::log(floor) + base, std::log1p(-floor) + mixed);
}

// Bits the unfloored mixture can lose against an expert of prior weight `prior`.
double sharing_bits(Sharing sharing, double prior, size_t tokens) {
  if (tokens == 0) return 0;
  double nats = 0 - std::log(prior);  // never −0
  if (sharing == Sharing::fixed_share)
    for (size_t t = 1; t < tokens; ++t) nats -= std::log1p(-(1 - prior) / (static_cast<double>(t) + 1));
  return nats / std::log(2.0);
}

}  // namespace

Mixture::Mixture(std::vector<double> prior, Sharing sharing, double floor)
    : prior_(std::move(prior)), sharing_(sharing), floor_(floor) {
  if (prior_.empty()) throw Error(ErrorCode::bad_input, "mixture: the prior is empty; give the base at least");
  double sum = 0;
  for (const double w : prior_) {
    if (!(w > 0)) throw Error(ErrorCode::bad_input, fmt::format("mixture: prior weight {} is not positive", w));
    sum += w;
  }
  if (!(std::abs(sum - 1) <= 1e-9))
    throw Error(ErrorCode::bad_input, fmt::format("mixture: the prior sums to {}, not to 1", sum));
  if (!(floor_ >= 0 && floor_ < 1))
    throw Error(ErrorCode::bad_input, fmt::format("mixture: floor {} is not in [0, 1)", floor_));
  log_weights_.reserve(prior_.size());
  for (double& w : prior_) {
    w /= sum;
    log_weights_.push_back(std::log(w));  // log_weights_ are natural logarithms
  }
}

std::vector<double> Mixture::weights() const {
  std::vector<double> weights(log_weights_);
  for (double& w : weights) w = (1 - floor_) * std::exp(w);
  weights[0] += floor_;
  return weights;
}

double Mixture::log_prob(std::span<const double> log_probs) const {
  const auto [logs, scale] = joint(log_weights_, log_probs);
  const auto [largest, rest] = log_sum(logs);
  return std::min(0.0, scale + with_floor(log_probs[0] - scale, largest + rest, floor_));
}

double Mixture::update(std::span<const double> log_probs) {
  auto [posterior, scale] = joint(log_weights_, log_probs);
  const auto [largest, rest] = log_sum(posterior);
  for (double& w : posterior) w = w - largest - rest;
  ++updates_;
  if (sharing_ == Sharing::fixed_share) {
    const double alpha = 1 / (static_cast<double>(updates_) + 1);
    for (size_t j = 0; j < posterior.size(); ++j)
      posterior[j] = log_add(std::log1p(-alpha) + posterior[j], std::log(alpha) + std::log(prior_[j]));
  }
  log_weights_ = std::move(posterior);
  return std::min(0.0, scale + with_floor(log_probs[0] - scale, largest + rest, floor_));
}

size_t Mixture::experts() const { return prior_.size(); }

size_t Mixture::updates() const { return updates_; }

double Mixture::bound_bits(size_t tokens) const { return bound_bits(tokens, 0); }

double Mixture::bound_bits(size_t tokens, size_t expert) const {
  if (expert >= prior_.size())
    throw Error(ErrorCode::bad_input, fmt::format("mixture: expert {} of {} does not exist", expert, prior_.size()));
  const double bits = sharing_bits(sharing_, prior_[expert], tokens);
  if (tokens == 0 || floor_ == 0) return bits;
  const double n = static_cast<double>(tokens);
  if (expert > 0) return bits - n * std::log2(1 - floor_);
  const double nats_per_token = -with_floor(0, -bits / n * std::log(2.0), floor_);  // g(B/n)
  return std::max(0.0, n * nats_per_token / std::log(2.0));
}

}  // namespace hone::decide
