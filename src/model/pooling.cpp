#include "model/pooling.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace hone {
namespace {

constexpr std::array<std::string_view, 4> names = {"mean", "cls", "last", "directions"};

// 1 / ‖vector‖; 0 for 0.
double inverse_length(std::span<const float> vector) {
  double square = 0;
  for (const float value : vector) square += static_cast<double>(value) * value;
  return square > 0 ? 1 / std::sqrt(square) : 0;
}

void mean(ConstMatrixView states, bool directions, std::span<float> vector) {
  std::vector<double> sum(vector.size());
  for (size_t t = 0; t < states.rows; ++t) {
    const auto state = states.row(t);
    const double factor = directions ? inverse_length(state) : 1;
    for (size_t d = 0; d < sum.size(); ++d) sum[d] += factor * state[d];
  }
  for (size_t d = 0; d < sum.size(); ++d) vector[d] = static_cast<float>(sum[d] / static_cast<double>(states.rows));
}

}  // namespace

std::string_view name(Pooling pooling) { return names[static_cast<size_t>(pooling)]; }

Pooling pooling_named(std::string_view text) {
  const auto found = std::ranges::find(names, text);
  if (found == names.end())
    throw Error(ErrorCode::bad_input,
                fmt::format("there is no pooling '{}'; there are: {}", text, fmt::join(names, ", ")));
  return static_cast<Pooling>(found - names.begin());
}

void pool(Pooling pooling, ConstMatrixView states, std::span<float> vector) {
  const size_t n = states.rows;
  std::ranges::fill(vector, 0.0f);
  if (n == 0) return;
  switch (pooling) {
    case Pooling::mean: return mean(states, false, vector);
    case Pooling::cls: std::ranges::copy(states.row(0), vector.begin()); return;
    case Pooling::last: std::ranges::copy(states.row(n - 1), vector.begin()); return;
    case Pooling::directions: return mean(n > 1 ? states.row_range(1, n - 1) : states, true, vector);
  }
}

void normalize(std::span<float> vector) {
  const double factor = inverse_length(vector);
  for (float& value : vector) value = static_cast<float>(factor * value);
}

}  // namespace hone
