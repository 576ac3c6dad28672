// Forward mode: the layers with their derivatives along directions of the weights.
#include <fmt/format.h>

#include <optional>

#include "model/gathered_rows.h"
#include "model/model_impl.h"

namespace hone {
namespace {

// Frozen weights in fp32.
class Weights32 {
 public:
  explicit Weights32(const FrozenLinear& layer) : view_{layer.f32, layer.out, layer.in} {
    if (layer.f32) return;
    values_ = Matrix::uninitialized(layer.out, layer.in);
    parallel_ranges(layer.out, 16, [&](size_t begin, size_t end) {
      for (size_t o = begin; o < end; ++o)
        for (size_t i = 0; i < layer.in; ++i)
          values_.row(o)[i] = layer.int8.scales[o] * static_cast<float>(layer.int8.values[o * layer.in + i]);
    });
    view_ = values_;
  }
  ConstMatrixView view() const { return view_; }

 private:
  Matrix values_;
  ConstMatrixView view_;
};

// What a prefix keeps of a layer: keys and values, and their derivatives [R · length, K · head_dim].
struct PrefixRows {
  const Matrix& keys;
  const Matrix& values;
  const Matrix& d_keys;
  const Matrix& d_values;
  size_t length;
};

// What attention reads of a layer's keys and values, and along each of R directions.
struct TangentInputs {
  std::vector<AttentionSequence> sequences;  // those with rows of their own
  std::vector<AttentionTangent> tangents;    // [sequences · R]
  std::vector<Matrix> copies;                // of rows that do not stand together elsewhere

  const float* copy(Matrix rows) { return copies.emplace_back(std::move(rows)).data(); }
};

Matrix joined(const Matrix& above, ConstMatrixView below) {
  Matrix all = Matrix::uninitialized(above.rows() + below.rows, below.cols);
  std::copy_n(above.data(), above.size(), all.data());
  std::copy_n(below.data, below.rows * below.cols, all.data() + above.size());
  return all;
}

TangentInputs tangent_inputs(std::span<const Sequence> batch, const BatchRows& batch_rows, const PackedBatch& packed,
                             const std::optional<PrefixRows>& prefix, size_t count, const Tangents& k,
                             const Tangents& v) {
  TangentInputs inputs;
  const size_t rows = packed.rows();
  for (size_t b = 0; b < batch.size(); ++b) {
    const size_t start = packed.start[b], own = packed.start[b + 1] - start;
    if (own == 0) continue;
    const auto all = std::span(batch_rows.activation).subspan(batch_rows.gradient_start[b], batch[b].tokens.size());
    const auto of_sequence = [&](const Matrix& of, size_t r) -> ConstMatrixView {
      const ConstMatrixView along = of.view().row_range(r * rows, rows);
      if (batch[b].shared == 0) return along.row_range(start, own);
      return {inputs.copy(gather_rows(along, all)), all.size(), of.cols()};
    };
    const auto behind = [&](const Matrix* kept, ConstMatrixView of_own) {
      return kept ? inputs.copy(joined(*kept, of_own)) : of_own.data;
    };
    inputs.sequences.push_back({start, own, packed.positions[start],
                                behind(prefix ? &prefix->keys : nullptr, of_sequence(k.value, 0)),
                                behind(prefix ? &prefix->values : nullptr, of_sequence(v.value, 0))});
    for (size_t r = 0; r < count; ++r) {
      AttentionTangent& along = inputs.tangents.emplace_back();
      if (prefix) {
        along.prefix = prefix->length;
        along.prefix_keys = prefix->d_keys.row(r * prefix->length).data();
        along.prefix_values = prefix->d_values.row(r * prefix->length).data();
      }
      along.keys = of_sequence(k.derivatives, r).data;
      along.values = of_sequence(v.derivatives, r).data;
    }
  }
  return inputs;
}

void check(std::span<const Sequence> batch, std::span<const Adapter> directions, size_t before, size_t context,
           bool keep) {
  for (const Sequence& s : batch) {
    if (s.cache || s.adapter)
      throw Error(ErrorCode::bad_input, "derivatives are taken at the base weights: no caches and no adapters");
    if (before + s.tokens.size() > context)
      throw Error(ErrorCode::bad_input,
                  fmt::format("a text of {} tokens is longer than the model's context of {}; shorten it",
                              before + s.tokens.size(), context));
  }
  for (const Adapter& direction : directions)
    if (!direction.quantized.empty() || !direction.low_rank.empty())
      throw Error(ErrorCode::bad_input, "a direction of the weights is dense additions alone");
  if (keep && (batch.size() != 1 || before > 0))
    throw Error(ErrorCode::bad_input, "only a batch of one sequence without a prefix can be kept as a prefix");
}

}  // namespace

Tangents Model::forward_tangents(std::span<const Sequence> batch, int first, int last, Tangents x,
                                 std::span<const Adapter> directions, const TangentPrefix* prefix, TangentPrefix* keep,
                                 const CancelToken& cancel) const {
  const Architecture& a = impl_->architecture;
  const ModelConfig& c = a.config;
  const size_t before = prefix ? prefix->length() : 0, count = directions.size();
  check(batch, directions, before, static_cast<size_t>(c.context), keep != nullptr);
  for (const Adapter& direction : directions) impl_->check_fits(direction);
  const BatchRows batch_rows(batch);
  PackedBatch packed(batch, static_cast<size_t>(c.context));
  for (size_t& position : packed.positions) position += before;
  const size_t rows = packed.rows(), head_dim = static_cast<size_t>(c.head_dim), width = static_cast<size_t>(c.width);
  const size_t q_width = static_cast<size_t>(c.heads) * head_dim, kv_width = static_cast<size_t>(c.kv_heads) * head_dim;
  if (x.value.rows() != rows || x.value.cols() != width || first < 0 || last > c.layers || first > last ||
      (!x.derivatives.empty() && (x.derivatives.rows() != count * rows || x.derivatives.cols() != width)))
    throw Error(ErrorCode::bad_input,
                fmt::format("{} rows with {} of derivatives through layers [{}, {}) do not fit the batch of {} rows, "
                            "{} directions or the model",
                            x.value.rows(), x.derivatives.rows(), first, last, rows, count));
  if (prefix && (first < prefix->first_layer_ || prefix->directions_ != count ||
                 last > prefix->first_layer_ + static_cast<int>(prefix->layers_.size())))
    throw Error(ErrorCode::bad_input, "the prefix does not hold these layers or directions");
  if (keep) {
    keep->layers_.clear();
    keep->layers_.resize(static_cast<size_t>(last - first));
    keep->first_layer_ = first;
    keep->length_ = rows;
    keep->directions_ = count;
  }
  const BatchRotation rotation(a, *impl_->weights, packed);
  Matrix normed = Matrix::uninitialized(rows, width);
  if (x.derivatives.empty() && first == last) x.derivatives = Matrix(count * rows, width);

  for (int l = first; l < last && rows > 0; ++l) {
    cancel.check();
    const LayerWeights& w = impl_->layer(l);
    const auto along = [&](Matrix& derivatives, size_t r) { return derivatives.view().row_range(r * rows, rows); };

    // y = W x; its derivatives W dx + ΔW x.
    const auto project = [&](LinearInput& from, const Matrix& d_from, MatrixKind kind, size_t out) {
      Tangents y{Matrix::uninitialized(rows, out), Matrix(count * rows, out)};
      const FrozenLinear& layer = impl_->linear({l, kind});
      from.forward(layer, y.value);
      if (count == 0) return y;
      if (!d_from.empty()) linear_forward(d_from, Weights32(layer).view(), y.derivatives);
      for (size_t r = 0; r < count; ++r)
        if (const auto found = directions[r].dense.find({l, kind}); found != directions[r].dense.end())
          linear_forward(from.packed(), 0, rows, found->second, along(y.derivatives, r), true);
      return y;
    };
    const auto normalise = [&](const Tangents& from, std::span<const float> weight) {
      Matrix d = Matrix::uninitialized(from.derivatives.rows(), from.derivatives.cols());
      rms_norm_tangents(from.value, weight, a.norm_eps, from.derivatives, d);
      rms_norm(from.value, weight, a.norm_eps, normed);
      return d;
    };
    const auto normalise_in_place = [&](Matrix& value, Matrix& derivatives, std::span<const float> weight) {
      const size_t columns = weight.size();
      const MatrixView v{value.data(), value.size() / columns, columns};
      const MatrixView d{derivatives.data(), derivatives.size() / columns, columns};
      rms_norm_tangents(v, weight, a.norm_eps, d, d);
      rms_norm(v, weight, a.norm_eps, v);
    };
    const auto rotate = [&](Tangents& y) {
      rope(y.value, head_dim, rotation.of(a, l), a.rope_pairs);
      for (size_t r = 0; r < count; ++r) rope(along(y.derivatives, r), head_dim, rotation.of(a, l), a.rope_pairs);
    };
    const auto add_to_stream = [&](Tangents& y) {
      add(y.value, x.value);
      if (x.derivatives.empty())
        x.derivatives = std::move(y.derivatives);
      else
        add(y.derivatives, x.derivatives);
    };

    const Matrix d_input = normalise(x, w.attention_norm);
    LinearInput input(normed.view());
    Tangents q = project(input, d_input, MatrixKind::q, q_width), k = project(input, d_input, MatrixKind::k, kv_width),
             v = project(input, d_input, MatrixKind::v, kv_width);
    if (a.qk_norm) {
      normalise_in_place(q.value, q.derivatives, w.q_norm);
      normalise_in_place(k.value, k.derivatives, w.k_norm);
    }
    rotate(q);
    rotate(k);

    std::optional<PrefixRows> held;
    if (before > 0) {
      const TangentPrefix::Layer& layer = prefix->layers_[static_cast<size_t>(l - prefix->first_layer_)];
      held.emplace(PrefixRows{layer.keys, layer.values, layer.d_keys, layer.d_values, before});
    }
    const TangentInputs inputs = tangent_inputs(batch, batch_rows, packed, held, count, k, v);
    Tangents attended{Matrix::uninitialized(rows, q_width), Matrix::uninitialized(count * rows, q_width)};
    Matrix normalizer = count > 0 ? Matrix::uninitialized(rows, static_cast<size_t>(c.heads)) : Matrix();
    attention(impl_->attention_shape(l), inputs.sequences, q.value, attended.value, normalizer);
    if (count > 0)
      attention_tangents(impl_->attention_shape(l), inputs.sequences, q.value, normalizer, inputs.tangents,
                         q.derivatives, attended.derivatives);
    if (keep)
      keep->layers_[static_cast<size_t>(l - first)] = {std::move(k.value), std::move(v.value), std::move(k.derivatives),
                                                       std::move(v.derivatives)};

    LinearInput attended_input(attended.value.view());
    Tangents out = project(attended_input, attended.derivatives, MatrixKind::o, width);
    if (a.post_norms) normalise_in_place(out.value, out.derivatives, w.attention_post_norm);
    add_to_stream(out);

    const Matrix d_ffn_input = normalise(x, w.ffn_norm);
    LinearInput ffn_input(normed.view());
    const auto ffn_width = static_cast<size_t>(c.ffn_width);
    Tangents gates = project(ffn_input, d_ffn_input, MatrixKind::gate, ffn_width);
    const Tangents ups = project(ffn_input, d_ffn_input, MatrixKind::up, ffn_width);
    if (count > 0) gate_tangents(a.activation, gates.value, ups.value, gates.derivatives, ups.derivatives);
    gate(a.activation, gates.value, ups.value, gates.value);
    LinearInput gated_input(gates.value.view());
    out = project(gated_input, gates.derivatives, MatrixKind::down, width);
    if (a.post_norms) normalise_in_place(out.value, out.derivatives, w.ffn_post_norm);
    add_to_stream(out);
  }
  return x;
}

}  // namespace hone
