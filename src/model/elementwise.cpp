#include "model/elementwise.h"

#include <algorithm>
#include <cmath>

#include "base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/elementwise.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "base/lanes-inl.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Float = hn::ScalableTag<float>;
using Vec = hn::Vec<Float>;

float sum_of_products(const float* a, const float* b, size_t count) {
  const Float d;
  Vec sum = hn::Zero(d);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) total += a[i] * b[i];
  return total;
}

float sum(const float* x, size_t count) {
  const Float d;
  Vec lanes = hn::Zero(d);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) lanes = hn::Add(lanes, hn::LoadU(d, x + i));
  float total = hn::GetLane(hn::SumOfLanes(d, lanes));
  for (; i < count; ++i) total += x[i];
  return total;
}

float inverse_rms(std::span<const float> x, float eps) {
  return 1.0f / std::sqrt(sum_of_products(x.data(), x.data(), x.size()) / static_cast<float>(x.size()) + eps);
}

void RmsNorm(ConstMatrixView x, std::span<const float> weight, float eps, MatrixView y) {
  parallel_ranges(x.rows, 8, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p) {
      const float scale = inverse_rms(x.row(p), eps);
      const float* from = x.row(p).data();
      float* to = y.row(p).data();
      for_lanes(x.cols, [&](auto d, size_t i) {
        hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, from + i), hn::Set(d, scale)), hn::LoadU(d, weight.data() + i)), d,
                   to + i);
      });
    }
  });
}

// With s = 1/rms and g = weight·dy: dx = s·g − x · s³ · mean(g·x).
void RmsNormBackward(ConstMatrixView x, std::span<const float> weight, float eps, ConstMatrixView dy, MatrixView dx,
                     bool accumulate) {
  parallel_ranges(x.rows, 8, [&](size_t begin, size_t end) {
    std::vector<float> g(x.cols);
    for (size_t p = begin; p < end; ++p) {
      const float* from = x.row(p).data();
      float* to = dx.row(p).data();
      const float scale = inverse_rms(x.row(p), eps);
      for (size_t i = 0; i < x.cols; ++i) g[i] = weight[i] * dy.row(p)[i];
      const float mean = sum_of_products(g.data(), from, x.cols) / static_cast<float>(x.cols);
      const float along = scale * scale * scale * mean;
      for_lanes(x.cols, [&](auto d, size_t i) {
        const auto value = hn::NegMulAdd(hn::LoadU(d, from + i), hn::Set(d, along),
                                         hn::Mul(hn::LoadU(d, g.data() + i), hn::Set(d, scale)));
        hn::StoreU(accumulate ? hn::Add(hn::LoadU(d, to + i), value) : value, d, to + i);
      });
    }
  });
}

// With s = 1/rms: dy = weight · (s·dx − x · s³ · mean(dx·x)).
void RmsNormTangents(ConstMatrixView x, std::span<const float> weight, float eps, ConstMatrixView dx, MatrixView dy) {
  parallel_ranges(dx.rows, 8, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p) {
      const float *at = x.row(p % x.rows).data(), *from = dx.row(p).data();
      float* to = dy.row(p).data();
      const float scale = inverse_rms(x.row(p % x.rows), eps);
      const float mean = sum_of_products(from, at, x.cols) / static_cast<float>(x.cols);
      const float along = scale * scale * scale * mean;
      for_lanes(x.cols, [&](auto d, size_t i) {
        const auto value =
            hn::NegMulAdd(hn::LoadU(d, at + i), hn::Set(d, along), hn::Mul(hn::LoadU(d, from + i), hn::Set(d, scale)));
        hn::StoreU(hn::Mul(value, hn::LoadU(d, weight.data() + i)), d, to + i);
      });
    }
  });
}

// hn::Exp is valid up to 104; at 88 the result is already 0 in single precision.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V sigmoid(D d, V x) {
  return hn::Div(hn::Set(d, 1.0f), hn::Add(hn::Set(d, 1.0f), hn::Exp(d, hn::Min(hn::Neg(x), hn::Set(d, 88.0f)))));
}

constexpr float gelu_scale = 0.7978845608028654f;  // sqrt(2/π)
constexpr float gelu_cubic = 0.044715f;

// tanh(sqrt(2/π) (x + 0.044715 x³)) as 2σ(2u) − 1.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu_tanh(D d, V x) {
  const V u = hn::Mul(hn::Set(d, 2 * gelu_scale), hn::MulAdd(hn::Mul(hn::Set(d, gelu_cubic), x), hn::Mul(x, x), x));
  return hn::Sub(hn::Mul(hn::Set(d, 2.0f), sigmoid(d, u)), hn::Set(d, 1.0f));
}

// Abramowitz & Stegun 7.1.26: |error| ≤ 1.5e−7.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V erf(D d, V x) {
  const V magnitude = hn::Abs(x);
  const V t = hn::Div(hn::Set(d, 1.0f), hn::MulAdd(magnitude, hn::Set(d, 0.3275911f), hn::Set(d, 1.0f)));
  V sum = hn::Set(d, 1.061405429f);
  for (const float a : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f})
    sum = hn::MulAdd(sum, t, hn::Set(d, a));
  const V tail = hn::Exp(d, hn::Max(hn::Neg(hn::Mul(x, x)), hn::Set(d, -88.0f)));
  return hn::CopySign(hn::NegMulAdd(hn::Mul(sum, t), tail, hn::Set(d, 1.0f)), x);
}

void GeluInPlace(Gelu form, MatrixView x) {
  constexpr float inverse_root_two = 0.7071067811865476f;
  parallel_ranges(x.rows, 1, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p)
      for_lanes(x.cols, [&](auto d, size_t i) {
        float* at = x.row(p).data() + i;
        const auto value = hn::LoadU(d, at);
        const auto odd = form == Gelu::erf ? erf(d, hn::Mul(value, hn::Set(d, inverse_root_two))) : gelu_tanh(d, value);
        hn::StoreU(hn::Mul(hn::Mul(hn::Set(d, 0.5f), value), hn::Add(hn::Set(d, 1.0f), odd)), d, at);
      });
  });
}

void LayerNorm(ConstMatrixView x, std::span<const float> weight, std::span<const float> bias, float eps, MatrixView y) {
  parallel_ranges(x.rows, 8, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p) {
      const float* from = x.row(p).data();
      float* to = y.row(p).data();
      const float mean = sum(from, x.cols) / static_cast<float>(x.cols);
      for_lanes(x.cols,
                [&](auto d, size_t i) { hn::StoreU(hn::Sub(hn::LoadU(d, from + i), hn::Set(d, mean)), d, to + i); });
      const float scale = inverse_rms(y.row(p), eps);
      for_lanes(x.cols, [&](auto d, size_t i) {
        const auto factor = hn::Mul(hn::LoadU(d, weight.data() + i), hn::Set(d, scale));
        hn::StoreU(hn::MulAdd(hn::LoadU(d, to + i), factor, hn::LoadU(d, bias.data() + i)), d, to + i);
      });
    }
  });
}

void Gate(Activation activation, ConstMatrixView g, ConstMatrixView up, MatrixView y) {
  parallel_ranges(y.rows, 1, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p)
      for_lanes(y.cols, [&](auto d, size_t i) {
        const auto x = hn::LoadU(d, g.row(p).data() + i);
        const auto u = hn::LoadU(d, up.row(p).data() + i);
        const auto a = activation == Activation::silu
                           ? hn::Mul(x, sigmoid(d, x))
                           : hn::Mul(hn::Mul(hn::Set(d, 0.5f), x), hn::Add(hn::Set(d, 1.0f), gelu_tanh(d, x)));
        hn::StoreU(hn::Mul(a, u), d, y.row(p).data() + i);
      });
  });
}

void GateBackward(Activation activation, ConstMatrixView g, ConstMatrixView up, ConstMatrixView dy, MatrixView d_gate,
                  MatrixView d_up) {
  parallel_ranges(dy.rows, 1, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p)
      for_lanes(dy.cols, [&](auto d, size_t i) {
        const auto one = hn::Set(d, 1.0f);
        const auto x = hn::LoadU(d, g.row(p).data() + i);
        const auto u = hn::LoadU(d, up.row(p).data() + i);
        const auto gradient = hn::LoadU(d, dy.row(p).data() + i);
        auto value = x, slope = x;
        if (activation == Activation::silu) {
          const auto s = sigmoid(d, x);
          value = hn::Mul(x, s);
          slope = hn::MulAdd(value, hn::Sub(one, s), s);  // s + x s (1 − s)
        } else {
          const auto t = gelu_tanh(d, x);
          const auto half = hn::Set(d, 0.5f);
          value = hn::Mul(hn::Mul(half, x), hn::Add(one, t));
          const auto inner =
              hn::Mul(hn::Set(d, gelu_scale), hn::MulAdd(hn::Mul(hn::Set(d, 3 * gelu_cubic), x), x, one));
          slope = hn::Mul(half, hn::Add(hn::Add(one, t), hn::Mul(hn::Mul(x, hn::NegMulAdd(t, t, one)), inner)));
        }
        hn::StoreU(hn::Mul(gradient, value), d, d_up.row(p).data() + i);
        hn::StoreU(hn::Mul(hn::Mul(gradient, u), slope), d, d_gate.row(p).data() + i);
      });
  });
}

// d_gate = slope · d_gate + value · d_up, slope and value [P, F], the others [R · P, F].
void MultiplyAdd(ConstMatrixView slope, ConstMatrixView value, MatrixView d_gate, ConstMatrixView d_up) {
  parallel_ranges(d_gate.rows, 1, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p) {
      const float *a = slope.row(p % slope.rows).data(), *b = value.row(p % slope.rows).data(),
                  *up = d_up.row(p).data();
      float* to = d_gate.row(p).data();
      for_lanes(d_gate.cols, [&](auto d, size_t i) {
        hn::StoreU(
            hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, to + i), hn::Mul(hn::LoadU(d, b + i), hn::LoadU(d, up + i))),
            d, to + i);
      });
    }
  });
}

float LogSumExp(std::span<const float> x) {
  const Float d;
  Vec tops = hn::Set(d, x[0]);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= x.size(); i += hn::Lanes(d)) {
    const Vec values = hn::LoadU(d, x.data() + i);
    tops = hn::IfThenElse(hn::Gt(values, tops), values, tops);  // what is no number is passed over
  }
  float top = hn::GetLane(hn::MaxOfLanes(d, tops));
  for (; i < x.size(); ++i) top = std::max(top, x[i]);
  Vec sum = hn::Zero(d);
  const Vec shift = hn::Set(d, top);
  i = 0;
  for (; i + hn::Lanes(d) <= x.size(); i += hn::Lanes(d))
    sum = hn::Add(sum, hn::Exp(d, hn::Sub(hn::LoadU(d, x.data() + i), shift)));
  double total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < x.size(); ++i) total += std::exp(x[i] - top);
  return top + static_cast<float>(std::log(total));
}

void LogMixture(ConstMatrixView x, const std::vector<float>& log_weights, std::span<float> y) {
  constexpr size_t part = 4096;  // whole vectors: a column's result does not depend on the number of threads
  parallel_for((x.cols + part - 1) / part, [&](size_t p) {
    const size_t begin = p * part, end = std::min(x.cols, begin + part);
    for_lanes(end - begin, [&](auto d, size_t i) {
      const auto nothing = hn::Set(d, -1e30f);
      const auto weighted = [&](size_t e) {
        const auto value = hn::Add(hn::LoadU(d, x.row(e).data() + begin + i), hn::Set(d, log_weights[e]));
        return hn::IfThenElse(hn::IsNaN(value), nothing, hn::Max(value, nothing));
      };
      auto top = nothing, sum = hn::Zero(d);
      for (size_t e = 0; e < x.rows; ++e) top = hn::Max(top, weighted(e));
      for (size_t e = 0; e < x.rows; ++e) sum = hn::Add(sum, hn::Exp(d, hn::Sub(weighted(e), top)));
      hn::StoreU(hn::Add(top, hn::Log(d, sum)), d, y.data() + begin + i);
    });
  });
}

void CrossEntropyGradient(std::span<float> x, float log_normalizer, size_t target, float weight) {
  for_lanes(x.size(), [&](auto d, size_t i) {
    const auto p = hn::Exp(d, hn::Sub(hn::LoadU(d, x.data() + i), hn::Set(d, log_normalizer)));
    hn::StoreU(hn::Mul(hn::Set(d, weight), p), d, x.data() + i);
  });
  x[target] -= weight;
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(RmsNorm);
HWY_EXPORT(RmsNormBackward);
HWY_EXPORT(LayerNorm);
HWY_EXPORT(GeluInPlace);
HWY_EXPORT(RmsNormTangents);
HWY_EXPORT(Gate);
HWY_EXPORT(GateBackward);
HWY_EXPORT(MultiplyAdd);
HWY_EXPORT(LogSumExp);
HWY_EXPORT(LogMixture);
HWY_EXPORT(CrossEntropyGradient);

void rms_norm(ConstMatrixView x, std::span<const float> weight, float eps, MatrixView y) {
  HWY_DYNAMIC_DISPATCH(RmsNorm)(x, weight, eps, y);
}

void rms_norm_backward(ConstMatrixView x, std::span<const float> weight, float eps, ConstMatrixView dy, MatrixView dx,
                       bool accumulate) {
  HWY_DYNAMIC_DISPATCH(RmsNormBackward)(x, weight, eps, dy, dx, accumulate);
}

void layer_norm(ConstMatrixView x, std::span<const float> weight, std::span<const float> bias, float eps,
                MatrixView y) {
  HWY_DYNAMIC_DISPATCH(LayerNorm)(x, weight, bias, eps, y);
}

void gelu(Gelu form, MatrixView x) { HWY_DYNAMIC_DISPATCH(GeluInPlace)(form, x); }

void rms_norm_tangents(ConstMatrixView x, std::span<const float> weight, float eps, ConstMatrixView dx, MatrixView dy) {
  HWY_DYNAMIC_DISPATCH(RmsNormTangents)(x, weight, eps, dx, dy);
}

void gate(Activation activation, ConstMatrixView gate, ConstMatrixView up, MatrixView y) {
  HWY_DYNAMIC_DISPATCH(Gate)(activation, gate, up, y);
}

void gate_backward(Activation activation, ConstMatrixView gate, ConstMatrixView up, ConstMatrixView dy,
                   MatrixView d_gate, MatrixView d_up) {
  HWY_DYNAMIC_DISPATCH(GateBackward)(activation, gate, up, dy, d_gate, d_up);
}

void gate_tangents(Activation activation, ConstMatrixView gate, ConstMatrixView up, MatrixView d_gate,
                   ConstMatrixView d_up) {
  Matrix ones = Matrix::uninitialized(gate.rows, gate.cols), value = Matrix::uninitialized(gate.rows, gate.cols);
  std::fill_n(ones.data(), ones.size(), 1.0f);
  gate_backward(activation, gate, up, ones, ones, value);
  HWY_DYNAMIC_DISPATCH(MultiplyAdd)(ones, value, d_gate, d_up);
}

float log_sum_exp(std::span<const float> x) { return HWY_DYNAMIC_DISPATCH(LogSumExp)(x); }

void log_mixture(ConstMatrixView x, std::span<const double> weights, std::span<float> y) {
  std::vector<float> log_weights(weights.size());
  std::ranges::transform(weights, log_weights.begin(), [](double w) { return static_cast<float>(std::log(w)); });
  HWY_DYNAMIC_DISPATCH(LogMixture)(x, log_weights, y);
}

void cross_entropy_gradient(std::span<float> x, float log_normalizer, size_t target, float weight) {
  HWY_DYNAMIC_DISPATCH(CrossEntropyGradient)(x, log_normalizer, target, weight);
}

RopeTable rope_table(std::span<const size_t> positions, size_t head_dim, double base, std::span<const float> factors) {
  const size_t pairs = head_dim / 2;
  RopeTable table{Matrix(positions.size(), pairs), Matrix(positions.size(), pairs)};
  for (size_t i = 0; i < pairs; ++i) {
    const double factor = factors.empty() ? 1.0 : factors[i];
    const double frequency = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)) / factor;
    for (size_t p = 0; p < positions.size(); ++p) {
      const double angle = static_cast<double>(positions[p]) * frequency;
      table.cosine.row(p)[i] = static_cast<float>(std::cos(angle));
      table.sine.row(p)[i] = static_cast<float>(std::sin(angle));
    }
  }
  return table;
}

void rope(MatrixView x, size_t head_dim, const RopeTable& table, RopePairs pairs, bool inverse) {
  const size_t half = head_dim / 2;
  const size_t stride = pairs == RopePairs::neighbours ? 2 : 1, partner = pairs == RopePairs::neighbours ? 1 : half;
  const float sign = inverse ? -1.0f : 1.0f;
  parallel_ranges(x.rows, 8, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p) {
      const float *cosine = table.cosine.row(p).data(), *sine = table.sine.row(p).data();
      for (float* head = x.row(p).data(); head < x.row(p).data() + x.cols; head += head_dim)
        for (size_t i = 0; i < half; ++i) {
          const float a = head[i * stride], b = head[i * stride + partner];
          head[i * stride] = a * cosine[i] - sign * b * sine[i];
          head[i * stride + partner] = sign * a * sine[i] + b * cosine[i];
        }
    }
  });
}

void add(ConstMatrixView x, MatrixView y) {
  parallel_ranges(x.rows * x.cols, 1 << 14, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) y.data[i] += x.data[i];
  });
}

}  // namespace hone
#endif
