// Probabilities that leave no trace in a gradient.
#pragma once

namespace hone {

// In a gradient, a probability below this is 0: it is lost in the rounding of what it is added to, and sums of products
// of numbers that small leave the range in which a processor is fast.
constexpr float least_probability = 1e-12F;
inline float flushed(float probability) { return probability < least_probability ? 0 : probability; }

}  // namespace hone
