// The forward pass of the layers.
#include <fmt/format.h>

#include <algorithm>

#include "model/gathered_rows.h"
#include "model/model_impl.h"

namespace hone {
namespace {

MatrixId id_of(int layer, MatrixKind kind) { return {layer, kind}; }

// The caches that a batch adds to, each at most once and in all of its layers. What a pass that fails has added is
// taken back, so that a cache's layers are always equally long.
class CacheWrites {
 public:
  explicit CacheWrites(std::span<const Sequence> batch) {
    for (const Sequence& sequence : batch)
      if (KvCache* cache = sequence.cache) {
        if (std::ranges::find(caches_, cache) != caches_.end())
          throw Error(ErrorCode::bad_input, "two sequences of a batch have the same cache; give each a copy()");
        caches_.push_back(cache);
        lengths_.push_back(cache->length());
      }
  }
  ~CacheWrites() {
    if (!kept_)
      for (size_t i = 0; i < caches_.size(); ++i) caches_[i]->truncate(lengths_[i]);
  }
  CacheWrites(const CacheWrites&) = delete;
  CacheWrites& operator=(const CacheWrites&) = delete;

  void keep() { kept_ = true; }

 private:
  std::vector<KvCache*> caches_;
  std::vector<size_t> lengths_;
  bool kept_ = false;
};

// Where each sequence of a layer finds all of its keys and values.
struct AttentionInputs {
  std::vector<AttentionSequence> sequences;
  std::vector<Matrix> gathered;  // keys and values of the sequences that share a prefix
};

// `pages`: of the sequences' caches, which hold this call's keys and values too; empty without one.
AttentionInputs attention_inputs(std::span<const Sequence> batch, const BatchRows& batch_rows,
                                 const PackedBatch& packed, const std::vector<std::vector<const float*>>& pages,
                                 const Matrix& k, const Matrix& v) {
  AttentionInputs inputs;
  inputs.sequences.resize(batch.size());
  for (size_t b = 0; b < batch.size(); ++b) {
    AttentionSequence& sequence = inputs.sequences[b];
    const size_t first = packed.start[b], rows = packed.start[b + 1] - first;
    const size_t position = rows > 0 ? packed.positions[first] : 0;
    if (!pages[b].empty()) {
      sequence = {.first_row = first, .rows = rows, .first_position = position, .pages = pages[b]};
      continue;
    }
    sequence = {first, rows, position, k.data() + first * k.cols(), v.data() + first * v.cols()};
    if (batch[b].shared > 0 && rows > 0) {
      const auto all = std::span(batch_rows.activation).subspan(batch_rows.gradient_start[b], batch[b].tokens.size());
      sequence.keys = inputs.gathered.emplace_back(gather_rows(k, all)).data();
      sequence.values = inputs.gathered.emplace_back(gather_rows(v, all)).data();
    }
  }
  return inputs;
}

}  // namespace

Matrix Model::forward(std::span<const Sequence> batch) const {
  return forward(batch, 0, config().layers, embed(batch));
}

Matrix Model::forward(std::span<const Sequence> batch, int first, int last, Matrix x, Tape* tape,
                      const CancelToken& cancel) const {
  const Architecture& a = impl_->architecture;
  const ModelConfig& c = a.config;
  const BatchRows batch_rows(batch);
  const PackedBatch packed(batch, static_cast<size_t>(c.context));
  const size_t rows = packed.rows(), head_dim = static_cast<size_t>(c.head_dim);
  const size_t q_width = static_cast<size_t>(c.heads) * head_dim, kv_width = static_cast<size_t>(c.kv_heads) * head_dim;
  if (x.rows() != rows || x.cols() != static_cast<size_t>(c.width) || first < 0 || last > c.layers || first > last)
    throw Error(ErrorCode::bad_input,
                fmt::format("{} rows of {} values through layers [{}, {}) do not fit the batch of "
                            "{} rows or the model",
                            x.rows(), x.cols(), first, last, rows));
  for (const Sequence& s : batch)
    if (s.cache &&
        (tape || first != s.cache->first_layer_ || s.cache->kv_heads_ != static_cast<size_t>(c.kv_heads) ||
         s.cache->head_dim_ != head_dim || last != s.cache->first_layer_ + static_cast<int>(s.cache->layers_.size())))
      throw Error(ErrorCode::bad_input,
                  "a cache holds other layers than these or another model's, or is used together with a tape");
  for (const AdapterRun& run : packed.adapters) impl_->check_fits(*run.adapter);
  CacheWrites writes(batch);
  if (tape) {
    tape->first_layer_ = first;
    tape->sequences_.assign(batch.begin(), batch.end());
    tape->rows_ = batch_rows;
    tape->layers_.clear();
    tape->layers_.resize(static_cast<size_t>(last - first));
  }
  const BatchRotation rotation(a, *impl_->weights, packed);
  Matrix normed = Matrix::uninitialized(rows, x.cols());

  for (int l = first; l < last && rows > 0; ++l) {
    cancel.check();
    const LayerWeights& w = impl_->layer(l);
    Tape::Layer* kept = tape ? &tape->layers_[static_cast<size_t>(l - first)] : nullptr;
    if (kept) kept->input = x.copy();

    const auto project = [&](LinearInput& from, MatrixKind kind, size_t width) {
      Matrix y = Matrix::uninitialized(rows, width);
      from.forward(impl_->linear(id_of(l, kind)), y);
      add_adapters(packed, id_of(l, kind), from, y);
      return y;
    };

    rms_norm(x, w.attention_norm, a.norm_eps, normed);
    LinearInput input(normed.view());
    Matrix q = project(input, MatrixKind::q, q_width);
    Matrix k = project(input, MatrixKind::k, kv_width);
    Matrix v = project(input, MatrixKind::v, kv_width);
    if (kept) {
      kept->q = q.copy();
      kept->k = k.copy();
    }
    if (a.qk_norm) {
      const MatrixView q_heads{q.data(), q.size() / head_dim, head_dim},
          k_heads{k.data(), k.size() / head_dim, head_dim};
      rms_norm(q_heads, w.q_norm, a.norm_eps, q_heads);
      rms_norm(k_heads, w.k_norm, a.norm_eps, k_heads);
    }
    rope(q, head_dim, rotation.of(a, l), a.rope_pairs);
    rope(k, head_dim, rotation.of(a, l), a.rope_pairs);

    std::vector<std::vector<const float*>> pages(batch.size());
    for (size_t b = 0; b < batch.size(); ++b)
      if (KvCache* cache = batch[b].cache) {
        KvCache::Layer& layer = cache->layers_[static_cast<size_t>(l - cache->first_layer_)];
        const size_t begin = packed.start[b], count = packed.start[b + 1] - begin;
        cache->append(layer, k.view().row_range(begin, count), v.view().row_range(begin, count));
        for (const auto& page : layer.pages) pages[b].push_back(page->data());
      }
    const AttentionInputs inputs = attention_inputs(batch, batch_rows, packed, pages, k, v);
    Matrix attended = Matrix::uninitialized(rows, q_width);
    Matrix normalizer = kept ? Matrix::uninitialized(rows, static_cast<size_t>(c.heads)) : Matrix();
    attention(impl_->attention_shape(l), inputs.sequences, q, attended, normalizer);
    if (kept) kept->v = std::move(v);

    LinearInput attended_input(attended.view());
    Matrix out = project(attended_input, MatrixKind::o, x.cols());
    if (a.post_norms) {
      if (kept) kept->attention_output = out.copy();
      rms_norm(out, w.attention_post_norm, a.norm_eps, out);
    }
    add(out, x);
    if (kept) {
      kept->attention = std::move(attended);
      kept->log_normalizer = std::move(normalizer);
      kept->middle = x.copy();
    }

    rms_norm(x, w.ffn_norm, a.norm_eps, normed);
    LinearInput ffn_input(normed.view());
    Matrix gates = project(ffn_input, MatrixKind::gate, static_cast<size_t>(c.ffn_width));
    Matrix ups = project(ffn_input, MatrixKind::up, static_cast<size_t>(c.ffn_width));
    Matrix gated = kept ? Matrix::uninitialized(rows, gates.cols()) : Matrix();
    const MatrixView activations = kept ? gated.view() : gates.view();
    gate(a.activation, gates, ups, activations);
    LinearInput gated_input(activations);
    out = project(gated_input, MatrixKind::down, x.cols());
    if (a.post_norms) {
      if (kept) kept->ffn_output = out.copy();
      rms_norm(out, w.ffn_post_norm, a.norm_eps, out);
    }
    add(out, x);
    if (kept) {
      kept->gate = std::move(gates);
      kept->up = std::move(ups);
    }
  }
  writes.keep();
  return x;
}

}  // namespace hone
