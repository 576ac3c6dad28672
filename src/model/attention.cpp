#include "model/attention.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <span>

#include "base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/attention.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "hwy/cache_control.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "model/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

using Vec = hn::Vec<Float>;
constexpr float masked = -1e30f;
constexpr size_t max_columns = tile_vectors * HWY_MAX_BYTES / sizeof(float);

// Queries [first, first + count) of a sequence for `heads` neighbouring heads that share a key/value head; lane
// h · count + i is query first + i of the h-th of them, and lanes beyond heads · count repeat the last.
struct QueryBlock {
  const AttentionSequence& sequence;
  size_t first;
  size_t count;
  size_t first_head;
  size_t heads;
  size_t columns;    // lanes, in whole vectors
  size_t key_begin;  // keys that any query of the block sees
  size_t key_end;

  size_t used() const { return heads * count; }
  size_t head(size_t lane) const { return first_head + std::min(lane, used() - 1) / count; }
  size_t query(size_t lane) const { return first + std::min(lane, used() - 1) % count; }
  size_t position(size_t lane) const { return sequence.first_position + query(lane); }
};

size_t queries_per_block(size_t heads) { return std::max<size_t>(1, tile_columns() / heads); }

size_t blocks_of(const AttentionSequence& sequence, size_t heads) {
  return (sequence.rows + queries_per_block(heads) - 1) / queries_per_block(heads);
}

QueryBlock query_block(const AttentionShape& shape, const AttentionSequence& sequence, size_t index, size_t first_head,
                       size_t heads) {
  const size_t first = index * queries_per_block(heads);
  const size_t count = std::min(queries_per_block(heads), sequence.rows - first);
  const size_t columns = (heads * count + lanes() - 1) / lanes() * lanes();
  const size_t position = sequence.first_position + first;
  if (!shape.causal)
    return {sequence, first, count, first_head, heads, columns, 0, sequence.first_position + sequence.rows};
  const size_t begin = shape.window > 0 && position + 1 > shape.window ? position + 1 - shape.window : 0;
  return {sequence, first, count, first_head, heads, columns, begin, position + count};
}

// packed[i][lane] = rows[query(lane)][head(lane) · head_dim + i] for i < head_dim.
void pack_heads(const QueryBlock& block, ConstMatrixView rows, size_t head_dim, float* packed) {
  for (size_t lane = 0; lane < block.columns; ++lane) {
    const float* row = rows.row(block.sequence.first_row + block.query(lane)).data() + block.head(lane) * head_dim;
    for (size_t i = 0; i < head_dim; ++i) packed[i * block.columns + lane] = row[i];
  }
}

// c [rows, columns] (+)= a b with b and c row-major of any width.
template <Layout layout, Into into = Into::stored>
void small_product(const float* a, size_t a_stride, const float* b, size_t b_row, size_t depth, float* c, size_t c_row,
                   size_t rows, size_t columns) {
  const size_t step = tile_columns();
  for (size_t column = 0; column < columns; column += step) {
    const size_t width = std::min(step, columns - column);
    const size_t whole = width / lanes();
    for (size_t r = 0; r < rows; r += tile_rows) {
      const size_t some = std::min(tile_rows, rows - r);
      const float* from = layout == Layout::rows ? a + r * a_stride : a + r;
      if (whole > 0)
        tile_of_width<layout, into>(whole, from, a_stride, b + column, b_row, depth, c + r * c_row + column, c_row,
                                    some);
      for (size_t rest = column + whole * lanes(); rest < column + width; ++rest)
        for (size_t i = r; i < r + some; ++i) {
          float sum = into == Into::continued ? c[i * c_row + rest] : 0.0f;
          for (size_t k = 0; k < depth; ++k)
            sum =
                std::fma(layout == Layout::rows ? a[i * a_stride + k] : a[k * a_stride + i], b[k * b_row + rest], sum);
          c[i * c_row + rest] = into == Into::added ? c[i * c_row + rest] + sum : sum;
        }
    }
  }
}

// Calls body(first row, their number, the first's key and value of the block's head, from a row to the next) for the
// rows that the block sees, wherever they lie together.
template <class Body>
void for_runs(const AttentionShape& shape, const QueryBlock& block, const Body& body) {
  const AttentionSequence& sequence = block.sequence;
  const size_t head = block.first_head / (shape.heads / shape.kv_heads), dim = shape.head_dim;
  if (sequence.pages.empty()) {
    const size_t stride = shape.kv_heads * dim, at = block.key_begin * stride + head * dim;
    return body(block.key_begin, block.key_end - block.key_begin, sequence.keys + at, sequence.values + at, stride);
  }
  for (size_t first = block.key_begin, end = 0; first < block.key_end; first = end) {
    const size_t at = first % kv_page_rows;
    end = std::min(block.key_end, first + kv_page_rows - at);
    const float* keys = sequence.pages[first / kv_page_rows] + (head * kv_page_rows + at) * dim;
    body(first, end - first, keys, keys + shape.kv_heads * kv_page_rows * dim, dim);
  }
}

void prefetch_rows(const float* rows, size_t count, size_t stride, size_t width) {
  constexpr size_t cache_line = 64 / sizeof(float);
  for (size_t r = 0; r < count; ++r)
    for (size_t i = 0; i < width; i += cache_line) hwy::Prefetch(rows + r * stride + i);
}

// scores[j − key_begin][lane] = scale · k_j·q_lane, `masked` where lane does not see j.
void block_scores(const AttentionShape& shape, const QueryBlock& block, const float* packed_q, float* scores) {
  const size_t width = block.columns;
  for_runs(shape, block, [&](size_t first, size_t count, const float* keys, const float* values, size_t stride) {
    float* to = scores + (first - block.key_begin) * width;
    for (size_t r = 0; r < count; r += tile_rows) {
      const size_t some = std::min(tile_rows, count - r), next = std::min(tile_rows, count - r - some);
      if (width == lanes()) {  // so few queries read rows faster than they come from memory
        prefetch_rows(keys + (r + some) * stride, next, stride, shape.head_dim);
        prefetch_rows(values + r * stride, some, stride, shape.head_dim);
      }
      small_product<Layout::rows>(keys + r * stride, stride, packed_q, width, shape.head_dim, to + r * width, width,
                                  some, width);
    }
  });
  const Float d;
  for (size_t j = block.key_begin; j < block.key_end; ++j) {
    float* row = scores + (j - block.key_begin) * width;
    for (size_t lane = 0; lane < width; lane += lanes())
      hn::StoreU(hn::Mul(hn::LoadU(d, row + lane), hn::Set(d, shape.scale)), d, row + lane);
    const bool all_see =
        !shape.causal || (j <= block.position(0) && (shape.window == 0 || block.key_end <= j + shape.window));
    if (all_see) continue;
    for (size_t lane = 0; lane < width; ++lane) {
      const size_t position = block.position(lane);
      if (j > position || (shape.window > 0 && position - j >= shape.window)) row[lane] = masked;
    }
  }
}

void block_forward(const AttentionShape& shape, const QueryBlock& block, ConstMatrixView q, MatrixView out,
                   MatrixView log_normalizer) {
  const Float d;
  const size_t dim = shape.head_dim, width = block.columns, keys = block.key_end - block.key_begin;
  Matrix packed = Matrix::uninitialized(dim, width), scores = Matrix::uninitialized(keys, width);
  pack_heads(block, q, dim, packed.data());
  block_scores(shape, block, packed.data(), scores.data());

  alignas(64) float normalizer[max_columns], inverse[max_columns];
  for (size_t lane = 0; lane < width; lane += lanes()) {
    Vec top = hn::Set(d, masked), sum = hn::Zero(d);
    for (size_t j = 0; j < keys; ++j) top = hn::Max(top, hn::LoadU(d, scores.row(j).data() + lane));
    for (size_t j = 0; j < keys; ++j) {
      float* score = scores.row(j).data() + lane;
      const Vec p = hn::Exp(d, hn::Sub(hn::LoadU(d, score), top));
      hn::StoreU(p, d, score);
      sum = hn::Add(sum, p);
    }
    hn::StoreU(hn::Div(hn::Set(d, 1.0f), sum), d, inverse + lane);
    hn::StoreU(hn::Add(top, hn::Log(d, sum)), d, normalizer + lane);
  }
  Matrix attended(block.used(), dim);
  for_runs(shape, block, [&](size_t first, size_t count, const float*, const float* values, size_t stride) {
    small_product<Layout::columns, Into::continued>(scores.row(first - block.key_begin).data(), width, values, stride,
                                                    count, attended.data(), dim, block.used(), dim);
  });
  for (size_t lane = 0; lane < block.used(); ++lane) {
    const size_t row = block.sequence.first_row + block.query(lane), head = block.head(lane);
    float* to = out.row(row).data() + head * dim;
    for (size_t i = 0; i < dim; ++i) to[i] = attended.row(lane)[i] * inverse[lane];
    if (log_normalizer.data) log_normalizer.row(row)[head] = normalizer[lane];
  }
}

// Adds to dq of the block's queries, and to this head's dk and dv [rows of the sequence, head_dim].
void head_backward(const AttentionShape& shape, const QueryBlock& block, ConstMatrixView q,
                   ConstMatrixView log_normalizer, ConstMatrixView out, ConstMatrixView d_out, MatrixView dq,
                   Matrix& dk, Matrix& dv) {
  const Float d;
  const size_t head = block.first_head;
  const size_t dim = shape.head_dim, width = block.columns, keys = block.key_end - block.key_begin;
  const size_t kv_stride = shape.kv_heads * dim, kv_offset = head / (shape.heads / shape.kv_heads) * dim;
  const size_t first_row = block.sequence.first_row + block.first;
  Matrix packed = Matrix::uninitialized(dim, width);
  Matrix p = Matrix::uninitialized(keys, width), ds = Matrix::uninitialized(keys, width);
  pack_heads(block, q, dim, packed.data());
  block_scores(shape, block, packed.data(), p.data());
  pack_heads(block, d_out, dim, packed.data());
  small_product<Layout::rows>(block.sequence.values + block.key_begin * kv_stride + kv_offset, kv_stride, packed.data(),
                              width, dim, ds.data(), width, keys, width);

  alignas(64) float normalizer[max_columns], correction[max_columns];  // the latter Σ_i d_out_i out_i
  for (size_t lane = 0; lane < width; ++lane) {
    const size_t row = block.sequence.first_row + block.query(lane);
    normalizer[lane] = log_normalizer.row(row)[head];
    const float *a = out.row(row).data() + head * dim, *b = d_out.row(row).data() + head * dim;
    correction[lane] = 0;
    for (size_t i = 0; i < dim; ++i) correction[lane] += a[i] * b[i];
  }
  for (size_t j = 0; j < keys; ++j)
    for (size_t lane = 0; lane < width; lane += lanes()) {
      float *to_p = p.row(j).data() + lane, *to_ds = ds.row(j).data() + lane;
      const Vec probability = hn::Exp(d, hn::Sub(hn::LoadU(d, to_p), hn::Load(d, normalizer + lane)));
      const Vec gradient = hn::Sub(hn::LoadU(d, to_ds), hn::Load(d, correction + lane));
      hn::StoreU(probability, d, to_p);
      hn::StoreU(hn::Mul(hn::Mul(probability, gradient), hn::Set(d, shape.scale)), d, to_ds);
    }
  small_product<Layout::columns>(ds.data(), width, block.sequence.keys + block.key_begin * kv_stride + kv_offset,
                                 kv_stride, keys, dq.row(first_row).data() + head * dim, dq.cols, block.count, dim);
  small_product<Layout::rows, Into::added>(ds.data(), width, q.row(first_row).data() + head * dim, q.cols, block.count,
                                           dk.row(block.key_begin).data(), dim, keys, dim);
  small_product<Layout::rows, Into::added>(p.data(), width, d_out.row(first_row).data() + head * dim, d_out.cols,
                                           block.count, dv.row(block.key_begin).data(), dim, keys, dim);
}

// d_out of the block's queries for one head, along every direction: with a = scale · (d_q·k + q·d_k),
// Σ_j p_j (a_j − Σ p a) v_j + p_j d_v_j.
void head_tangents(const AttentionShape& shape, const QueryBlock& block, ConstMatrixView q,
                   ConstMatrixView log_normalizer, std::span<const AttentionTangent> tangents, ConstMatrixView d_q,
                   MatrixView d_out) {
  const Float d;
  const size_t head = block.first_head;
  const size_t dim = shape.head_dim, width = block.columns, keys = block.key_end - block.key_begin;
  const size_t kv_stride = shape.kv_heads * dim, kv_offset = head / (shape.heads / shape.kv_heads) * dim;
  Matrix packed = Matrix::uninitialized(dim, width), d_packed = Matrix::uninitialized(dim, width);
  Matrix p = Matrix::uninitialized(keys, width), a = Matrix::uninitialized(keys, width);
  pack_heads(block, q, dim, packed.data());
  block_scores(shape, block, packed.data(), p.data());
  alignas(64) float normalizer[max_columns];
  for (size_t lane = 0; lane < width; ++lane)
    normalizer[lane] = log_normalizer.row(block.sequence.first_row + block.query(lane))[head];
  for (size_t j = 0; j < keys; ++j)
    for (size_t lane = 0; lane < width; lane += lanes()) {
      float* to = p.row(j).data() + lane;
      hn::StoreU(hn::Exp(d, hn::Sub(hn::LoadU(d, to), hn::Load(d, normalizer + lane))), d, to);
    }
  for (size_t r = 0; r < tangents.size(); ++r) {
    const AttentionTangent& t = tangents[r];
    const size_t first_row = r * q.rows + block.sequence.first_row + block.first;
    // Calls body(first key, keys, their derivatives) for the two runs.
    const auto runs = [&](const float* of_prefix, const float* own, const auto& body) {
      const size_t middle = std::clamp(t.prefix, block.key_begin, block.key_end);
      if (middle > block.key_begin)
        body(block.key_begin, middle - block.key_begin, of_prefix + block.key_begin * kv_stride);
      if (block.key_end > middle) body(middle, block.key_end - middle, own + (middle - t.prefix) * kv_stride);
    };
    pack_heads(block, d_q.row_range(r * q.rows, q.rows), dim, d_packed.data());
    small_product<Layout::rows>(block.sequence.keys + block.key_begin * kv_stride + kv_offset, kv_stride,
                                d_packed.data(), width, dim, a.data(), width, keys, width);
    runs(t.prefix_keys, t.keys, [&](size_t first, size_t count, const float* d_keys) {
      small_product<Layout::rows, Into::added>(d_keys + kv_offset, kv_stride, packed.data(), width, dim,
                                               a.row(first - block.key_begin).data(), width, count, width);
    });
    for (size_t lane = 0; lane < width; lane += lanes()) {
      Vec mean = hn::Zero(d);
      for (size_t j = 0; j < keys; ++j)
        mean = hn::MulAdd(hn::LoadU(d, p.row(j).data() + lane), hn::LoadU(d, a.row(j).data() + lane), mean);
      for (size_t j = 0; j < keys; ++j) {
        float* to = a.row(j).data() + lane;
        const Vec scaled = hn::Mul(hn::LoadU(d, p.row(j).data() + lane), hn::Set(d, shape.scale));
        hn::StoreU(hn::Mul(scaled, hn::Sub(hn::LoadU(d, to), mean)), d, to);
      }
    }
    float* out = d_out.row(first_row).data() + head * dim;
    small_product<Layout::columns>(a.data(), width, block.sequence.values + block.key_begin * kv_stride + kv_offset,
                                   kv_stride, keys, out, d_out.cols, block.count, dim);
    runs(t.prefix_values, t.values, [&](size_t first, size_t count, const float* d_values) {
      small_product<Layout::columns, Into::added>(p.row(first - block.key_begin).data(), width, d_values + kv_offset,
                                                  kv_stride, count, out, d_out.cols, block.count, dim);
    });
  }
}

void AttentionTangents(const AttentionShape& shape, const std::vector<AttentionSequence>& sequences, ConstMatrixView q,
                       ConstMatrixView log_normalizer, const std::vector<AttentionTangent>& tangents,
                       ConstMatrixView d_q, MatrixView d_out) {
  const size_t directions = sequences.empty() ? 0 : tangents.size() / sequences.size();
  struct Task {
    size_t sequence, block, head;
  };
  std::vector<Task> tasks;
  for (size_t s = 0; s < sequences.size(); ++s)
    for (size_t b = blocks_of(sequences[s], 1); b-- > 0;)
      for (size_t h = 0; h < shape.heads; ++h) tasks.push_back({s, b, h});
  parallel_for(tasks.size(), [&](size_t i) {
    const auto [s, index, head] = tasks[i];
    head_tangents(shape, query_block(shape, sequences[s], index, head, 1), q, log_normalizer,
                  std::span(tangents).subspan(s * directions, directions), d_q, d_out);
  });
}

void Attention(const AttentionShape& shape, const std::vector<AttentionSequence>& sequences, ConstMatrixView q,
               MatrixView out, MatrixView log_normalizer) {
  const size_t group = shape.heads / shape.kv_heads;
  size_t heads = std::min(group, tile_columns());
  while (group % heads != 0) --heads;
  // The longest first, so that threads end together; of equally long ones a head's together: sequences with the same
  // pages find them in the cache.
  std::vector<QueryBlock> blocks;
  for (size_t h = 0; h < shape.heads; h += heads)
    for (const AttentionSequence& sequence : sequences)
      for (size_t b = blocks_of(sequence, heads); b-- > 0;) blocks.push_back(query_block(shape, sequence, b, h, heads));
  std::vector<size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater(), [&](size_t i) { return blocks[i].key_end - blocks[i].key_begin; });
  parallel_for(order.size(), [&](size_t i) { block_forward(shape, blocks[order[i]], q, out, log_normalizer); });
}

void AttentionBackward(const AttentionShape& shape, const std::vector<AttentionSequence>& sequences, ConstMatrixView q,
                       ConstMatrixView log_normalizer, ConstMatrixView out, ConstMatrixView d_out, MatrixView dq,
                       MatrixView dk, MatrixView dv) {
  const size_t dim = shape.head_dim, group = shape.heads / shape.kv_heads;
  for (const AttentionSequence& sequence : sequences) {
    std::vector<Matrix> head_dk(shape.heads), head_dv(shape.heads);
    parallel_for(shape.heads, [&](size_t h) {
      head_dk[h] = Matrix(sequence.rows, dim);
      head_dv[h] = Matrix(sequence.rows, dim);
      for (size_t b = 0; b < blocks_of(sequence, 1); ++b)
        head_backward(shape, query_block(shape, sequence, b, h, 1), q, log_normalizer, out, d_out, dq, head_dk[h],
                      head_dv[h]);
    });
    parallel_ranges(sequence.rows, 16, [&](size_t begin, size_t end) {
      for (size_t row = begin; row < end; ++row)
        for (size_t h = 0; h < shape.heads; ++h) {
          float* to_k = dk.row(sequence.first_row + row).data() + h / group * dim;
          float* to_v = dv.row(sequence.first_row + row).data() + h / group * dim;
          const float *from_k = head_dk[h].row(row).data(), *from_v = head_dv[h].row(row).data();
          for (size_t i = 0; i < dim; ++i) {
            to_k[i] = h % group == 0 ? from_k[i] : to_k[i] + from_k[i];
            to_v[i] = h % group == 0 ? from_v[i] : to_v[i] + from_v[i];
          }
        }
    });
  }
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(Attention);
HWY_EXPORT(AttentionBackward);
HWY_EXPORT(AttentionTangents);

void attention(const AttentionShape& shape, const std::vector<AttentionSequence>& sequences, ConstMatrixView q,
               MatrixView out, MatrixView log_normalizer) {
  HWY_DYNAMIC_DISPATCH(Attention)(shape, sequences, q, out, log_normalizer);
}

void attention_backward(const AttentionShape& shape, const std::vector<AttentionSequence>& sequences, ConstMatrixView q,
                        ConstMatrixView log_normalizer, ConstMatrixView out, ConstMatrixView d_out, MatrixView dq,
                        MatrixView dk, MatrixView dv) {
  HWY_DYNAMIC_DISPATCH(AttentionBackward)
  (shape, sequences, q, log_normalizer, out, d_out, dq, dk, dv);
}

void attention_tangents(const AttentionShape& shape, const std::vector<AttentionSequence>& sequences, ConstMatrixView q,
                        ConstMatrixView log_normalizer, const std::vector<AttentionTangent>& tangents,
                        ConstMatrixView d_q, MatrixView d_out) {
  HWY_DYNAMIC_DISPATCH(AttentionTangents)(shape, sequences, q, log_normalizer, tangents, d_q, d_out);
}

}  // namespace hone
#endif
