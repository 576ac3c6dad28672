#include "interpret/training_pass.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "interpret/encode.h"
#include "interpret/kept_places.h"

namespace hone {
namespace {

constexpr size_t features_a_task = 32;

// ∂/∂W of a function of w = W/‖W‖, given its gradient w.r.t. w: (g − ⟨g, w⟩ w)/‖W‖.
void through_normalization(std::span<const float> row, std::span<const float> unit_row, std::span<float> gradient) {
  const float norm = std::sqrt(inner_product(row, row));
  add_scaled(-inner_product(gradient, unit_row), unit_row, gradient);
  scale_by(norm > 0 ? 1 / norm : 0, gradient);
}

}  // namespace

TrainingPass::TrainingPass(const Sae& sae, const SaeTraining& training, uint64_t steps, size_t active,
                           std::span<const uint32_t> dead, ConstMatrixView x)
    : sae_(sae),
      inputs_(sae.inputs(x)),
      shifted_(sae.config.pre_bias ? without_bias(inputs_, sae.decoder_bias) : Matrix()),
      directions_(sae.directions()),
      codes_(x.rows, active),
      factor_(static_cast<float>(2 / (static_cast<double>(x.rows) * static_cast<double>(x.cols)))),
      keep_scale_(1 / (1 - training.dropout)) {
  const bool reviving = training.revival != Revival::none && !dead.empty();
  if (!reviving) dead = {};
  Matrix dead_values(x.rows, dead.size());
  encode(active, training.dropout, training.seed, steps, dead, dead_values);
  compare();
  if (reviving) revived_ = revive(training, dead, error_, dead_values, centred(), directions_);
}

void TrainingPass::encode(size_t active, float dropout, uint64_t seed, uint64_t steps,
                          std::span<const uint32_t> watched, MatrixView watched_values) {
  std::vector<uint64_t> keys(inputs_.rows());
  RandomStream random(seed, fmt::format("sae dropout {}", steps));
  std::ranges::generate(keys, [&] { return random.next(); });
  encode_rows(sae_, centred(), {active, dropout, keys, watched, watched_values}, codes_);
}

// Error, loss, and the gradient w.r.t. what was kept.
void TrainingPass::compare() {
  const size_t n = inputs_.rows();
  error_ = sae_.decode(codes_, directions_);
  value_gradients_.resize(codes_.values.size());
  std::vector<double> losses(n);
  parallel_ranges(n, 8, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      add_scaled(-1, inputs_.row(i), error_.row(i));
      losses[i] = inner_product(error_.row(i), error_.row(i));
      const std::span<float> to(value_gradients_.data() + i * codes_.width, codes_.counts[i]);
      row_products(directions_, codes_.row_features(i), error_.row(i), to);
      scale_by(factor_ * keep_scale_, to);
    }
  });
  loss_ = std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(inputs_.size());
}

double TrainingPass::differentiate(SaeGradients& to) const {
  const size_t features = sae_.config.features;
  const KeptPlaces kept(codes_, value_gradients_, features);
  std::vector<double> squares(features);
  parallel_for((features + features_a_task - 1) / features_a_task, [&](size_t task) {
    for (size_t f = task * features_a_task; f < std::min(features, (task + 1) * features_a_task); ++f) {
      const std::span<float> encoder = to.encoder.row(f), decoder = to.decoder.row(f);
      const auto rows = kept.of(f, kept.rows);
      const auto gradients = kept.of(f, kept.gradients);
      std::ranges::fill(encoder, 0.0F);
      std::ranges::fill(decoder, 0.0F);
      add_rows(centred(), rows, gradients, encoder);
      add_rows(error_, rows, kept.of(f, kept.values), decoder);
      scale_by(factor_, decoder);
      float& bias = to.encoder_bias[f];
      bias = std::accumulate(gradients.begin(), gradients.end(), 0.0F);
      if (!revived_.place.empty() && revived_.place[f] != SIZE_MAX) {
        const size_t j = revived_.place[f];
        add_scaled(1, revived_.encoder.row(j), encoder);
        add_scaled(1, revived_.decoder.row(j), decoder);
        bias += revived_.encoder_bias[j];
      }
      if (sae_.config.unit_rows) through_normalization(sae_.decoder.row(f), directions_.row(f), decoder);
      squares[f] = inner_product(encoder, encoder) + inner_product(decoder, decoder) + bias * bias;
    }
  });
  std::ranges::fill(to.decoder_bias, 0.0F);
  for (size_t i = 0; i < error_.rows(); ++i) add_scaled(factor_, error_.row(i), to.decoder_bias);
  if (sae_.config.pre_bias)
    for (size_t f = 0; f < features; ++f) add_scaled(-to.encoder_bias[f], sae_.encoder.row(f), to.decoder_bias);
  const double square = inner_product(to.decoder_bias, to.decoder_bias);
  return std::sqrt(std::accumulate(squares.begin(), squares.end(), square));
}

}  // namespace hone
