// One query: its reading, its kernel row, blocks, steps, and the answer of the mixture.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "adapt/block_choice.h"
#include "adapt/few_shot_mixture.h"
#include "adapt/few_shot_state.h"
#include "adapt/stopwatch.h"
#include "model/gemm.h"

namespace hone {
namespace {

using Steps = FewShotOptions::Steps;

std::vector<double> point_mass(size_t size, size_t at) {
  std::vector<double> mass(size);
  mass[at] = 1;
  return mass;
}

// A query's kernel rows: per block and output [blocks·outputs, m].
std::vector<Matrix> query_rows(const std::vector<Matrix>& examples, const std::vector<Matrix>& query) {
  std::vector<Matrix> rows;
  for (size_t b = 0; b < examples.size(); ++b) {
    rows.push_back(Matrix::uninitialized(query[b].rows(), examples[b].rows()));
    linear_forward(query[b], examples[b], rows.back());
  }
  return rows;
}

double squared_length(const std::vector<Matrix>& gradients, std::span<const double> direction) {
  double sum = 0;
  for (const Matrix& of_block : gradients)
    for (size_t i = 0; i < of_block.cols(); ++i) {
      double value = 0;
      for (size_t o = 0; o < direction.size(); ++o) value += direction[o] * static_cast<double>(of_block.row(o)[i]);
      sum += value * value;
    }
  return sum;
}

// The combination of outputs that the answer turns on: the margin between the two likeliest labels.
std::vector<double> decisive_direction(const LabelOutputs& outputs, std::span<const double> log_p) {
  if (outputs.outputs() == 1) return {1};
  std::vector<size_t> order(log_p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::partial_sort(order, order.begin() + 2, [&](size_t a, size_t b) { return log_p[a] > log_p[b]; });
  std::vector<double> direction = outputs.targets(order[0]);
  const std::vector<double> second = outputs.targets(order[1]);
  for (size_t o = 0; o < direction.size(); ++o) direction[o] = (direction[o] - second[o]) / 2;
  return direction;
}

}  // namespace

std::vector<double> trusted_filter(const StepsOfBlocks& s, const std::vector<double>& steps) {
  decide::StepPosterior mixture;
  mixture.steps = steps;
  mixture.weights = s.trusted;
  return decide::mixture_filter(s.spectrum, s.rho, mixture);
}

const StepsOfBlocks& FewShot::Impl::steps_of(std::vector<size_t> chosen, const CancelToken& cancel) {
  if (latest && latest->blocks == chosen) return *latest;
  decide::Matrix64 kernel(rows(), rows());
  for (const size_t b : chosen)
    for (size_t i = 0; i < kernel.values.size(); ++i) kernel.values[i] += static_cast<double>(kernels.row(b)[i]);
  StepsOfBlocks s{std::move(chosen), decide::Spectrum(kernel), 0, {}, {}, {}, {}, 0};
  s.rho = decide::step_size(s.spectrum, options.step);
  const std::vector<double> modes = s.spectrum.coordinates(residuals, "residuals");
  const decide::StepOptions wanted = step_options();
  const decide::StepEvidence evidence(s.spectrum, modes, s.rho, wanted.noise);
  const decide::StepPosterior posterior = decide::step_posterior(evidence, steps, wanted.prior);

  const decide::LeaveOneOut left_out =
      decide::leave_one_out_descent(kernel, s.spectrum, residuals, s.rho, steps, outputs->outputs(), cancel);
  const decide::Matrix64 log_p = label_log_p(left_out.errors);
  for (size_t t = 0; t < steps.size(); ++t) {
    double loss = 0;
    for (const double l : log_p.row(t)) loss -= l / std::log(2.0);
    s.losses.push_back(loss / static_cast<double>(log_p.cols));
  }
  switch (options.steps) {
    case Steps::evidence:
    case Steps::profiled: s.trusted = point_mass(steps.size(), posterior.best); break;
    case Steps::loo: s.trusted = point_mass(steps.size(), left_out.best); break;
    case Steps::fixed: s.trusted = point_mass(steps.size(), options.fixed_steps); break;
    case Steps::gibbs: s.trusted = posterior.weights; break;
  }
  for (size_t t = 0; t < steps.size(); ++t) s.mean_steps += steps[t] * s.trusted[t];
  s.weights = weigh_steps(s.trusted, log_p, options.floor);
  const std::vector<double> filter = trusted_filter(s, steps);
  std::vector<double> filtered(modes.size());
  for (size_t i = 0; i < modes.size(); ++i) filtered[i] = filter[i] * modes[i];
  s.update_weights = s.spectrum.combination(filtered);
  return latest.emplace(std::move(s));
}

QueryReading FewShot::Impl::read_with_gradients(const std::vector<Token>& prompt, FewShotReport& report,
                                                const Watch& watch) {
  const size_t each = outputs->outputs(), m = rows();
  QueryReading reading;
  std::vector<Matrix> rows_of_query, own;
  {
    const Stopwatch watching(report.seconds, "query");
    const LowerLayers read_lower = [&](std::span<const Sequence> batch) { return lower->read(batch, watch.cancel); };
    for (const Matrix& of_block : gradients) own.push_back(Matrix::uninitialized(each, of_block.cols()));
    reading.base = read_labels(*model, *outputs, {&prompt, 1}, nullptr, read_lower, blocks, own, 0, watch.cancel);
    rows_of_query = query_rows(gradients, own);
  }
  const std::vector<double> direction = decisive_direction(*outputs, reading.base.log_p.row(0));
  std::vector<size_t> chosen;
  {
    const Stopwatch watching(report.seconds, "blocks");
    Matrix along(blocks.size(), m);
    for (size_t b = 0; b < blocks.size(); ++b)
      for (size_t o = 0; o < each; ++o)
        for (size_t i = 0; i < m; ++i) along.row(b)[i] += static_cast<float>(direction[o]) * rows_of_query[b].row(o)[i];
    const BlockCandidates candidates{blocks,    {kernels, along},     *full,
                                     residuals, signal.lambda_star(), squared_length(own, direction)};
    report.blocks = choose_blocks(candidates, options, watch.cancel);
    for (size_t b = 0; b < blocks.size(); ++b)
      if (report.blocks[b].chosen) chosen.push_back(b);
  }
  const Stopwatch watching(report.seconds, "decide");
  const StepsOfBlocks& s = steps_of(chosen, watch.cancel);
  const std::vector<double> filter = trusted_filter(s, steps);
  report.outputs_along_steps.assign(steps.size(), std::vector<double>(each));
  for (size_t o = 0; o < each; ++o) {
    std::vector<double> k(m);
    for (const size_t b : chosen)
      for (size_t i = 0; i < m; ++i) k[i] += static_cast<double>(rows_of_query[b].row(o)[i]);
    const decide::StepDecision& decision =
        report.decisions.emplace_back(decide::decide_steps(s.spectrum, residuals, k, step_options()));
    const decide::BayesGap gap = decide::bayes_gap(s.spectrum, decision.query, decision.signal, filter);
    report.risk_adapted += gap.adapted;
    report.risk_base += gap.base;
    reading.linearised.push_back(reading.base.outputs(0, o) +
                                 decide::correction(filter, decision.query, decision.residuals));
    for (size_t t = 0; t < steps.size(); ++t)
      report.outputs_along_steps[t][o] =
          reading.base.outputs(0, o) +
          decide::correction(decide::descent_filter(s.spectrum, s.rho, steps[t]), decision.query, decision.residuals);
  }
  return reading;
}

std::vector<Token> FewShot::Impl::prompt_with(std::string_view query) const {
  std::vector<Token> prompt =
      leave_one_out_prompts(start, examples, prompt_template.input(model->tokenizer(), query)).front();
  prompt.insert(prompt.end(), common.begin(), common.end());
  check_length(prompt, "the prompt of examples and query");
  return prompt;
}

void FewShot::Impl::read_with_weights(const std::vector<Token>& prompt, std::span<const size_t> chosen,
                                      FewShotReport& report, const Watch& watch) {
  const auto outputs_with = [&](const Adapter& adapter) {
    const LowerLayers read_lower = [&](std::span<const Sequence> batch) { return lower->read(batch, watch.cancel); };
    const LabelReadings found =
        read_labels(*model, *outputs, {&prompt, 1}, &adapter, read_lower, blocks, {}, 0, watch.cancel);
    return std::vector<double>(found.outputs.values);
  };
  if (options.exact_update) {
    const Stopwatch watching(report.seconds, "update");
    report.updated = outputs_with(update());
  }
  if (options.descent) {
    const Stopwatch watching(report.seconds, "descent");
    std::vector<BlockId> adapting;
    adapting.reserve(chosen.size());
    for (const size_t b : chosen) adapting.push_back(blocks[b]);
    std::vector<double> targets = residuals;
    for (size_t i = 0; i < targets.size(); ++i) targets[i] += read.outputs.values[i];
    report.descended = outputs_with(descend(*model, *outputs, prompts, targets, adapting, latest->rho,
                                            static_cast<size_t>(std::lround(latest->mean_steps)), watch));
  }
}

void FewShot::Impl::mix(const LabelReadings& base, const std::vector<double>& adapted, FewShotAnswer& answer) const {
  // Experts: T = 0 and every T > 0, or with updated weights those alone in place of every T > 0.
  const FewShotReport& report = answer.report;
  std::vector<std::pair<double, std::vector<double>>> experts;
  if (options.exact_update) {
    experts = {{report.weights[0], base.outputs.values}, {1 - report.weights[0], adapted}};
  } else {
    for (size_t t = 0; t < steps.size(); ++t)
      experts.emplace_back(report.weights[t], t == 0 ? base.outputs.values : report.outputs_along_steps[t]);
  }
  if (options.task == FewShotOptions::Task::regression) {
    answer.in_context_value = base.outputs(0, 0);
    answer.adapted_value = adapted[0];
    for (const auto& [weight, f] : experts) answer.value += weight * f[0];
    for (const double r : residuals) answer.deviation += r * r / static_cast<double>(rows());
    answer.deviation = std::sqrt(answer.deviation);
    answer.label = fmt::format("{:.6g}", answer.value);
    return;
  }
  const std::vector<double> adapted_log_p = outputs->log_probabilities(adapted);
  for (size_t c = 0; c < labels.size(); ++c)
    answer.classes.push_back({labels[c], std::exp(base.log_p(0, c)), std::exp(adapted_log_p[c]), 0});
  for (size_t e = 0; e < experts.size(); ++e) {
    const std::vector<double> log_p = outputs->log_probabilities(experts[e].second);
    for (size_t c = 0; c < labels.size(); ++c)
      answer.classes[c].answer += experts[e].first * (e == 0 ? answer.classes[c].in_context : std::exp(log_p[c]));
  }
  answer.label = std::ranges::max_element(answer.classes, {}, &ClassProbability::answer)->label;
}

FewShotAnswer FewShot::Impl::answer(std::string_view query, const Watch& watch) {
  FewShotAnswer result;
  FewShotReport& report = result.report;
  const std::vector<Token> prompt = prompt_with(query);
  const bool by_tangents = options.query_pass == FewShotOptions::QueryPass::tangent;
  const auto [base, linearised] =
      by_tangents ? read_with_tangents(prompt, report, watch) : read_with_gradients(prompt, report, watch);
  std::vector<size_t> chosen;
  for (size_t b = 0; b < blocks.size(); ++b)
    if (report.blocks[b].chosen) chosen.push_back(b);
  const StepsOfBlocks& s = steps_of(chosen, watch.cancel);
  report.trusted = s.trusted;
  report.filter = trusted_filter(s, steps);
  report.leave_one_out_losses = s.losses;
  report.weights = s.weights;
  report.eigenvalues.assign(s.spectrum.eigenvalues().begin(), s.spectrum.eigenvalues().end());
  report.steps = s.mean_steps;
  report.examples = label_of.size();
  report.outputs = outputs->outputs();
  report.target_scale = scale;
  report.residuals = residuals;
  const bool worth =
      by_tangents ? report.decisions.front().signal.signal_variance > 0 : report.risk_adapted < report.risk_base;
  report.adapt = worth && report.trusted[0] < 1;
  report.bound_bits = -std::log2(options.floor);
  report.base_hash = model->base_hash();

  if (options.exact_update || options.descent) {
    report.linearised = linearised;
    read_with_weights(prompt, chosen, report, watch);
  }
  mix(base, options.exact_update ? report.updated : linearised, result);
  return result;
}

std::vector<double> FewShotAnswer::prediction_along_steps(size_t t) const {
  const std::vector<double>& f = report.outputs_along_steps.at(t);
  if (classes.empty()) return f;
  std::vector<double> p = LabelOutputs::contrasts(std::vector<std::vector<Token>>(classes.size())).log_probabilities(f);
  for (double& each : p) each = std::exp(each);
  return p;
}

}  // namespace hone
