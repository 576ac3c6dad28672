#include "heads/kernel.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "base/flushed.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "heads/kernel.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

// After foreach_target.
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Float = hn::ScalableTag<float>;
using Vec = hn::Vec<Float>;

constexpr size_t tile_vectors = 2;
// Rows whose sums are held in registers: 24 of AVX-512's 32, 12 of the 16 of AVX2 and below.
constexpr size_t most_rows = HWY_TARGET <= HWY_AVX3 ? 12 : 6;

HWY_INLINE size_t width() { return tile_vectors * hn::Lanes(Float()); }
HWY_INLINE size_t tiles_of(size_t columns) { return (columns + width() - 1) / width(); }
HWY_INLINE size_t vectors_of(size_t columns) { return columns > hn::Lanes(Float()) ? 2 : 1; }

size_t TileWidth() { return width(); }

// out[r] = Σ_{i < depth} coefficients(r, i) · panel[i] for `rows` of the `stride` rows of the coefficients' tiles.
template <size_t vectors, size_t rows>
HWY_NOINLINE void product_of(const float* HWY_RESTRICT coefficients, size_t stride, const float* HWY_RESTRICT panel,
                             size_t depth, float* HWY_RESTRICT out) {
  const Float d;
  const size_t n = hn::Lanes(d);
  Vec sum[rows][vectors];
#pragma GCC unroll 12
  for (size_t r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (size_t v = 0; v < vectors; ++v) sum[r][v] = hn::Zero(d);
  }
  for (size_t first = 0; first < depth; first += width(), coefficients += stride * width()) {
    const size_t count = std::min(width(), depth - first);
    for (size_t i = 0; i < count; ++i, panel += width()) {
      Vec column[vectors];
#pragma GCC unroll 2
      for (size_t v = 0; v < vectors; ++v) column[v] = hn::Load(d, panel + v * n);
#pragma GCC unroll 12
      for (size_t r = 0; r < rows; ++r) {
        const Vec value = hn::Set(d, coefficients[r * width() + i]);
#pragma GCC unroll 2
        for (size_t v = 0; v < vectors; ++v) sum[r][v] = hn::MulAdd(value, column[v], sum[r][v]);
      }
    }
  }
#pragma GCC unroll 12
  for (size_t r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (size_t v = 0; v < tile_vectors; ++v)
      hn::Store(v < vectors ? sum[r][std::min(v, vectors - 1)] : hn::Zero(d), d, out + r * width() + v * n);
  }
}

using Product = void (*)(const float*, size_t, const float*, size_t, float*);

template <size_t vectors, size_t... i>
constexpr std::array<Product, sizeof...(i)> products(std::index_sequence<i...>) {
  return {&product_of<vectors, i + 1>...};
}

// One tile of the product: all rows, in groups of nearly the same size.
void product(const float* coefficients, size_t rows, const float* panel, size_t depth, size_t columns, float* out) {
  static constexpr std::array<std::array<Product, most_rows>, 2> by_size = {
      products<1>(std::make_index_sequence<most_rows>()), products<2>(std::make_index_sequence<most_rows>())};
  const size_t groups = (rows + most_rows - 1) / most_rows;
  const auto& choice = by_size[vectors_of(columns) - 1];
  for (size_t g = 0; g < groups; ++g) {
    const size_t first = rows * g / groups, count = rows * (g + 1) / groups - first;
    choice[count - 1](coefficients + first * width(), rows, panel, depth, out + first * width());
  }
}

void Logits(const LocalPoints& points, const float* weights, size_t rows, float* logits) {
  for (size_t b = 0; b < tiles_of(points.points); ++b)
    product(weights, rows, points.by_feature + b * points.features * width(), points.features,
            points.points - b * width(), logits + b * rows * width());
}

void Gradient(const LocalPoints& points, const float* residuals, size_t classes, float* gradient) {
  for (size_t b = 0; b < tiles_of(points.features); ++b)
    product(residuals, classes, points.by_point + b * points.points * width(), points.points,
            points.features - b * width(), gradient + b * classes * width());
}

// Calls body(first lane of a vector of points, its tile's row 0 in a tile list of `classes` rows).
template <class Body>
HWY_INLINE void for_points(const LocalPoints& points, size_t classes, const Body& body) {
  const size_t n = hn::Lanes(Float());
  for (size_t i = 0; i < points.points; i += n) body(i, i / width() * classes * width() + i % width());
}

HWY_INLINE Vec flushed(Vec probability) {
  return hn::IfThenElseZero(hn::Ge(probability, hn::Set(Float(), least_probability)), probability);
}

void Residuals(const LocalPoints& points, size_t classes, float* logits) {
  const Float d;
  for_points(points, classes, [&](size_t i, size_t at) {
    float* x = logits + at;
    Vec top = hn::Load(d, x);
    for (size_t c = 1; c < classes; ++c) top = hn::Max(top, hn::Load(d, x + c * width()));
    Vec sum = hn::Zero(d);
    for (size_t c = 0; c < classes; ++c) {
      const Vec e = hn::Exp(d, hn::Sub(hn::Load(d, x + c * width()), top));
      hn::Store(e, d, x + c * width());
      sum = hn::Add(sum, e);
    }
    const Vec share = hn::Load(d, points.shares + i), label = hn::Load(d, points.labels + i);
    const Vec inverse = hn::Div(hn::Set(d, 1.0F), sum), one = hn::Set(d, 1.0F);
    Vec c_value = hn::Zero(d);
    for (size_t c = 0; c < classes; ++c, c_value = hn::Add(c_value, one)) {
      const Vec p = flushed(hn::Mul(hn::Load(d, x + c * width()), inverse));
      hn::Store(hn::Mul(hn::Sub(p, hn::IfThenElseZero(hn::Eq(label, c_value), one)), share), d, x + c * width());
    }
  });
}

double Loss(const LocalPoints& points, size_t classes, const float* logits) {
  const Float d;
  Vec total = hn::Zero(d);
  for_points(points, classes, [&](size_t i, size_t at) {
    const float* x = logits + at;
    Vec top = hn::Load(d, x);
    for (size_t c = 1; c < classes; ++c) top = hn::Max(top, hn::Load(d, x + c * width()));
    const Vec label = hn::Load(d, points.labels + i);
    Vec sum = hn::Zero(d), own = hn::Zero(d), c_value = hn::Zero(d);
    for (size_t c = 0; c < classes; ++c, c_value = hn::Add(c_value, hn::Set(d, 1.0F))) {
      const Vec z = hn::Load(d, x + c * width());
      sum = hn::Add(sum, hn::Exp(d, hn::Sub(z, top)));
      own = hn::IfThenElse(hn::Eq(label, c_value), z, own);
    }
    const Vec loss = hn::Add(hn::Sub(top, own), hn::Log(d, sum));
    total = hn::Add(total, hn::IfThenElseZero(hn::Gt(hn::Load(d, points.shares + i), hn::Zero(d)), loss));
  });
  return hn::GetLane(hn::SumOfLanes(d, total));
}

void Adam(const LocalPoints& points, const float* residuals, size_t classes, AdamStep step, float* weights,
          float* first, float* second, float* scratch) {
  const Float d;
  const size_t n = hn::Lanes(d);
  const Vec rate = hn::Set(d, -step.rate), correction = hn::Set(d, step.root_correction);
  const Vec epsilon = hn::Set(d, adam_epsilon);
  for (size_t b = 0; b < tiles_of(points.features); ++b) {
    const size_t columns = points.features - b * width(), filled = vectors_of(columns) * n;
    product(residuals, classes, points.by_point + b * points.points * width(), points.points, columns, scratch);
    for (size_t c = 0; c < classes; ++c)
      for (size_t lane = 0; lane < filled; lane += n) {
        const size_t at = (b * classes + c) * width() + lane;
        const Vec g = hn::Load(d, scratch + c * width() + lane);
        const Vec m =
            hn::MulAdd(hn::Set(d, 1 - adam_beta1), g, hn::Mul(hn::Set(d, adam_beta1), hn::Load(d, first + at)));
        const Vec v = hn::MulAdd(hn::Mul(hn::Set(d, 1 - adam_beta2), g), g,
                                 hn::Mul(hn::Set(d, adam_beta2), hn::Load(d, second + at)));
        hn::Store(m, d, first + at);
        hn::Store(v, d, second + at);
        const Vec denominator = hn::MulAdd(hn::Sqrt(v), correction, epsilon);
        hn::Store(hn::MulAdd(rate, hn::Div(m, denominator), hn::Load(d, weights + at)), d, weights + at);
      }
  }
}

LinePoint Line(const LocalPoints& points, size_t classes, const float* logits, const float* change, float t,
               float* residuals) {
  const Float d;
  const Vec along = hn::Set(d, t), one = hn::Set(d, 1.0F);
  Vec value = hn::Zero(d), slope = hn::Zero(d), curvature = hn::Zero(d);
  for_points(points, classes, [&](size_t i, size_t at) {
    const float *x = logits + at, *dx = change + at;
    float* r = residuals + at;
    const Vec share = hn::Load(d, points.shares + i), label = hn::Load(d, points.labels + i);
    Vec top = hn::Set(d, -std::numeric_limits<float>::infinity()), own = top, own_change = hn::Zero(d);
    Vec c_value = hn::Zero(d);
    for (size_t c = 0; c < classes; ++c, c_value = hn::Add(c_value, one)) {
      const Vec move = hn::Load(d, dx + c * width());
      const Vec z = hn::MulAdd(along, move, hn::Load(d, x + c * width()));
      hn::Store(z, d, r + c * width());
      top = hn::Max(top, z);
      const auto is_own = hn::Eq(label, c_value);
      own = hn::IfThenElse(is_own, z, own);
      own_change = hn::IfThenElse(is_own, move, own_change);
    }
    Vec sum = hn::Zero(d), mean = hn::Zero(d), square = hn::Zero(d);
    for (size_t c = 0; c < classes; ++c) {
      const Vec e = hn::Exp(d, hn::Sub(hn::Load(d, r + c * width()), top));
      hn::Store(e, d, r + c * width());
      // Relative to the true class's change, so that nothing large cancels.
      const Vec relative = hn::Sub(hn::Load(d, dx + c * width()), own_change), weighted = hn::Mul(e, relative);
      sum = hn::Add(sum, e);
      mean = hn::Add(mean, weighted);
      square = hn::MulAdd(weighted, relative, square);
    }
    const Vec inverse = hn::Div(one, sum);
    mean = hn::Mul(mean, inverse);
    value = hn::MulAdd(hn::Add(hn::Sub(top, own), hn::Log(d, sum)), share, value);
    slope = hn::MulAdd(mean, share, slope);
    curvature = hn::MulAdd(hn::NegMulAdd(mean, mean, hn::Mul(square, inverse)), share, curvature);
    c_value = hn::Zero(d);
    for (size_t c = 0; c < classes; ++c, c_value = hn::Add(c_value, one)) {
      const Vec p = flushed(hn::Mul(hn::Load(d, r + c * width()), inverse));
      hn::Store(hn::Mul(hn::Sub(p, hn::IfThenElseZero(hn::Eq(label, c_value), one)), share), d, r + c * width());
    }
  });
  return {hn::GetLane(hn::SumOfLanes(d, value)), hn::GetLane(hn::SumOfLanes(d, slope)),
          hn::GetLane(hn::SumOfLanes(d, curvature))};
}

void Moments(const LocalPoints& points, MomentInverse& moments) {
  constexpr float raised = 3, least = 1e-3F;  // a variance somewhat above the average; beside the mean's square
  const Float d;
  const size_t n = hn::Lanes(d), lanes = tiles_of(points.features) * width();
  const Vec share = hn::Set(d, 1 / static_cast<float>(points.points));
  Vec variances = hn::Zero(d), squares = hn::Zero(d);
  for (size_t at = 0; at < lanes; at += n) {
    const float* x = points.by_point + at / width() * points.points * width() + at % width();
    Vec sum = hn::Zero(d), square = hn::Zero(d);
    const Vec first = hn::Load(d, x);  // relative to one point, so that nothing large cancels
    for (size_t i = 0; i < points.points; ++i) {
      const Vec value = hn::Sub(hn::Load(d, x + i * width()), first);
      sum = hn::Add(sum, value);
      square = hn::MulAdd(value, value, square);
    }
    const Vec shift = hn::Mul(sum, share), mean = hn::Add(first, shift);
    hn::Store(mean, d, moments.mean + at);
    variances = hn::Add(variances, hn::Max(hn::NegMulAdd(shift, shift, hn::Mul(square, share)), hn::Zero(d)));
    squares = hn::MulAdd(mean, mean, squares);
  }
  const float total = hn::GetLane(hn::SumOfLanes(d, variances)), square = hn::GetLane(hn::SumOfLanes(d, squares));
  const auto rank = static_cast<float>(std::min(points.points, points.features));
  moments.factor = 1 / (raised * total / rank + (1 + least) * square);
}

// s M⁻¹ r = r − μ (μᵀ r) / (s + ‖μ‖²)  (Sherman and Morrison)
void Precondition(const MomentInverse& moments, size_t rows, size_t features, float* values) {
  const Float d;
  const size_t n = hn::Lanes(d), lanes = tiles_of(features) * width();
  for (size_t r = 0; r < rows; ++r) {
    const auto value = [&](size_t at) { return values + (at / width() * rows + r) * width() + at % width(); };
    Vec sum = hn::Zero(d);
    for (size_t at = 0; at < lanes; at += n)
      sum = hn::MulAdd(hn::Load(d, moments.mean + at), hn::Load(d, value(at)), sum);
    const Vec along = hn::Set(d, moments.factor * hn::GetLane(hn::SumOfLanes(d, sum)));
    for (size_t at = 0; at < lanes; at += n)
      hn::Store(hn::NegMulAdd(hn::Load(d, moments.mean + at), along, hn::Load(d, value(at))), d, value(at));
  }
}

// In double precision: L-BFGS needs differences of nearly equal sums.
double Dot(const float* a, const float* b, size_t count) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> half;
  const size_t n = hn::Lanes(d);
  auto even = hn::Zero(d), odd = hn::Zero(d);
  size_t i = 0;
  const auto load = [&](const float* from) { return hn::PromoteTo(d, hn::LoadU(half, from)); };
  for (; i + 2 * n <= count; i += 2 * n) {
    even = hn::MulAdd(load(a + i), load(b + i), even);
    odd = hn::MulAdd(load(a + i + n), load(b + i + n), odd);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (; i < count; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

void AddScaled(float t, const float* x, float* y, size_t count) {
  const Float d;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d))
    hn::StoreU(hn::MulAdd(hn::Set(d, t), hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  for (; i < count; ++i) y[i] += t * x[i];
}

}  // namespace hone::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hone {

HWY_EXPORT(TileWidth);
HWY_EXPORT(Logits);
HWY_EXPORT(Gradient);
HWY_EXPORT(Residuals);
HWY_EXPORT(Loss);
HWY_EXPORT(Adam);
HWY_EXPORT(Line);
HWY_EXPORT(Moments);
HWY_EXPORT(Precondition);
HWY_EXPORT(Dot);
HWY_EXPORT(AddScaled);

size_t tile_width() { return HWY_DYNAMIC_DISPATCH(TileWidth)(); }
void local_logits(const LocalPoints& points, const float* weights, size_t rows, float* logits) {
  HWY_DYNAMIC_DISPATCH(Logits)(points, weights, rows, logits);
}
void local_gradient(const LocalPoints& points, const float* residuals, size_t classes, float* gradient) {
  HWY_DYNAMIC_DISPATCH(Gradient)(points, residuals, classes, gradient);
}
void local_residuals(const LocalPoints& points, size_t classes, float* logits) {
  HWY_DYNAMIC_DISPATCH(Residuals)(points, classes, logits);
}
double local_loss(const LocalPoints& points, size_t classes, const float* logits) {
  return HWY_DYNAMIC_DISPATCH(Loss)(points, classes, logits);
}
void local_adam_step(const LocalPoints& points, const float* residuals, size_t classes, AdamStep step, float* weights,
                     float* first, float* second, float* scratch) {
  HWY_DYNAMIC_DISPATCH(Adam)(points, residuals, classes, step, weights, first, second, scratch);
}
LinePoint local_line(const LocalPoints& points, size_t classes, const float* logits, const float* change, float t,
                     float* residuals) {
  return HWY_DYNAMIC_DISPATCH(Line)(points, classes, logits, change, t, residuals);
}
void local_moments(const LocalPoints& points, MomentInverse& moments) {
  HWY_DYNAMIC_DISPATCH(Moments)(points, moments);
}
void local_precondition(const MomentInverse& moments, size_t rows, size_t features, float* values) {
  HWY_DYNAMIC_DISPATCH(Precondition)(moments, rows, features, values);
}
double dot(const float* a, const float* b, size_t count) { return HWY_DYNAMIC_DISPATCH(Dot)(a, b, count); }
void add_scaled(float t, const float* x, float* y, size_t count) { HWY_DYNAMIC_DISPATCH(AddScaled)(t, x, y, count); }

}  // namespace hone
#endif
