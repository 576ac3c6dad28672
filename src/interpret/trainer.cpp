// What a trainer does with gradients: Adam, counting, going on.
#include "interpret/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "interpret/encode.h"
#include "interpret/training_pass.h"

namespace hone {
namespace {

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

}  // namespace

SaeGradients zeros_like(const SaeConfig& config) {
  return {Matrix(config.features, config.inputs), std::vector<float>(config.features),
          Matrix(config.features, config.inputs), std::vector<float>(config.inputs)};
}

SaeTrainer::Impl::Impl(Sae start, const SaeTraining& settings) : sae(std::move(start)), training(settings) {
  check_shapes(sae);
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
  require(x.rows > 0, "activations: an empty batch; give at least one row");
  const std::vector<uint32_t> dead_features = dead();
  SaeStep report{.step = steps + 1, .active = active(), .dead = dead_features.size()};
  TrainingPass pass(sae, training, steps, report.active, dead_features, x);
  report.loss = pass.loss();
  report.revival_loss = pass.revival_loss();
  report.gradient_norm = pass.differentiate(gradient);
  codes = pass.take_codes();
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
  const SparseAdamStep step{static_cast<float>(training.learning_rate * warm), static_cast<float>(clip),
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
