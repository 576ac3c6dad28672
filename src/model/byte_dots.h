// Products of bytes for a few rows, as when tokens are decoded: every weight is read from memory once, as it stands,
// where oneDNN would first put it into another order.
#pragma once

#include <cstdint>

#include "model/int8.h"

namespace hone {

// More rows are oneDNN's.
inline constexpr size_t max_dot_rows = 12;

// Outputs [begin, end) of sums [rows, out] = x [rows, in] · valuesᵀ, exact, on the caller's thread. begin is a multiple
// of dotted_outputs, and so is end unless it is out; rows ≤ max_dot_rows; in < most_int8_inputs; has_vnni()
// (base/vnni.h).
inline constexpr size_t dotted_outputs = 4;
void dot_bytes(const uint8_t* x, size_t rows, const Int8Weights& w, size_t begin, size_t end, int32_t* sums);

}  // namespace hone
