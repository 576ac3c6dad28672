// What every function of this room asks of its numbers.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <span>
#include <string_view>

#include "hone/spectrum.h"

namespace hone::decide {

inline void check_size(std::string_view what, size_t size, size_t expected) {
  if (size != expected)
    throw Error(ErrorCode::bad_input, fmt::format("{}: {} values; {} are needed", what, size, expected));
}

inline void check_finite(std::string_view what, std::span<const double> values) {
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      throw Error(ErrorCode::bad_input, fmt::format("{}: value {} is {}, not a finite number", what, i, values[i]));
}

inline void check_step_size(const Spectrum& spectrum, double rho) {
  if (!(rho >= 0 && rho * spectrum.largest() < 1))
    throw Error(ErrorCode::bad_input,
                fmt::format("step: ρ = {:.6g} is not in [0, 1/λ_max) with λ_max = {:.6g}; gradient descent may diverge",
                            rho, spectrum.largest()));
}

inline void check_steps(double steps) {
  if (!(steps >= 0 && std::isfinite(steps)))
    throw Error(ErrorCode::bad_input, fmt::format("steps: {} is not a number of steps", steps));
}

// What a variance may be: 0 and up, finite.
inline void check_variance(std::string_view what, double variance) {
  if (!(variance >= 0 && std::isfinite(variance)))
    throw Error(ErrorCode::bad_input, fmt::format("{}: {} is not a variance", what, variance));
}

inline void check_probability(std::string_view what, double probability) {
  if (!(probability > 0 && probability < 1))
    throw Error(ErrorCode::bad_input, fmt::format("{}: {} is not between 0 and 1", what, probability));
}

}  // namespace hone::decide
