// Queries over the same examples and blocks by forward mode: what does not depend on the query is read once.
#include <algorithm>
#include <limits>

#include "adapt/block_choice.h"
#include "adapt/few_shot_state.h"
#include "adapt/stopwatch.h"

namespace hone {

TangentState FewShot::Impl::tangent_state(std::span<const Token> prefix, const Watch& watch) {
  constexpr double tolerance = 1e-4, unknown = std::numeric_limits<double>::quiet_NaN();
  const Matrix no_query(blocks.size(), rows());
  std::vector<BlockChoice> choices =
      choose_blocks({blocks, {kernels, no_query}, *full, residuals, signal.lambda_star(), 0}, options, watch.cancel);
  std::vector<size_t> chosen;
  for (size_t b = 0; b < blocks.size(); ++b) {
    choices[b].query_aware = unknown;
    if (choices[b].chosen) chosen.push_back(b);
  }
  const StepsOfBlocks& s = steps_of(std::move(chosen), watch.cancel);
  decide::StepDecision decision =
      decide::decide_steps(s.spectrum, residuals, std::vector<double>(rows()), step_options());
  decision.query.clear();
  for (decide::StepChoice* choice : {&decision.map, &decision.mixture, &decision.real, &decision.bayes}) {
    choice->correction = unknown;
    choice->gap = {unknown, unknown};
  }
  StepDirections directions = step_directions(s.spectrum, decision.residuals, s.rho, steps, tolerance, watch.cancel);
  std::vector<Adapter> updates;
  for (const std::vector<double>& weights : directions.vectors)
    updates.push_back(weighted_gradients(*model, blocks, s.blocks, gradients, weights));
  int first_layer = model->config().layers;
  for (const Adapter& update : updates) first_layer = std::min(first_layer, update.first_layer(first_layer));
  return {std::move(choices), std::move(directions), std::move(decision),
          TangentReader(*model, first_layer, prefix, std::move(updates), watch.cancel)};
}

QueryReading FewShot::Impl::read_with_tangents(const std::vector<Token>& prompt, FewShotReport& report,
                                               const Watch& watch) {
  if (!tangent) {
    const Stopwatch watching(report.seconds, "tangents");
    size_t shared = start.size();
    for (const Example& example : examples) shared += example.input.size() + example.label.size();
    tangent.emplace(tangent_state(std::span(prompt).first(shared - 1), watch));
  }
  const Stopwatch watching(report.seconds, "query");
  const std::span<const Token> tail = std::span(prompt).subspan(tangent->reader.prefix().size());
  auto [base, derivatives] = read_label_tangents(*model, *outputs, tail, tangent->reader, watch.cancel);
  report.blocks = tangent->blocks;
  report.risk_adapted = report.risk_base = std::numeric_limits<double>::quiet_NaN();
  const decide::Matrix64& coefficients = tangent->directions.coefficients;
  QueryReading reading{std::move(base), {}};
  report.outputs_along_steps.assign(steps.size(), std::vector<double>(outputs->outputs()));
  for (size_t o = 0; o < outputs->outputs(); ++o) {
    report.decisions.push_back(tangent->decision);
    double trusted = reading.base.outputs(0, o);
    for (size_t t = 0; t < steps.size(); ++t) {
      double correction = 0;
      for (size_t r = 0; r < coefficients.cols; ++r) correction += coefficients(t, r) * derivatives(o, r);
      report.outputs_along_steps[t][o] = reading.base.outputs(0, o) + correction;
      trusted += latest->trusted[t] * correction;
    }
    reading.linearised.push_back(trusted);
  }
  return reading;
}

}  // namespace hone
