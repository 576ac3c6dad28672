// From the hidden states of a text's tokens to one vector.
#pragma once

#include <span>

#include "hone/encoder.h"

namespace hone {

// vector [width] of states [n, width]; 0 if n is 0.
void pool(Pooling pooling, ConstMatrixView states, std::span<float> vector);
// vector / ‖vector‖; 0 stays 0.
void normalize(std::span<float> vector);

}  // namespace hone
