#include "lab/step_rules.h"

#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "hone/selectors.h"
#include "hone/steps.h"
#include "lab/stream_rules.h"

namespace hone::lab {

StepTask::StepTask(decide::Matrix64 k, std::span<const double> k_x, std::vector<double> r, double in_context,
                   double truth)
    : kernel(std::move(k)),
      residuals(std::move(r)),
      base(in_context),
      target(truth),
      spectrum(kernel),
      coordinates(spectrum.coordinates(residuals, "residuals")),
      query(spectrum.coordinates(k_x, "query")) {}

double StepTask::prediction(double c, double steps) const {
  const double rho = decide::step_size(spectrum, c);
  return base + decide::correction(decide::descent_filter(spectrum, rho, steps), query, coordinates);
}

std::vector<double> RuleResult::squared_errors(std::span<const StepTask> tasks) const {
  std::vector<double> errors;
  for (size_t i = 0; i < tasks.size(); ++i) errors.push_back(std::pow(predictions[i] - tasks[i].target, 2));
  return errors;
}

std::vector<double> published_steps() { return decide::whole_steps(30); }

std::vector<double> wide_steps() {
  constexpr double last = 300;
  std::vector<double> steps = published_steps();
  while (steps.back() < last) steps.push_back(std::min(last, std::round(steps.back() * 1.1)));
  return steps;
}

std::vector<std::vector<double>> fixed_step_predictions(std::span<const StepTask> tasks, double c,
                                                        std::span<const double> steps) {
  std::vector<std::vector<double>> predictions(steps.size(), std::vector<double>(tasks.size()));
  parallel_for(tasks.size(), [&](size_t i) {
    for (size_t t = 0; t < steps.size(); ++t) predictions[t][i] = tasks[i].prediction(c, steps[t]);
  });
  return predictions;
}

namespace {

constexpr const char* gibbs_name = "Gibbs, MLE";
constexpr const char* left_out_name = "leave-one-out mixture";

// A rule that sees one task only.
template <class Rule>
RuleResult each(const RuleStream& stream, std::string name, bool published, const Rule& rule) {
  RuleResult result{std::move(name), Sees::prompt, published, {}, {}};
  for (const PreparedTask& task : stream.prepared) {
    const Choice choice = rule(task);
    result.predictions.push_back(choice.prediction);
    result.steps.push_back(choice.steps);
  }
  return result;
}

// P(T) ∝ p^T up to the grid's end; a point of the grid stands for all T that are nearest to it.
Choice geometric(const RuleStream& stream, const PreparedTask& task) {
  if (task.rho == 0 || std::isinf(task.lambda_star)) return {task.predictions[0], 0};
  const std::vector<double>& steps = stream.steps;
  const double log_keep = -std::log1p(task.rho * task.lambda_star);
  std::vector<double> losses;
  for (size_t t = 0; t < steps.size(); ++t) {
    const double below = t == 0 ? steps[0] : steps[t - 1], above = t + 1 == steps.size() ? steps[t] : steps[t + 1];
    losses.push_back(task.mle[t] - log_keep * steps[t] - std::log(std::max((above - below) / 2, 1.0)));
  }
  return mixture(stream, task, losses, losses.size());
}

// Weights of T ∝ (leave-one-out error)^{−n/2}.
Choice left_out_mixture(const RuleStream& stream, const PreparedTask& task) {
  std::vector<double> losses;
  for (const double error : task.left_out)
    losses.push_back(static_cast<double>(stream.examples()) / 2 * std::log(std::max(error, tiny)));
  return mixture(stream, task, losses, losses.size());
}

std::vector<RuleResult> prompt_rules(const RuleStream& stream) {
  using Task = const PreparedTask&;
  const size_t upto_30 = published_steps().size(), all = stream.steps.size();
  const auto rule = [&](std::string name, bool published, const auto& choice) {
    return each(stream, std::move(name), published, choice);
  };
  std::vector<RuleResult> rules;
  rules.push_back(rule("in context", true, [](Task t) { return Choice{t.predictions[0], 0}; }));
  rules.push_back(rule("T = 8", true, [](Task t) { return Choice{t.predictions[8], 8}; }));
  rules.push_back(rule("evidence, fixed σ", true, [&](Task t) { return least(stream, t, t.fixed, upto_30); }));
  rules.push_back(rule("evidence, MLE", true, [&](Task t) { return least(stream, t, t.mle, upto_30); }));
  rules.push_back(rule("T = 30", false, [](Task t) { return Choice{t.predictions[30], 30}; }));
  rules.push_back(rule("Gibbs to 30, fixed σ", false, [&](Task t) { return mixture(stream, t, t.fixed, upto_30); }));
  rules.push_back(rule("Gibbs to 30, MLE", false, [&](Task t) { return mixture(stream, t, t.mle, upto_30); }));
  rules.push_back(rule("leave-one-out to 30", false, [&](Task t) { return least(stream, t, t.left_out, upto_30); }));
  rules.push_back(rule(gibbs_name, false, [&](Task t) { return mixture(stream, t, t.mle, all); }));
  rules.push_back(rule("Gibbs, geometric prior", false, [&](Task t) { return geometric(stream, t); }));
  rules.push_back(rule("real T, fixed σ", false, [](Task t) { return t.real_fixed; }));
  rules.push_back(rule("real T, MLE", false, [](Task t) { return t.real_mle; }));
  rules.push_back(rule("Bayes filter", false, [](Task t) { return Choice{t.bayes, 0}; }));
  rules.back().steps.clear();
  rules.push_back(rule("leave-one-out", false, [&](Task t) { return least(stream, t, t.left_out, all); }));
  rules.push_back(rule(left_out_name, false, [&](Task t) { return left_out_mixture(stream, t); }));
  return rules;
}

// The mean of what some rules predict.
RuleResult mean_of(std::string name, Sees sees, std::initializer_list<const RuleResult*> rules) {
  RuleResult result{std::move(name), sees, false, {}, {}};
  result.predictions.resize((*rules.begin())->predictions.size());
  for (const RuleResult* rule : rules)
    for (size_t i = 0; i < result.predictions.size(); ++i)
      result.predictions[i] += rule->predictions[i] / static_cast<double>(rules.size());
  return result;
}

void add_stream_rules(const RuleStream& stream, std::vector<RuleResult>& rules) {
  const RuleResult left_out = *std::ranges::find(rules, left_out_name, &RuleResult::name);
  const RuleResult gibbs = *std::ranges::find(rules, gibbs_name, &RuleResult::name);
  const auto [signal, log_noise] = pooled_signal(stream);
  const RuleResult soft_best = soft_best_so_far(stream, log_noise);
  rules.push_back(pooled_prior(stream));
  rules.push_back(pooled_bayes_filter(stream));
  rules.push_back(pooled_left_out(stream, "pooled leave-one-out", false));
  rules.push_back(pooled_left_out(stream, "pooled leave-one-out, alike", true));
  rules.push_back(signal);
  rules.push_back(mean_of("mean of two", Sees::stream, {&left_out, &signal}));
  rules.push_back(best_so_far(stream, "best T so far", false));
  rules.push_back(best_so_far(stream, "best T so far, alike", true));
  constexpr double few_some_many[] = {2, 20, 200};
  std::vector<std::vector<double>> predictors = fixed_step_predictions(stream.tasks, stream.c, few_some_many);
  rules.push_back(stacked(stream, "stacked steps", predictors));
  for (const RuleResult* rule : {&gibbs, &left_out, &signal}) predictors.push_back(rule->predictions);
  const RuleResult stacked_rules = stacked(stream, "stacked rules", predictors);
  rules.push_back(stacked_rules);
  rules.push_back(soft_best);
  rules.push_back(mean_of("mean of three", Sees::truths, {&left_out, &signal, &soft_best}));
  rules.push_back(mean_of("stacked and Gibbs", Sees::truths, {&stacked_rules, &stacked_rules, &gibbs}));
}

// The first of the rules, which has half of the prior, is the one that the bound is against.
RuleResult online_mixture(std::string name, const RuleStream& stream, std::span<const RuleResult> rules) {
  std::vector<double> prior(rules.size(), 0.5 / static_cast<double>(rules.size() - 1));
  prior[0] = 0.5;
  decide::SelectorMixture mixture(prior, 0, 1);
  RuleResult result{std::move(name), Sees::truths, false, {}, {}};
  for (size_t i = 0; i < stream.tasks.size(); ++i) {
    std::vector<double> said;
    for (const RuleResult& rule : rules) said.push_back(rule.predictions[i]);
    result.predictions.push_back(mixture.predict(said));
    mixture.observe(said, stream.tasks[i].target);
  }
  return result;
}

}  // namespace

std::vector<RuleResult> apply_step_rules(std::span<const StepTask> tasks, double c, Answers answers) {
  if (tasks.empty()) throw Error(ErrorCode::bad_input, "step rules: there are no tasks");
  for (const StepTask& task : tasks)
    if (task.residuals.size() != tasks.front().residuals.size())
      throw Error(ErrorCode::bad_input, "step rules: tasks of a stream need the same number of examples");
  const RuleStream stream(tasks, c);
  std::vector<RuleResult> rules = prompt_rules(stream);
  add_stream_rules(stream, rules);
  if (answers == Answers::unbounded) return rules;
  const RuleResult not_adapting_or_stacked[] = {rules.front(), rules.back()};
  rules.push_back(online_mixture("online mixture", stream, rules));
  rules.push_back(online_mixture("stacked and Gibbs, bounded", stream, not_adapting_or_stacked));
  return rules;
}

double online_mixture_bound(size_t tasks) { return decide::SelectorMixture({0.5, 0.5}, 0, 1).bound(tasks); }

}  // namespace hone::lab
