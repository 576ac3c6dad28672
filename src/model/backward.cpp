// The backward pass of the layers on a tape. Frozen weights get no gradients; sinks read what they want. Activations
// are kept once for sequences that share them; their gradients are not shared, so that activations are gathered to one
// row a gradient row where a gradient is taken through them.
#include <fmt/format.h>

#include <algorithm>

#include "model/gathered_rows.h"
#include "model/model_impl.h"

namespace hone {
namespace {

// The gradient rows that a part of a layer works on.
struct GradientRows {
  PackedBatch packed;              // whose they are
  std::vector<size_t> input_rows;  // of which activation rows, as in LinearGradient
};

// Those rows of d that are not 0, ascending, where they are at most half of them; otherwise none.
std::vector<size_t> few_rows(const Matrix& d) {
  std::vector<size_t> rows;
  for (size_t r = 0; r < d.rows() && 2 * rows.size() <= d.rows(); ++r)
    if (std::ranges::any_of(d.row(r), [](float value) { return value != 0; })) rows.push_back(r);
  if (2 * rows.size() > d.rows()) rows.clear();
  return rows;
}

GradientRows part_of(const GradientRows& all, std::span<const size_t> rows) {
  GradientRows part{all.packed.part(rows), {rows.begin(), rows.end()}};
  if (!all.input_rows.empty())
    for (size_t& row : part.input_rows) row = all.input_rows[row];
  return part;
}

}  // namespace

size_t Tape::bytes() const {
  size_t values = 0;
  for (const Layer& l : layers_)
    for (const Matrix* m : {&l.input, &l.q, &l.k, &l.v, &l.attention, &l.log_normalizer, &l.attention_output, &l.middle,
                            &l.gate, &l.up, &l.ffn_output})
      values += m->size();
  return values * sizeof(float);
}

void Model::backward(const Tape& tape, Matrix d_hidden, std::span<GradientSink* const> sinks, const CancelToken& cancel,
                     Precision products) const {
  const Architecture& a = impl_->architecture;
  const ModelConfig& c = a.config;
  const int last = tape.first_layer_ + static_cast<int>(tape.layers_.size());
  if (tape.layers_.empty() || last != c.layers)
    throw Error(ErrorCode::bad_input, "backward needs a tape that reaches the last layer");
  std::vector<Sequence> whole = tape.sequences_;
  for (Sequence& sequence : whole) sequence.shared = 0;
  GradientRows all{PackedBatch(whole, static_cast<size_t>(c.context)), {}};
  if (tape.rows_.sharing()) all.input_rows = tape.rows_.activation;
  const PackedBatch& packed = all.packed;
  const size_t rows = packed.rows(), width = static_cast<size_t>(c.width), head_dim = static_cast<size_t>(c.head_dim);
  const size_t q_width = static_cast<size_t>(c.heads) * head_dim, kv_width = static_cast<size_t>(c.kv_heads) * head_dim;
  if (d_hidden.rows() != rows || d_hidden.cols() != width)
    throw Error(ErrorCode::bad_input, fmt::format("a gradient of [{}, {}] does not fit a tape of {} rows of {} values",
                                                  d_hidden.rows(), d_hidden.cols(), rows, width));
  const BatchRotation rotation(a, *impl_->weights, packed);
  Matrix normed = Matrix::uninitialized(tape.rows_.start.back(), width);

  const auto offer = [&](const GradientRows& at, MatrixId id, ConstMatrixView inputs, ConstMatrixView gradients) {
    for (GradientSink* sink : sinks) sink->accept({id, inputs, gradients, at.input_rows, at.packed.start});
  };
  const auto through = [&](const GradientRows& at, MatrixId id, ConstMatrixView dy, MatrixView dx, bool accumulate) {
    backward_input(impl_->linear(id), dy, dx, products, accumulate);
    add_adapters_backward(at.packed, id, dy, dx);
  };

  // From a layer's output to attention's result, where every row stands alone. `d` is ∂loss/∂output before and
  // ∂loss/∂(what attention adds to) after; returns ∂loss/∂(attention's result).
  const auto to_attention = [&](int l, const Tape::Layer& kept, const GradientRows& at, Matrix& d) {
    const LayerWeights& w = impl_->layer(l);
    // Undoes the norm that may follow a block's last matrix.
    const auto before_post_norm = [&](const Matrix& output, std::span<const float> weight) {
      if (!a.post_norms) return d.copy();
      Matrix before = Matrix::uninitialized(d.rows(), width);
      rms_norm_backward(GatheredRows(output, at.input_rows), weight, a.norm_eps, d, before, false);
      return before;
    };
    Matrix gated = Matrix::uninitialized(kept.gate.rows(), kept.gate.cols());
    gate(a.activation, kept.gate, kept.up, gated);
    const Matrix d_ffn = before_post_norm(kept.ffn_output, w.ffn_post_norm);
    offer(at, {l, MatrixKind::down}, gated, d_ffn);
    Matrix d_gate = Matrix::uninitialized(d.rows(), gated.cols()), d_up = Matrix::uninitialized(d.rows(), gated.cols());
    through(at, {l, MatrixKind::down}, d_ffn, d_gate, false);
    gated = Matrix();
    gate_backward(a.activation, GatheredRows(kept.gate, at.input_rows), GatheredRows(kept.up, at.input_rows), d_gate,
                  d_gate, d_up);
    rms_norm(kept.middle, w.ffn_norm, a.norm_eps, normed);
    offer(at, {l, MatrixKind::up}, normed, d_up);
    offer(at, {l, MatrixKind::gate}, normed, d_gate);
    Matrix d_normed = Matrix::uninitialized(d.rows(), width);
    through(at, {l, MatrixKind::up}, d_up, d_normed, false);
    through(at, {l, MatrixKind::gate}, d_gate, d_normed, true);
    rms_norm_backward(GatheredRows(kept.middle, at.input_rows), w.ffn_norm, a.norm_eps, d_normed, d, true);

    const Matrix d_out = before_post_norm(kept.attention_output, w.attention_post_norm);
    offer(at, {l, MatrixKind::o}, kept.attention, d_out);
    Matrix d_attention = Matrix::uninitialized(d.rows(), q_width);
    through(at, {l, MatrixKind::o}, d_out, d_attention, false);
    return d_attention;
  };

  for (int l = last - 1; l >= tape.first_layer_ && rows > 0; --l) {
    cancel.check();
    const Tape::Layer& kept = tape.layers_[static_cast<size_t>(l - tape.first_layer_)];
    const LayerWeights& w = impl_->layer(l);

    // Often only the last tokens of texts are read: the top layer's other rows are 0 until attention spreads gradients.
    const std::vector<size_t> some = l == last - 1 ? few_rows(d_hidden) : std::vector<size_t>();
    Matrix d_attention;
    if (some.empty()) {
      d_attention = to_attention(l, kept, all, d_hidden);
    } else {
      Matrix d = gather_rows(d_hidden, some);
      const Matrix of_some = to_attention(l, kept, part_of(all, some), d);
      d_attention = Matrix(rows, q_width);
      scatter_rows(of_some, some, d_attention);
      scatter_rows(d, some, d_hidden);
    }

    const GatheredRows raw_q(kept.q, all.input_rows), raw_k(kept.k, all.input_rows), v(kept.v, all.input_rows);
    Matrix q = raw_q.copy(), k = raw_k.copy();
    const MatrixView q_heads{q.data(), q.size() / head_dim, head_dim}, k_heads{k.data(), k.size() / head_dim, head_dim};
    if (a.qk_norm) {
      rms_norm(q_heads, w.q_norm, a.norm_eps, q_heads);
      rms_norm(k_heads, w.k_norm, a.norm_eps, k_heads);
    }
    const RopeTable& angles = rotation.of(a, l);
    rope(q, head_dim, angles, a.rope_pairs);
    rope(k, head_dim, angles, a.rope_pairs);
    std::vector<AttentionSequence> sequences;
    for (size_t b = 0; b + 1 < packed.start.size(); ++b)
      sequences.push_back({packed.start[b], packed.start[b + 1] - packed.start[b], 0,
                           k.data() + packed.start[b] * kv_width, v.view().data + packed.start[b] * kv_width});
    Matrix dq = Matrix::uninitialized(rows, q_width), dk = Matrix::uninitialized(rows, kv_width),
           dv = Matrix::uninitialized(rows, kv_width);
    attention_backward(impl_->attention_shape(l), sequences, q, GatheredRows(kept.log_normalizer, all.input_rows),
                       GatheredRows(kept.attention, all.input_rows), d_attention, dq, dk, dv);
    rope(dq, head_dim, angles, a.rope_pairs, true);
    rope(dk, head_dim, angles, a.rope_pairs, true);
    if (a.qk_norm) {
      const MatrixView dq_heads{dq.data(), q_heads.rows, head_dim}, dk_heads{dk.data(), k_heads.rows, head_dim};
      const ConstMatrixView raw_q_heads{raw_q.view().data, q_heads.rows, head_dim},
          raw_k_heads{raw_k.view().data, k_heads.rows, head_dim};
      rms_norm_backward(raw_q_heads, w.q_norm, a.norm_eps, dq_heads, dq_heads, false);
      rms_norm_backward(raw_k_heads, w.k_norm, a.norm_eps, dk_heads, dk_heads, false);
    }
    rms_norm(kept.input, w.attention_norm, a.norm_eps, normed);
    offer(all, {l, MatrixKind::v}, normed, dv);
    offer(all, {l, MatrixKind::k}, normed, dk);
    offer(all, {l, MatrixKind::q}, normed, dq);
    if (l == tape.first_layer_) break;
    Matrix d_normed = Matrix::uninitialized(rows, width);
    through(all, {l, MatrixKind::v}, dv, d_normed, false);
    through(all, {l, MatrixKind::k}, dk, d_normed, true);
    through(all, {l, MatrixKind::q}, dq, d_normed, true);
    rms_norm_backward(GatheredRows(kept.input, all.input_rows), w.attention_norm, a.norm_eps, d_normed, d_hidden, true);
  }
}

}  // namespace hone
