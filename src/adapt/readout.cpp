// What is read off the logits of a prompt's last position.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "hone/fewshot.h"

namespace hone {
namespace {

void check_labels(const std::vector<Token>& labels) {
  if (labels.size() < 2)
    throw Error(ErrorCode::bad_input,
                fmt::format("a readout of {} label tokens says nothing; give at least two", labels.size()));
  for (size_t j = 0; j < labels.size(); ++j)
    if (std::find(labels.begin(), labels.begin() + static_cast<ptrdiff_t>(j), labels[j]) !=
        labels.begin() + static_cast<ptrdiff_t>(j))
      throw Error(
          ErrorCode::bad_input,
          fmt::format("two labels are the same token {}; labels must differ in the token that is read off", labels[j]));
}

// softmax(z), and log Σ exp(z).
std::pair<std::vector<double>, double> softmax(std::span<const float> z) {
  const double largest = *std::ranges::max_element(z);
  std::vector<double> p;
  double sum = 0;
  for (const float logit : z) sum += p.emplace_back(std::exp(logit - largest));
  for (double& value : p) value /= sum;
  return {std::move(p), largest + std::log(sum)};
}

}  // namespace

Readout::Readout(Kind kind, std::vector<Token> labels, std::vector<double> values)
    : kind_(kind), labels_(std::move(labels)), values_(std::move(values)) {
  check_labels(labels_);
}

Readout Readout::expected_value(std::vector<Token> labels, std::vector<double> values) {
  if (labels.size() != values.size())
    throw Error(ErrorCode::bad_input, fmt::format("{} values for {} labels", values.size(), labels.size()));
  for (const double value : values)
    if (!std::isfinite(value)) throw Error(ErrorCode::bad_input, fmt::format("the value {} of a label", value));
  return {Kind::expected_value, std::move(labels), std::move(values)};
}

Readout Readout::margin(Token a, Token b) { return {Kind::margin, {a, b}, {1, -1}}; }

Readout Readout::log_probability(std::vector<Token> labels, size_t index) {
  if (index >= labels.size())
    throw Error(ErrorCode::bad_input, fmt::format("label {} of {} does not exist", index, labels.size()));
  std::vector<double> values(labels.size());
  values[index] = 1;
  return {Kind::log_probability, std::move(labels), std::move(values)};
}

// ∂ŷ/∂z_j = p_j (v_j − ŷ); ∂ log p_i/∂z_j = [i = j] − p_j.
double Readout::value(std::span<const float> z, std::span<float> d_z) const {
  if (z.size() != labels_.size() || d_z.size() != labels_.size())
    throw Error(ErrorCode::bad_input, fmt::format("{} logits for {} labels", z.size(), labels_.size()));
  double result = 0;
  if (kind_ == Kind::margin) {
    for (size_t j = 0; j < z.size(); ++j) {
      result += values_[j] * z[j];
      d_z[j] = static_cast<float>(values_[j]);
    }
    return result;
  }
  const auto [p, normalizer] = softmax(z);
  if (kind_ == Kind::log_probability) {
    for (size_t j = 0; j < z.size(); ++j) {
      if (values_[j] > 0) result = z[j] - normalizer;
      d_z[j] = static_cast<float>(values_[j] - p[j]);
    }
    return result;
  }
  for (size_t j = 0; j < z.size(); ++j) result += values_[j] * p[j];
  for (size_t j = 0; j < z.size(); ++j) d_z[j] = static_cast<float>(p[j] * (values_[j] - result));
  return result;
}

}  // namespace hone
