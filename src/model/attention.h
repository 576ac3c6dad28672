// Softmax attention of packed sequences with grouped key/value heads, causal or not; forward and backward.
#pragma once

#include <span>
#include <vector>

#include "hone/base.h"

namespace hone {

// Rows of one sequence: query row i (of `queries`) has position first_position + i and sees key rows j of position
// j ≤ its own and, with a window > 0, position − j < window; all key rows if attention is not causal.
struct AttentionSequence {
  size_t first_row = 0;  // of its queries, outputs and normalizers in the packed matrices
  size_t rows = 0;
  size_t first_position = 0;      // 0 without a cache
  const float* keys = nullptr;    // [first_position + rows, K · head_dim], rotated
  const float* values = nullptr;  // the same shape
  // Instead of both, a cache's pages of kv_page_rows rows: [2, K, kv_page_rows, head_dim] each, keys first.
  std::span<const float* const> pages = {};
};

inline constexpr size_t kv_page_rows = 64;

struct AttentionShape {
  size_t heads = 0;
  size_t kv_heads = 0;
  size_t head_dim = 0;
  float scale = 1;    // of q·k before softmax
  size_t window = 0;  // 0: no limit; only with causal attention
  bool causal = true;
};

// out [P, H·head_dim] from q [P, H·head_dim], rotated. log_normalizer [P, H] is written unless its data is nullptr.
void attention(const AttentionShape& shape, const std::vector<AttentionSequence>& sequences, ConstMatrixView q,
               MatrixView out, MatrixView log_normalizer);

// No pages here and below. Gradients dq [P, H·head_dim] and dk, dv [P, K·head_dim] (rotated q and k; keys of sequence b
// are rows [first_row, first_row + rows) of k, first_position is 0), given `out` and d_out.
void attention_backward(const AttentionShape& shape, const std::vector<AttentionSequence>& sequences, ConstMatrixView q,
                        ConstMatrixView log_normalizer, ConstMatrixView out, ConstMatrixView d_out, MatrixView dq,
                        MatrixView dk, MatrixView dv);

// Derivatives along one direction of a sequence's keys and values, in two runs of rows: those of a prefix, then the
// sequence's own.
struct AttentionTangent {
  size_t prefix = 0;                     // rows of the first run
  const float* prefix_keys = nullptr;    // [prefix, K · head_dim], rotated
  const float* prefix_values = nullptr;  // the same shape
  const float* keys = nullptr;           // [first_position + rows − prefix, K · head_dim]
  const float* values = nullptr;         // the same shape
};

// The derivative d_out [R · P, H·head_dim] of attention() along R directions, row r·P + p along direction r, from d_q
// of that shape; tangents[s · R + r] is sequence s along direction r.
void attention_tangents(const AttentionShape& shape, const std::vector<AttentionSequence>& sequences, ConstMatrixView q,
                        ConstMatrixView log_normalizer, const std::vector<AttentionTangent>& tangents,
                        ConstMatrixView d_q, MatrixView d_out);

}  // namespace hone
