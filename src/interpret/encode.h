// The encoder's forward pass, for reading and for training.
#pragma once

#include <functional>

#include "hone/sae.h"
#include "interpret/sparse.h"

namespace hone {

// Rows of activations that are held in memory at a time where they are read in order.
constexpr size_t rows_at_once = 4096;

struct Encoding {
  size_t active = 0;
  float dropout = 0;
  std::span<const uint64_t> keys;     // [n] seed of each row's dropout; unused without dropout
  std::span<const uint32_t> watched;  // features whose pre-activations are wanted whether kept or not
  MatrixView watched_values;          // [n, watched]: 0 where dropped
};

// x [n, d] as the encoder sees it, with the pre-bias taken off already. Pre-activations are held for a few rows only.
void encode_rows(const Sae& sae, ConstMatrixView x, const Encoding& encoding, SparseCodes& codes);

// sae.encode(x) of many rows, block by block: use(number of the first row, its codes). An autoencoder that keeps all of
// its features has codes as long as they are many; those of a block stay below 64 MB, unless one row has more.
void encode_in_blocks(const Sae& sae, ConstMatrixView x,
                      const std::function<void(size_t first, const SparseCodes& codes)>& use);

// x − b_dec, row by row.
Matrix without_bias(ConstMatrixView x, std::span<const float> bias);

// Throws Error{bad_input} for sizes that cannot be.
void check_config(const SaeConfig& config);
// The same, and for parameters of another shape than the config's.
void check_shapes(const Sae& sae);

}  // namespace hone
