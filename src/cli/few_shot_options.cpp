#include "cli/few_shot_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/rounding.h"
#include "cli/examples.h"
#include "cli/terminal_text.h"

namespace hone::cli {
namespace {

using Subspace = FewShotOptions::Subspace;
using Steps = FewShotOptions::Steps;

const std::vector<std::pair<std::string, Subspace>> subspaces = {
    {"all", Subspace::all},       {"query-aware", Subspace::query_aware},
    {"greedy", Subspace::greedy}, {"exact", Subspace::exact},
    {"trace", Subspace::trace},   {"last-layer", Subspace::last_layer},
    {"random", Subspace::random}};

std::vector<std::string> subspace_names() {
  std::vector<std::string> names;
  names.reserve(std::size(subspaces));
  for (const auto& [name, value] : subspaces) names.push_back(name);
  return names;
}

// An int unless it is one of the words.
std::optional<size_t> whole_number(const std::string& text) {
  size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string check_steps(const std::string& text) {
  const auto words = {"evidence", "profiled", "gibbs", "loo", "pooled"};
  if (whole_number(text).value_or(FewShotOptions::most_steps + 1) <= FewShotOptions::most_steps) return {};
  if (std::ranges::find(words, text) != std::end(words)) return {};
  return fmt::format("give evidence, profiled, gibbs, loo, pooled or a number of steps, at most {}",
                     FewShotOptions::most_steps);
}

// Whether --blocks names blocks, rather than kinds of them in the last layers.
bool names_blocks(const std::string& text) { return text != "v" && text != "vo" && text != "all"; }

void set_blocks(FewShotOptions& options, const std::string& text) {
  if (text == "v") options.matrices = {MatrixKind::v};
  if (text == "vo") options.matrices = {MatrixKind::v, MatrixKind::o};
  if (text == "all") options.matrices = {};
  if (!names_blocks(text)) return;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    options.blocks.push_back(block_named(text.substr(at, end - at)));
    at = end + 1;
  }
}

void set_steps(FewShotOptions& options, const std::string& text) {
  if (const auto number = whole_number(text)) {
    options.steps = Steps::fixed;
    options.fixed_steps = *number;
  }
  if (text == "evidence") options.steps = Steps::evidence;
  if (text == "profiled") options.steps = Steps::profiled;
  if (text == "gibbs" || text == "pooled") options.steps = Steps::gibbs;
  if (text == "loo") options.steps = Steps::loo;
}

// NaN and infinities have no JSON.
nlohmann::json number_json(double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(); }

nlohmann::json certificate_json(const std::optional<decide::Certificate>& certificate) {
  if (!certificate) return nullptr;
  return {{"score", certificate->score}, {"slack", certificate->slack},     {"bound", certificate->bound},
          {"delta", certificate->delta}, {"vacuous", certificate->vacuous}, {"assumed", certificate->assumed}};
}

}  // namespace

void FewShotArguments::add_to(Command command) {
  model.add_to(command);
  command.option("--examples", examples, "CSV or TSV with columns input and label, or JSONL of such objects")
      .required();
  command.option("--labels", options.labels, "All labels, between commas (default: the examples' own)")
      .delimiter(',')
      .one_value_each();
  command.flag("--regression", regression, "Labels are numbers; answer with their expected value");
  command.option("--template", options.prompt_template, R"(How an example is written; \n is an end of line)")
      .transform([](const std::string& text) {
        std::string result;
        for (size_t i = 0; i < text.size(); ++i) {
          const bool escaped = text.compare(i, 2, "\\n") == 0;
          result += escaped ? '\n' : text[i];
          i += escaped ? 1 : 0;
        }
        return result;
      })
      .default_text(R"({input} -> {label}\n)");
  command.option("--layers", layers, "The last so many layers adapt")
      .positive()
      .default_text(fmt::format("{}", options.layers));
  command.option("--blocks", blocks, "v (by heads), vo, all, or names such as L27.v.h2,L29.q").shows_default();
  command.option("--subspace", subspace, "How --budget blocks are chosen").one_of(subspace_names()).shows_default();
  command.option("--budget", options.budget, "How many blocks adapt (with --subspace)");
  command.option("--steps", steps, "How far: evidence, profiled, gibbs, loo, pooled or a number of steps")
      .check(check_steps)
      .shows_default();
  command
      .option("--earlier", earlier, "Examples of an earlier prompt, which teach --steps pooled its prior (repeatable)")
      .one_value_each();
  command.option("--c", options.step, "Step size c/λ_max, 0 < c < 1").shows_default();
  command.option("--max-steps", options.max_steps, "The most steps")
      .in_range(0, FewShotOptions::most_steps)
      .shows_default();
  command.option("--floor", options.floor, "Every answer keeps so much of the in-context probability").shows_default();
  command.option("--seed", options.seed, "Of --subspace random").shows_default();
  command.flag("--exact-update", options.exact_update, "Answer with updated weights, not the linearised prediction");
  command.flag("--descent", options.descent, "Also run gradient descent itself; its outputs stand beside the others");
  command.flag("--json", json, "Print one JSON object");
}

void FewShotArguments::check() const {
  if (layers && names_blocks(blocks)) refuse_usage("--layers excludes --blocks with names, which say their layers");
  if ((steps == "pooled") != !earlier.empty())
    refuse_usage("--steps pooled and --earlier FILE need each other: earlier prompts teach the prior");
}

FewShot few_shot_of(const std::filesystem::path& file, const std::shared_ptr<const Model>& model,
                    std::span<const LabelledText> examples, FewShotOptions options, const Watch& watch) {
  check_few_shot_options(*model, options);
  try {
    return FewShot(model, examples, std::move(options), watch);
  } catch (const Error& error) {
    if (error.code != ErrorCode::bad_input) throw;
    throw Error(error.code, fmt::format("'{}': {}", file.string(), error.message));
  }
}

FewShotOptions FewShotArguments::options_for(const std::shared_ptr<const Model>& opened, const Watch& watch) const {
  FewShotOptions result = options;
  result.layers = layers.value_or(options.layers);
  if (regression) result.task = FewShotOptions::Task::regression;
  set_blocks(result, blocks);
  set_steps(result, steps);
  result.subspace = std::ranges::find(subspaces, subspace, &std::pair<std::string, Subspace>::first)->second;
  if (earlier.empty()) return result;
  FewShotOptions of_earlier = result;
  of_earlier.budget = 0;
  of_earlier.subspace = Subspace::all;
  decide::StepPrior prior(std::vector<double>(result.max_steps + 1, 1.0));
  const auto is_named = [&](const LabelledText& example) {
    return std::ranges::find(result.labels, example.label) != result.labels.end();
  };
  for (const std::filesystem::path& file : earlier) {
    const std::vector<LabelledText> taught = read_examples(file);
    of_earlier.labels = std::ranges::all_of(taught, is_named) ? result.labels : std::vector<std::string>();
    const FewShot prompt = few_shot_of(file, opened, taught, of_earlier, watch);
    prior.observe(prompt.step_scores(), prompt.observations());
  }
  result.step_prior = prior.prior();
  return result;
}

nlohmann::json boundary_name(decide::SignalBoundary boundary) {
  switch (boundary) {
    case decide::SignalBoundary::no_signal: return "no signal";
    case decide::SignalBoundary::no_noise: return "no noise";
    case decide::SignalBoundary::none: break;
  }
  return nullptr;
}

nlohmann::json answer_json(const std::string& query, const FewShotAnswer& answer) {
  const FewShotReport& report = answer.report;
  const decide::StepDecision& decision = report.decisions.front();
  nlohmann::json result = {{"query", query}, {"label", answer.label}};
  if (answer.classes.empty()) {
    result["value"] = answer.value;
    result["in_context_value"] = answer.in_context_value;
    result["adapted_value"] = answer.adapted_value;
    result["deviation"] = answer.deviation;
  } else {
    nlohmann::json& classes = result["classes"] = nlohmann::json::array();
    for (const auto& [label, in_context, adapted, mixed] : answer.classes)
      classes.push_back({{"label", label}, {"probability", mixed}, {"in_context", in_context}, {"adapted", adapted}});
  }
  nlohmann::json blocks = nlohmann::json::array(), alignment = nlohmann::json::array();
  for (const auto& [id, trace, query_aware, chosen] : report.blocks)
    blocks.push_back(
        {{"block", name(id)}, {"trace", trace}, {"query_aware", number_json(query_aware)}, {"chosen", chosen}});
  for (const decide::StepDecision& of_output : report.decisions) alignment.push_back(of_output.query);
  nlohmann::json& hone = result["hone"];
  hone = {{"adapt", report.adapt},
          {"examples", report.examples},
          {"outputs", report.outputs},
          {"target_scale", report.target_scale},
          {"rho", decision.rho},
          {"steps", decision.posterior.steps},
          {"evidence", decision.posterior.scores},
          {"prior", decision.posterior.prior},
          {"posterior", decision.posterior.weights},
          {"map_steps", decision.posterior.map_steps()},
          {"real_steps", decision.real_steps},
          {"trusted", report.trusted},
          {"trusted_steps", report.steps},
          {"filter", report.filter},
          {"leave_one_out_losses", report.leave_one_out_losses},
          {"weights", report.weights},
          {"floor_bound_bits", report.bound_bits},
          {"risk_adapted", number_json(report.risk_adapted)},
          {"risk_base", number_json(report.risk_base)},
          {"signal_variance", decision.signal.signal_variance},
          {"noise_variance", decision.signal.noise_variance},
          {"lambda_star", number_json(decision.signal.lambda_star())},
          {"signal_boundary", boundary_name(decision.signal.boundary)},
          {"residuals", report.residuals},
          {"eigenvalues", report.eigenvalues},
          {"residual_modes", decision.residuals},
          {"query_modes", alignment},
          {"outputs_along_steps", report.outputs_along_steps},
          {"blocks", blocks},
          {"map_certificate", certificate_json(decision.map_certificate)},
          {"mixture_certificate", certificate_json(decision.mixture_certificate)},
          {"seconds", seconds_json(report.seconds)},
          {"base_hash", report.base_hash}};
  if (!report.linearised.empty()) hone["linearised"] = report.linearised;
  if (!report.updated.empty()) hone["updated"] = report.updated;
  if (!report.descended.empty()) hone["descended"] = report.descended;
  return result;
}

std::string decision_sentence(const FewShotAnswer& answer) {
  const FewShotReport& report = answer.report;
  const auto chosen = std::ranges::count(report.blocks, true, &BlockChoice::chosen);
  const decide::Signal& signal = report.decisions.front().signal;
  std::string reason =
      fmt::format("expected excess risk {:.3g} adapted, {:.3g} in-context", report.risk_adapted, report.risk_base);
  if (std::isnan(report.risk_adapted)) reason = "the leave-one-out residuals show a signal";
  if (signal.boundary == decide::SignalBoundary::no_noise) reason += ", without noise: λ* is at its lower end";
  if (signal.signal_variance == 0) reason = "the leave-one-out residuals look like noise alone";
  const std::string how_far =
      fmt::format("{:.1f} of at most {:g} steps on {} of {} blocks", report.steps,
                  report.decisions.front().posterior.steps.back(), chosen, report.blocks.size());
  std::string outcome;
  if (answer.classes.empty()) {
    outcome = fmt::format("{:.4g} becomes {:.4g}", answer.in_context_value, answer.value);
  } else {
    const ClassProbability& best = *std::ranges::find(answer.classes, answer.label, &ClassProbability::label);
    outcome = fmt::format("'{}' goes from {:.2f} to {:.2f}", one_line(best.label, 40), best.in_context, best.answer);
  }
  return fmt::format(
      "{}: {} ({}). Adapted predictions weigh {:.2f} after the leave-one-out labels: {}, at most {} "
      "bits worse than in-context whatever is true.",
      report.adapt ? "Adapt" : "The theory advises against adapting", how_far, reason, 1 - report.weights[0], outcome,
      rounded_up(report.bound_bits, 2));
}

}  // namespace hone::cli
