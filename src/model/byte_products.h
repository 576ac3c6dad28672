// Products of bytes, summed exactly, for processors on which no instruction does both (before VNNI): bytes become
// 16 bits wide, and products of neighbouring pairs are summed in 32.
#pragma once

#include <cstdint>

#include "model/int8.h"

namespace hone {

// sums [rows, out] = x [rows, in] · valuesᵀ. Scales and row sums are the caller's. in < most_int8_inputs.
void multiply_bytes_exactly(const uint8_t* x, size_t rows, const Int8Weights& w, int32_t* sums);

}  // namespace hone
