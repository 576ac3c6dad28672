// The backward pass of the layers on a tape. Frozen weights get no gradients; sinks read what they want. Activations
// are kept once for sequences that share them; their gradients are not shared, so that activations are gathered to one
// row a gradient row where a gradient is taken through them.
#include "model/gathered_rows.h"
#include "model/model_impl.h"

namespace hone {

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
  std::vector<Sequence> whole = tape.sequences_;
  for (Sequence& sequence : whole) sequence.shared = 0;
  const PackedBatch packed(whole, static_cast<size_t>(c.context));
  const size_t rows = packed.rows(), width = static_cast<size_t>(c.width), head_dim = static_cast<size_t>(c.head_dim);
  const size_t q_width = static_cast<size_t>(c.heads) * head_dim, kv_width = static_cast<size_t>(c.kv_heads) * head_dim;
  const int last = tape.first_layer_ + static_cast<int>(tape.layers_.size());
  if (d_hidden.rows() != rows || d_hidden.cols() != width || last != c.layers)
    throw Error(ErrorCode::bad_input, "backward needs a tape that reaches the last layer and a gradient of its shape");
  std::span<const size_t> input_rows;  // [rows] or empty, as in LinearGradient
  if (tape.rows_.sharing()) input_rows = tape.rows_.activation;
  const BatchRotation rotation(a, *impl_->weights, packed);
  Matrix normed = Matrix::uninitialized(tape.rows_.start.back(), width);
  Matrix d_normed = Matrix::uninitialized(rows, width);

  for (int l = last - 1; l >= tape.first_layer_ && rows > 0; --l) {
    cancel.check();
    const Tape::Layer& kept = tape.layers_[static_cast<size_t>(l - tape.first_layer_)];
    const LayerWeights& w = impl_->layer(l);
    const bool bottom = l == tape.first_layer_;

    const auto offer = [&](MatrixKind kind, ConstMatrixView inputs, ConstMatrixView output_gradients) {
      for (GradientSink* sink : sinks) sink->accept({{l, kind}, inputs, output_gradients, input_rows, packed.start});
    };
    const auto through = [&](MatrixKind kind, ConstMatrixView dy, MatrixView dx, bool accumulate) {
      backward_input(impl_->linear({l, kind}), dy, dx, products, accumulate);
      add_adapters_backward(packed, {l, kind}, dy, dx);
    };
    // ∂loss/∂(output of a block's last matrix), undoing the norm that may follow it.
    const auto before_post_norm = [&](const Matrix& output, std::span<const float> weight) {
      if (!a.post_norms) return d_hidden.copy();
      Matrix d = Matrix::uninitialized(rows, width);
      rms_norm_backward(GatheredRows(output, input_rows), weight, a.norm_eps, d_hidden, d, false);
      return d;
    };

    Matrix gated = Matrix::uninitialized(kept.gate.rows(), kept.gate.cols());
    gate(a.activation, kept.gate, kept.up, gated);
    const Matrix d_ffn = before_post_norm(kept.ffn_output, w.ffn_post_norm);
    offer(MatrixKind::down, gated, d_ffn);
    Matrix d_gate = Matrix::uninitialized(rows, gated.cols()), d_up = Matrix::uninitialized(rows, gated.cols());
    through(MatrixKind::down, d_ffn, d_gate, false);
    gated = Matrix();
    gate_backward(a.activation, GatheredRows(kept.gate, input_rows), GatheredRows(kept.up, input_rows), d_gate, d_gate,
                  d_up);
    rms_norm(kept.middle, w.ffn_norm, a.norm_eps, normed);
    offer(MatrixKind::up, normed, d_up);
    offer(MatrixKind::gate, normed, d_gate);
    through(MatrixKind::up, d_up, d_normed, false);
    through(MatrixKind::gate, d_gate, d_normed, true);
    rms_norm_backward(GatheredRows(kept.middle, input_rows), w.ffn_norm, a.norm_eps, d_normed, d_hidden, true);

    const Matrix d_out = before_post_norm(kept.attention_output, w.attention_post_norm);
    offer(MatrixKind::o, kept.attention, d_out);
    Matrix d_attention = Matrix::uninitialized(rows, q_width);
    through(MatrixKind::o, d_out, d_attention, false);

    const GatheredRows raw_q(kept.q, input_rows), raw_k(kept.k, input_rows), v(kept.v, input_rows);
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
    attention_backward(impl_->attention_shape(l), sequences, q, GatheredRows(kept.log_normalizer, input_rows),
                       GatheredRows(kept.attention, input_rows), d_attention, dq, dk, dv);
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
    offer(MatrixKind::v, normed, dv);
    offer(MatrixKind::k, normed, dk);
    offer(MatrixKind::q, normed, dq);
    if (bottom) break;
    through(MatrixKind::v, dv, d_normed, false);
    through(MatrixKind::k, dk, d_normed, true);
    through(MatrixKind::q, dq, d_normed, true);
    rms_norm_backward(GatheredRows(kept.input, input_rows), w.attention_norm, a.norm_eps, d_normed, d_hidden, true);
  }
}

}  // namespace hone
