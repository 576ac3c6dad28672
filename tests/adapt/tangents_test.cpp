// Forward mode against the backward pass, and behind a prefix against whole texts.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "adapt/step_directions.h"
#include "adapt/tangent_reader.h"
#include "base/random.h"
#include "hone/steps.h"
#include "tests/expect_error.h"
#include "tests/golden.h"

namespace hone::test::tangents_test {
namespace {

Adapter random_direction(const Model& model, int first_layer, std::span<const MatrixKind> kinds, uint64_t seed) {
  RandomStream random(seed, "direction");
  Adapter direction;
  for (int layer = first_layer; layer < model.config().layers; ++layer)
    for (const MatrixKind kind : kinds) {
      const auto [out, in] = model.shape({layer, kind});
      Matrix& addition = direction.dense.emplace(MatrixId{layer, kind}, Matrix(out, in)).first->second;
      random.normals({addition.data(), addition.size()}, 1);
    }
  return direction;
}

double product(ConstMatrixView a, ConstMatrixView b) {
  double sum = 0;
  for (size_t i = 0; i < a.rows * a.cols; ++i) sum += static_cast<double>(a.data[i]) * static_cast<double>(b.data[i]);
  return sum;
}

struct Case {
  const char* model;
  Precision precision;
};

class TangentPass : public testing::TestWithParam<Case> {
 protected:
  std::shared_ptr<const Model> model = Model::open(tiny_model(GetParam().model), {.precision = GetParam().precision});
  const std::vector<Token> text = model->tokenizer().encode("the red door and the blue sea, a hat at night; the end");
  const int layers = model->config().layers;
};

constexpr MatrixKind every_kind[] = {MatrixKind::q,    MatrixKind::k,  MatrixKind::v,   MatrixKind::o,
                                     MatrixKind::gate, MatrixKind::up, MatrixKind::down};

// For a random linear functional of the last layer's output, <gradient, direction> = the functional of the derivative.
TEST_P(TangentPass, IsTheTransposeOfTheBackwardPass) {
  std::vector<Sequence> batch = {{.tokens = text}, {.tokens = std::span(text).first(9)}};
  for (const MatrixKind kind : every_kind) {
    std::vector<Adapter> directions;
    directions.push_back(random_direction(*model, layers - 2, {&kind, 1}, 1));
    directions.push_back(random_direction(*model, layers - 1, every_kind, 2));
    Tape tape;
    const Matrix below = model->forward(batch, 0, layers - 2, model->embed(batch));
    const Matrix hidden = model->forward(batch, layers - 2, layers, below.copy(), &tape);
    Matrix functional(hidden.rows(), hidden.cols());
    RandomStream(3, "functional").normals({functional.data(), functional.size()}, 1);
    WeightGradientSink sink;
    GradientSink* const sinks[] = {&sink};
    model->backward(tape, functional.copy(), sinks);
    const Tangents found =
        model->forward_tangents(batch, layers - 2, layers, {below.copy(), {}}, directions, nullptr, nullptr);
    EXPECT_TRUE(std::equal(hidden.data(), hidden.data() + hidden.size(), found.value.data()));
    for (size_t r = 0; r < 2; ++r) {
      double expected = 0, scale = 0;
      for (const auto& [id, addition] : directions[r].dense) {
        const Matrix& gradient = sink.gradients().at(id);
        expected += product(gradient, addition);
        scale += product(gradient, gradient);
      }
      const size_t rows = hidden.rows();
      const double along = product(found.derivatives.view().row_range(r * rows, rows), functional);
      EXPECT_NEAR(along, expected, 2e-5 * std::sqrt(scale)) << name(kind) << " " << r;
      EXPECT_GT(std::abs(expected), 1e-3 * std::sqrt(scale));
    }
  }
}

// To the last bit what whole texts are, wherever they are cut and whatever they share; derivatives to rounding.
TEST_P(TangentPass, BehindAPrefixIsTheWholeText) {
  std::vector<Adapter> directions;
  for (uint64_t seed = 0; seed < 3; ++seed)
    directions.push_back(random_direction(*model, layers - 2, std::array{MatrixKind::v, MatrixKind::up}, seed));
  std::vector<Token> other(text.begin(), text.end() - 3);
  other.push_back(text[0]);
  const std::vector<Sequence> whole = {{.tokens = text}, {.tokens = other}};
  const Matrix below = model->forward(whole, 0, layers - 2, model->embed(whole));
  const Tangents expected =
      model->forward_tangents(whole, layers - 2, layers, {below.copy(), {}}, directions, nullptr, nullptr);
  for (const size_t cut : {size_t{1}, text.size() / 2, text.size() - 4}) {
    std::vector<Adapter> copies;
    for (const Adapter& direction : directions) copies.push_back(direction.copy());
    const TangentReader reader(*model, layers - 2, std::span(text).first(cut), std::move(copies), {});
    std::vector<Sequence> tails = {{.tokens = std::span(text).subspan(cut)}, {.tokens = std::span(other).subspan(cut)}};
    share_prefixes(tails);
    EXPECT_GT(tails[1].shared, 0U);
    const BatchRows rows(tails);
    const Tangents found = reader.read(tails, {});
    for (size_t s = 0; s < 2; ++s)
      for (size_t i = 0; i < tails[s].tokens.size(); ++i) {
        const size_t at = rows.activation[rows.gradient_start[s] + i], before = s * text.size() + cut + i;
        EXPECT_TRUE(std::ranges::equal(found.value.row(at), expected.value.row(before)));
        for (size_t r = 0; r < directions.size(); ++r) {
          const auto a = found.derivatives.row(r * found.value.rows() + at);
          const auto b = expected.derivatives.row(r * expected.value.rows() + before);
          double difference = 0, scale = 0;
          for (size_t d = 0; d < a.size(); ++d) {
            difference += std::pow(static_cast<double>(a[d] - b[d]), 2);
            scale += std::pow(static_cast<double>(b[d]), 2);
          }
          EXPECT_LE(std::sqrt(difference), 1e-5 * std::sqrt(scale)) << cut << " " << s << " " << i;
        }
      }
  }
}

TEST_P(TangentPass, WithoutDirectionsIsAForwardPass) {
  const Sequence sequence{.tokens = text};
  const TangentReader reader(*model, layers, std::span(text).first(3), {}, {});
  const Sequence tail{.tokens = std::span(text).subspan(3)};
  const Tangents found = reader.read({&tail, 1}, {});
  const Matrix hidden = model->forward({&sequence, 1});
  EXPECT_EQ(found.derivatives.rows(), 0U);
  EXPECT_TRUE(std::equal(found.value.data(), found.value.data() + found.value.size(), hidden.row(3).data()));
}

TEST_P(TangentPass, WhatDoesNotFitIsRefused) {
  const Sequence sequence{.tokens = text};
  const std::span<const Sequence> batch(&sequence, 1);
  Adapter lora = Adapter::lora(*model, 0, 1);
  HONE_EXPECT_ERROR(model->forward_tangents(batch, 0, 1, {model->embed(batch), {}}, {&lora, 1}, nullptr, nullptr),
                    ErrorCode::bad_input, "dense additions alone");
  HONE_EXPECT_ERROR(model->forward_tangents(batch, 0, layers + 1, {model->embed(batch), {}}, {}, nullptr, nullptr),
                    ErrorCode::bad_input, "do not fit");
  const TangentReader reader(*model, layers, text, {}, {});
  const std::vector<Token> longer(static_cast<size_t>(model->config().context), text[0]);
  const Sequence tail{.tokens = longer};
  HONE_EXPECT_ERROR(reader.read({&tail, 1}, {}), ErrorCode::bad_input, "longer than the model's context");
  const Sequence adapted{.tokens = text, .adapter = &lora};
  HONE_EXPECT_ERROR(reader.read({&adapted, 1}, {}), ErrorCode::bad_input, "no adapters");
  CancelToken cancelled;
  cancelled.cancel();
  HONE_EXPECT_ERROR(reader.read(batch, cancelled), ErrorCode::cancelled, "");
}

INSTANTIATE_TEST_SUITE_P(Models, TangentPass,
                         testing::Values(Case{"llama", Precision::fp32}, Case{"qwen2", Precision::fp32},
                                         Case{"gemma3", Precision::fp32}, Case{"llama", Precision::int8},
                                         Case{"gemma3", Precision::int8}),
                         [](const auto& parameter) {
                           return std::string(parameter.param.model) +
                                  (parameter.param.precision == Precision::int8 ? "_int8" : "");
                         });

TEST(StepDirections, SpanEveryUpdateInFewOrthogonalDirections) {
  RandomStream random(1, "kernel");
  const size_t m = 40;
  decide::Matrix64 features(m, 60), kernel(m, m);
  for (size_t i = 0; i < m; ++i)
    for (size_t d = 0; d < 60; ++d) features(i, d) = random.normal() / static_cast<double>(d + 1);
  for (size_t i = 0; i < m; ++i)
    for (size_t j = 0; j < m; ++j)
      for (size_t d = 0; d < 60; ++d) kernel(i, j) += features(i, d) * features(j, d);
  std::vector<double> r(m);
  for (double& value : r) value = random.normal();
  const decide::Spectrum spectrum(kernel);
  const double rho = decide::step_size(spectrum, 0.5), tolerance = 1e-4;
  const std::vector<double> modes = spectrum.coordinates(r, "r"), steps = decide::whole_steps(30);
  const StepDirections found = step_directions(spectrum, modes, rho, steps, tolerance);
  EXPECT_LE(found.vectors.size(), 9U);
  EXPECT_GE(found.vectors.size(), 2U);
  const auto inner = [&](const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < m; ++i)
      for (size_t j = 0; j < m; ++j) sum += a[i] * kernel(i, j) * b[j];
    return sum;
  };
  for (size_t i = 0; i < found.vectors.size(); ++i)
    for (size_t j = 0; j < found.vectors.size(); ++j)
      EXPECT_NEAR(inner(found.vectors[i], found.vectors[j]), i == j ? 1 : 0, 1e-6);
  double longest = 0;
  std::vector<std::vector<double>> missing;
  for (size_t t = 0; t < steps.size(); ++t) {
    const std::vector<double> filter = decide::descent_filter(spectrum, rho, steps[t]);
    std::vector<double> filtered(m);
    for (size_t i = 0; i < m; ++i) filtered[i] = filter[i] * modes[i];
    std::vector<double> w = spectrum.combination(filtered);
    longest = std::max(longest, inner(w, w));
    for (size_t j = 0; j < found.vectors.size(); ++j)
      for (size_t i = 0; i < m; ++i) w[i] -= found.coefficients(t, j) * found.vectors[j][i];
    missing.push_back(w);
  }
  for (const std::vector<double>& w : missing) EXPECT_LE(std::sqrt(inner(w, w)), 1.01 * tolerance * std::sqrt(longest));
}

// Their cost grows with the number of steps, not with its square.
TEST(StepDirections, OfAHundredThousandSteps) {
  decide::Matrix64 kernel(2, 2);
  kernel(0, 0) = 2;
  kernel(1, 1) = 1;
  const decide::Spectrum spectrum(kernel);
  const std::vector<double> steps = decide::whole_steps(100000), residuals = {1, 1};
  const StepDirections found = step_directions(spectrum, residuals, 0.25, steps, 1e-6);
  ASSERT_EQ(found.vectors.size(), 2U);
  for (const size_t t : {0, 1, 100, 100000})
    for (size_t i = 0; i < 2; ++i) {
      double weight = 0;
      for (size_t j = 0; j < 2; ++j) weight += found.coefficients(t, j) * found.vectors[j][i];
      const double lambda = kernel(i, i);
      EXPECT_NEAR(weight, (1 - std::pow(1 - 0.25 * lambda, static_cast<double>(t))) / lambda, 1e-6) << t << ' ' << i;
    }
}

TEST(StepDirections, NothingMovesWithoutResiduals) {
  decide::Matrix64 kernel(2, 2);
  const std::vector<double> steps = {0, 1, 2}, zero = {0, 0}, one = {1, 1};
  EXPECT_TRUE(step_directions(decide::Spectrum(kernel), one, 0, steps, 1e-4).vectors.empty());
  kernel(0, 0) = kernel(1, 1) = 1;
  EXPECT_TRUE(step_directions(decide::Spectrum(kernel), zero, 0.5, steps, 1e-4).vectors.empty());
  EXPECT_EQ(step_directions(decide::Spectrum(kernel), one, 0.5, steps, 1e-4).vectors.size(), 1U);
  const CancelToken cancelled;
  cancelled.cancel();
  EXPECT_THROW(step_directions(decide::Spectrum(kernel), one, 0.5, steps, 1e-4, cancelled), Error);
}

}  // namespace
}  // namespace hone::test::tangents_test
