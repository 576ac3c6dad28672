// One training step: forward and backward through what the rows keep, then Adam.
#include "interpret/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "interpret/encode.h"
#include "model/gemm.h"

namespace hone {
namespace {

constexpr size_t features_a_task = 32;

void require(bool holds, const std::string& problem) {
  if (!holds) throw Error(ErrorCode::bad_input, problem);
}

void check_training(const SaeConfig& config, const SaeTraining& training) {
  require(training.batch > 0, "batch: 0 rows; give at least 1");
  require(training.initial_active >= config.active && training.initial_active <= config.features,
          fmt::format("initial k: {}; give {} (k) to {} (the number of features)", training.initial_active,
                      config.active, config.features));
  require(std::isfinite(training.learning_rate) && training.learning_rate > 0,
          fmt::format("learning rate: {}; give a positive number", training.learning_rate));
  require(training.dropout >= 0 && training.dropout < 1,
          fmt::format("dropout: {}; give a share from 0 up to, not including, 1", training.dropout));
  require(std::isfinite(training.clip) && training.clip >= 0,
          fmt::format("clip: {}; give a positive norm, or 0 for none", training.clip));
  require(training.dead_below >= 0 && training.dead_below <= 1,
          fmt::format("dead below: {}; give a share from 0 to 1", training.dead_below));
  require(training.revival != Revival::auxiliary_k || training.auxiliary_active > 0,
          "auxiliary k: 0 features; give at least 1");
  require(std::isfinite(training.auxiliary_weight) && training.auxiliary_weight >= 0,
          fmt::format("auxiliary weight: {}; give a number of at least 0", training.auxiliary_weight));
}

// The kept places of a batch, feature by feature.
struct ByFeature {
  std::vector<size_t> start;     // [S + 1]
  std::vector<uint32_t> rows;    // rows that keep the feature, ascending
  std::vector<float> values;     // its value there
  std::vector<float> gradients;  // ∂loss/∂value

  ByFeature(const SparseCodes& codes, std::span<const float> value_gradients, size_t features) : start(features + 1) {
    for (size_t i = 0; i < codes.rows(); ++i)
      for (const uint32_t feature : codes.row_features(i)) ++start[feature + 1];
    std::partial_sum(start.begin(), start.end(), start.begin());
    rows.resize(start.back());
    values.resize(start.back());
    gradients.resize(start.back());
    std::vector<size_t> next(start.begin(), start.end() - 1);
    for (size_t i = 0; i < codes.rows(); ++i)
      for (size_t j = i * codes.width; j < i * codes.width + codes.counts[i]; ++j) {
        const size_t to = next[codes.features[j]]++;
        rows[to] = static_cast<uint32_t>(i);
        values[to] = codes.values[j];
        gradients[to] = value_gradients[j];
      }
  }
  size_t count(size_t feature) const { return start[feature + 1] - start[feature]; }
  template <class T>
  std::span<const T> of(size_t feature, const std::vector<T>& list) const {
    return {list.data() + start[feature], count(feature)};
  }
};

void scale(std::span<float> x, float factor) {
  for (float& value : x) value *= factor;
}

double square_norm(std::span<const float> x) {
  double sum = 0;
  for (const float value : x) sum += static_cast<double>(value) * value;
  return sum;
}

// Everything outside the k largest of a row counts as 0.
void keep_only(std::span<float> values, size_t k, Selection& selection) {
  select_largest(values, k, selection);
  size_t next = 0;
  for (const uint32_t kept : selection.features) {
    std::fill(values.data() + next, values.data() + kept, 0.0F);
    next = kept + 1;
  }
  std::fill(values.data() + next, values.data() + values.size(), 0.0F);
}

// The loss by which dead features learn the error, and its gradients for them alone.
struct Revived {
  double loss = 0;
  Matrix encoder;  // [dead, d]
  Matrix decoder;  // [dead, d], w.r.t. the unit rows
  std::vector<float> encoder_bias;
};

// error = x̂ − x [n, d]; values [n, dead] their pre-activations; centred: what the encoder saw; directions [dead, d].
Revived revive(ConstMatrixView error, ConstMatrixView values, ConstMatrixView centred, ConstMatrixView directions,
               float weight, float keep_scale) {
  const size_t dead = directions.rows;
  const double cells = static_cast<double>(error.rows) * static_cast<double>(error.cols);
  const auto factor = static_cast<float>(2 * weight / cells);
  Matrix missing = Matrix::uninitialized(error.rows, error.cols);
  std::ranges::copy_n(error.data, static_cast<std::ptrdiff_t>(missing.size()), missing.data());
  linear_backward_input(values, weight_view(directions), missing, true);
  Revived result{.encoder = Matrix(dead, error.cols),
                 .decoder = Matrix(dead, error.cols),
                 .encoder_bias = std::vector<float>(dead)};
  for (size_t i = 0; i < error.rows; ++i) result.loss += square_norm(missing.row(i));
  result.loss *= weight / cells;
  scale({missing.data(), missing.size()}, factor);
  linear_backward_weight(values, missing, result.decoder);
  Matrix d_values = Matrix::uninitialized(values.rows, values.cols);
  linear_forward(missing, directions, d_values);
  for (size_t i = 0; i < d_values.size(); ++i)
    d_values.data()[i] = values.data[i] == 0 ? 0.0F : d_values.data()[i] * keep_scale;
  linear_backward_weight(d_values, centred, result.encoder);
  for (size_t i = 0; i < d_values.rows(); ++i) add_scaled(1, d_values.row(i), result.encoder_bias);
  return result;
}

// ∂/∂W of a function of w = W/‖W‖, given its gradient w.r.t. w: (g − ⟨g, w⟩ w)/‖W‖.
void through_normalization(std::span<const float> unit_row, double norm, std::span<float> gradient) {
  if (norm == 0) {
    std::ranges::fill(gradient, 0.0F);
    return;
  }
  add_scaled(-inner_product(gradient, unit_row), unit_row, gradient);
  scale(gradient, static_cast<float>(1 / norm));
}

}  // namespace

SaeGradients zeros_like(const SaeConfig& config) {
  return {Matrix(config.features, config.inputs), std::vector<float>(config.features),
          Matrix(config.features, config.inputs), std::vector<float>(config.inputs)};
}

SaeTrainer::Impl::Impl(Sae start, const SaeTraining& settings) : sae(std::move(start)), training(settings) {
  check_config(sae.config);
  check_training(sae.config, training);
  firings.resize(sae.config.features);
  first = zeros_like(sae.config);
  second = zeros_like(sae.config);
  gradient = zeros_like(sae.config);
}

size_t SaeTrainer::Impl::active() const {
  if (steps >= training.annealing_steps) return sae.config.active;
  const double done = static_cast<double>(steps) / static_cast<double>(training.annealing_steps);
  const auto fall = static_cast<double>(training.initial_active - sae.config.active);
  return training.initial_active - static_cast<size_t>(std::lround(fall * done));
}

std::vector<uint32_t> SaeTrainer::Impl::dead() const {
  std::vector<uint32_t> list;
  const double least = training.dead_below * static_cast<double>(rows_seen);
  for (size_t f = 0; f < firings.size(); ++f)
    if (static_cast<double>(firings[f]) < least) list.push_back(static_cast<uint32_t>(f));
  return list;
}

SaeStep SaeTrainer::Impl::differentiate(ConstMatrixView x) {
  const size_t n = x.rows, d = sae.config.inputs;
  require(n > 0, "activations: an empty batch; give at least one row");
  const Matrix inputs = sae.inputs(x);
  const Matrix directions = sae.directions();
  const std::vector<uint32_t> dead_features = dead();
  SaeStep report{.step = steps + 1, .active = active(), .dead = dead_features.size()};

  std::vector<uint64_t> keys(n);
  RandomStream random(training.seed, fmt::format("sae dropout {}", steps));
  std::ranges::generate(keys, [&] { return random.next(); });
  const bool reviving = training.revival != Revival::none && !dead_features.empty();
  Matrix dead_values(reviving ? n : 0, dead_features.size());
  Encoding encoding{report.active, training.dropout, keys, {}, dead_values};
  if (reviving) encoding.watched = dead_features;
  const Matrix shifted = sae.config.pre_bias ? without_bias(inputs, sae.decoder_bias) : Matrix();
  const ConstMatrixView centred = sae.config.pre_bias ? shifted.view() : inputs.view();
  codes = SparseCodes(n, report.active);
  encode_rows(sae, centred, encoding, codes);

  const double cells = static_cast<double>(n) * static_cast<double>(d);
  const auto factor = static_cast<float>(2 / cells), keep_scale = 1 / (1 - training.dropout);
  Matrix error = sae.decode(codes, directions);
  std::vector<double> losses(n);
  std::vector<float> value_gradients(codes.values.size());
  parallel_ranges(n, 8, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      add_scaled(-1, inputs.row(i), error.row(i));
      losses[i] = inner_product(error.row(i), error.row(i));
      const std::span<float> to(value_gradients.data() + i * codes.width, codes.counts[i]);
      row_products(directions, codes.row_features(i), error.row(i), to);
      scale(to, factor * keep_scale);
    }
  });
  report.loss = std::accumulate(losses.begin(), losses.end(), 0.0) / cells;

  Revived revived;
  std::vector<size_t> place(sae.config.features, SIZE_MAX);  // of a dead feature among `revived`
  if (reviving) {
    const bool few = training.revival == Revival::auxiliary_k;
    if (few)
      parallel_ranges(n, 8, [&](size_t begin, size_t end) {
        Selection selection;
        for (size_t i = begin; i < end; ++i)
          keep_only(dead_values.row(i), std::min(training.auxiliary_active, dead_features.size()), selection);
      });
    Matrix rows = Matrix::uninitialized(dead_features.size(), d);
    for (size_t j = 0; j < dead_features.size(); ++j) {
      place[dead_features[j]] = j;
      std::ranges::copy(directions.row(dead_features[j]), rows.row(j).begin());
    }
    revived = revive(error, dead_values, centred, rows, few ? training.auxiliary_weight : 1, keep_scale);
    report.revival_loss = revived.loss;
  }

  const ByFeature kept(codes, value_gradients, sae.config.features);
  std::vector<double> squares(sae.config.features);
  parallel_for((sae.config.features + features_a_task - 1) / features_a_task, [&](size_t task) {
    const size_t end = std::min(sae.config.features, (task + 1) * features_a_task);
    for (size_t f = task * features_a_task; f < end; ++f) {
      const std::span<float> encoder = gradient.encoder.row(f), decoder = gradient.decoder.row(f);
      const auto rows = kept.of(f, kept.rows);
      const auto gradients = kept.of(f, kept.gradients);
      std::ranges::fill(encoder, 0.0F);
      std::ranges::fill(decoder, 0.0F);
      add_rows(centred, rows, gradients, encoder);
      add_rows(error, rows, kept.of(f, kept.values), decoder);
      scale(decoder, factor);
      float& bias = gradient.encoder_bias[f];
      bias = std::accumulate(gradients.begin(), gradients.end(), 0.0F);
      if (const size_t j = place[f]; j != SIZE_MAX) {
        add_scaled(1, revived.encoder.row(j), encoder);
        add_scaled(1, revived.decoder.row(j), decoder);
        bias += revived.encoder_bias[j];
      }
      if (sae.config.unit_rows)
        through_normalization(directions.row(f), std::sqrt(square_norm(sae.decoder.row(f))), decoder);
      squares[f] = inner_product(encoder, encoder) + inner_product(decoder, decoder) + bias * bias;
    }
  });
  std::ranges::fill(gradient.decoder_bias, 0.0F);
  for (size_t i = 0; i < n; ++i) add_scaled(factor, error.row(i), gradient.decoder_bias);
  if (sae.config.pre_bias)
    for (size_t f = 0; f < sae.config.features; ++f)
      add_scaled(-gradient.encoder_bias[f], sae.encoder.row(f), gradient.decoder_bias);
  report.gradient_norm = std::sqrt(std::accumulate(squares.begin(), squares.end(), square_norm(gradient.decoder_bias)));
  if (!std::isfinite(report.loss + report.gradient_norm))
    throw Error(ErrorCode::bad_input,
                fmt::format("training diverged at step {}: the loss or its gradient is not finite; lower the learning "
                            "rate",
                            report.step));
  return report;
}

void SaeTrainer::Impl::descend(double gradient_norm) {
  ++steps;
  const auto t = static_cast<double>(steps);
  const double warm = training.warmup_steps == 0 ? 1 : std::min(1.0, t / static_cast<double>(training.warmup_steps));
  const double clip = training.clip > 0 && gradient_norm > training.clip ? training.clip / (gradient_norm + 1e-6) : 1;
  const AdamStep step{static_cast<float>(training.learning_rate * warm), static_cast<float>(clip),
                      static_cast<float>(1 - std::pow(0.9, t)), static_cast<float>(1 - std::pow(0.999, t))};
  const auto update = [&](std::span<const float> g, std::span<float> m, std::span<float> v, std::span<float> values) {
    parallel_ranges(values.size(), 1 << 12, [&](size_t begin, size_t end) {
      const size_t count = end - begin;
      adam_step(step, g.subspan(begin, count), m.subspan(begin, count), v.subspan(begin, count),
                values.subspan(begin, count));
    });
  };
  const auto all = [](Matrix& m) { return std::span<float>(m.data(), m.size()); };
  update(all(gradient.encoder), all(first.encoder), all(second.encoder), all(sae.encoder));
  update(gradient.encoder_bias, first.encoder_bias, second.encoder_bias, sae.encoder_bias);
  update(all(gradient.decoder), all(first.decoder), all(second.decoder), all(sae.decoder));
  update(gradient.decoder_bias, first.decoder_bias, second.decoder_bias, sae.decoder_bias);
}

SaeTrainer::SaeTrainer(Sae start, const SaeTraining& training)
    : impl_(std::make_unique<Impl>(std::move(start), training)) {}
SaeTrainer::SaeTrainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SaeTrainer::SaeTrainer(SaeTrainer&&) noexcept = default;
SaeTrainer& SaeTrainer::operator=(SaeTrainer&&) noexcept = default;
SaeTrainer::~SaeTrainer() = default;

void SaeTrainer::set_steps(uint64_t steps) { impl_->training.steps = steps; }
uint64_t SaeTrainer::steps_done() const { return impl_->steps; }
const Sae& SaeTrainer::sae() const { return impl_->sae; }
const SaeTraining& SaeTrainer::training() const { return impl_->training; }
std::span<const uint64_t> SaeTrainer::firings() const { return impl_->firings; }
uint64_t SaeTrainer::rows_seen() const { return impl_->rows_seen; }

SaeStep SaeTrainer::gradients(ConstMatrixView x, SaeGradients& to) {
  const SaeStep report = impl_->differentiate(x);
  const SaeGradients& g = impl_->gradient;
  to = {g.encoder.copy(), g.encoder_bias, g.decoder.copy(), g.decoder_bias};
  return report;
}

SaeStep SaeTrainer::step(ConstMatrixView x) {
  const SaeStep report = impl_->differentiate(x);
  for (size_t i = 0; i < x.rows; ++i)
    for (const uint32_t feature : impl_->codes.row_features(i)) ++impl_->firings[feature];
  impl_->rows_seen += x.rows;
  impl_->descend(report.gradient_norm);
  return report;
}

void SaeTrainer::run(ActivationBatches& batches, const std::filesystem::path& checkpoint, uint64_t every,
                     const std::function<void(const SaeStep&)>& seen, const Watch& watch) {
  const std::string source = batches.identity();
  const auto keep = [&] {
    if (!checkpoint.empty()) save(checkpoint, source);
  };
  Matrix x = Matrix::uninitialized(training().batch, sae().config.inputs);
  const uint64_t total = training().steps;
  try {
    while (steps_done() < total) {
      watch.report("training", steps_done(), total);
      batches.read(steps_done(), x, watch.cancel);
      const SaeStep report = step(x);
      if (seen) seen(report);
      if (every > 0 && steps_done() % every == 0 && steps_done() < total) keep();
    }
  } catch (const Error& error) {
    if (error.code == ErrorCode::cancelled) keep();
    throw;
  }
  keep();
}

}  // namespace hone
