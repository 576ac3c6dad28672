// What all queries over the same examples share: leave-one-out passes, gradients, Grams, the targets' scale, evidence.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "adapt/few_shot_mixture.h"
#include "adapt/few_shot_state.h"
#include "adapt/stopwatch.h"
#include "model/gemm.h"

namespace hone {
namespace {

std::vector<BlockId> candidate_blocks(const Model& model, const FewShotOptions& options) {
  if (!options.blocks.empty()) return options.blocks;
  if (options.layers < 1)
    throw Error(ErrorCode::bad_input, fmt::format("{} layers cannot adapt; give at least 1", options.layers));
  return blocks_of(model, std::max(0, model.config().layers - options.layers), options.matrices);
}

void check_step_count(std::string_view what, size_t steps) {
  if (steps > FewShotOptions::most_steps)
    throw Error(ErrorCode::bad_input,
                fmt::format("{} is {}; at most {} steps are decided on", what, steps, FewShotOptions::most_steps));
}

// The same options.
FewShotOptions checked(FewShotOptions options) {
  check_step_count("max_steps", options.max_steps);
  if (options.steps == FewShotOptions::Steps::fixed) check_step_count("fixed_steps", options.fixed_steps);
  if (!(options.delta > 0 && options.delta < 1))
    throw Error(ErrorCode::bad_input, fmt::format("delta {} is not between 0 and 1", options.delta));
  if (!(options.floor > 0 && options.floor < 1))
    throw Error(ErrorCode::bad_input, fmt::format("floor {} is not between 0 and 1", options.floor));
  if (!(options.step > 0 && options.step < 1))
    throw Error(
        ErrorCode::bad_input,
        fmt::format("step c = {} is not between 0 and 1: ρ = c/λ_max would be too large for gradient descent to "
                    "converge",
                    options.step));
  if (chosen_by_query(options.subspace) && options.query_pass == FewShotOptions::QueryPass::tangent)
    throw Error(ErrorCode::bad_input, "blocks chosen by the query need its gradient, not tangents");
  if ((options.budget > 0) == (options.subspace == FewShotOptions::Subspace::all))
    throw Error(ErrorCode::bad_input, options.budget > 0
                                          ? "a budget of blocks needs a rule that chooses them; all blocks have none"
                                          : "a rule that chooses blocks needs a budget of at least one block");
  if (options.labels.size() == 1)
    throw Error(ErrorCode::bad_input,
                fmt::format("'{}' is the only label that is named; name all there are", options.labels[0]));
  if (options.task == FewShotOptions::Task::regression)
    for (const std::string& label : options.labels) number_of(label);
  return options;
}

std::vector<double> step_grid(const FewShotOptions& options) {
  const bool fixed = options.steps == FewShotOptions::Steps::fixed;
  return decide::whole_steps(fixed ? std::max(options.max_steps, options.fixed_steps) : options.max_steps);
}

LabelTokens tell_apart(std::span<const std::string> labels, const PromptTemplate& prompt_template,
                       const Tokenizer& tokenizer) {
  std::vector<std::vector<Token>> tokens;
  for (const std::string& label : labels) tokens.push_back(prompt_template.label(tokenizer, label));
  return distinguishing_tokens(labels, std::move(tokens), prompt_template.after(tokenizer));
}

// Sequences that the gradient pass over one prompt has.
size_t sequences_of(const LabelOutputs& labels) { return labels.one_position() ? labels.outputs() : labels.classes(); }

}  // namespace

void check_few_shot_options(const Model& model, const FewShotOptions& options) {
  const BlockGradientSink sink(model, candidate_blocks(model, checked(options)));  // refuses blocks that are none
  const PromptTemplate prompt_template(options.prompt_template);
  if (!options.labels.empty()) tell_apart(options.labels, prompt_template, model.tokenizer());
}

bool chosen_by_query(FewShotOptions::Subspace subspace) {
  using Subspace = FewShotOptions::Subspace;
  return subspace == Subspace::query_aware || subspace == Subspace::greedy || subspace == Subspace::exact;
}

void for_each_pass(const LabelOutputs& labels, std::span<const std::vector<Token>> prompts,
                   const std::function<void(size_t, size_t)>& body) {
  constexpr size_t most_rows = 4096;  // of gradients
  for (size_t first = 0, count = 0; first < prompts.size(); first += count) {
    size_t rows = 0;
    for (count = 0; first + count < prompts.size(); ++count) {
      rows += prompts[first + count].size() * sequences_of(labels);
      if (count > 0 && rows > most_rows) break;
    }
    body(first, count);
  }
}

FewShot::Impl::Impl(std::shared_ptr<const Model> shared_model, std::span<const LabelledText> texts,
                    FewShotOptions wanted, const Watch& watch)
    : model(std::move(shared_model)),
      options(checked(std::move(wanted))),
      blocks(candidate_blocks(*model, options)),
      prompt_template(options.prompt_template),
      start(model->encode("")),
      steps(step_grid(options)) {
  if (texts.empty()) throw Error(ErrorCode::bad_input, "there are no examples; give at least one input with its label");
  const bool regression = options.task == FewShotOptions::Task::regression;
  labels = options.labels.empty() ? labels_of(texts) : options.labels;
  const Tokenizer& tokenizer = model->tokenizer();
  const std::vector<Token> after = prompt_template.after(tokenizer);
  std::vector<std::vector<Token>> label_tokens;
  for (const std::string& label : labels) {
    if (regression) label_values.push_back(number_of(label));
    label_tokens.push_back(prompt_template.label(tokenizer, label));
  }
  LabelTokens told_apart = distinguishing_tokens(labels, label_tokens, after);
  common = std::move(told_apart.common);
  outputs = regression ? LabelOutputs::expected_value(std::move(told_apart.labels), label_values)
                       : LabelOutputs::contrasts(std::move(told_apart.labels));
  for (const auto& [input, label] : texts) {
    const auto found = std::ranges::find(labels, label);
    if (found == labels.end())
      throw Error(ErrorCode::bad_input, fmt::format("example {} has the label '{}', which is not one of the labels",
                                                    examples.size() + 1, label));
    label_of.push_back(static_cast<size_t>(found - labels.begin()));
    Example example{prompt_template.input(tokenizer, input), label_tokens[label_of.back()]};
    example.label.insert(example.label.end(), after.begin(), after.end());
    examples.push_back(std::move(example));
  }
  prompts = leave_one_out_prompts(start, examples, {});
  prompts.erase(prompts.begin());
  for (std::vector<Token>& prompt : prompts) {
    prompt.insert(prompt.end(), common.begin(), common.end());
    if (prompt.empty())
      throw Error(
          ErrorCode::bad_input,
          "the only example, without its label, has no tokens; give it an input, or begin the template with text");
    check_length(prompt, "the prompt of the examples");
  }
  if (const uint64_t bytes = gradient_bytes(*model, blocks, rows()); bytes > options.memory)
    throw Error(ErrorCode::unsupported,
                fmt::format("{} examples with {} outputs and {} blocks have {} MiB of gradients, more than the {} MiB "
                            "allowed; take fewer layers, blocks, labels or examples",
                            label_of.size(), outputs->outputs(), blocks.size(), bytes >> 20, options.memory >> 20));
  lower.emplace(*model, BlockGradientSink(*model, blocks).first_layer());
  read_examples(watch);
  const Stopwatch watching(seconds, "decide");
  decide_scale();
  residuals = residuals_at(scale);
  const std::vector<double> modes = full->coordinates(residuals, "residuals");
  const decide::Noise noise = step_options().noise;
  const decide::StepEvidence evidence(*full, modes, decide::step_size(*full, options.step), noise);
  for (const double t : steps) step_scores.push_back(evidence.score(t));
  signal = decide::fit_signal(*full, modes);
}

void FewShot::Impl::check_length(const std::vector<Token>& prompt, std::string_view what) const {
  size_t longest = 0;
  for (const std::vector<Token>& label : outputs->labels()) longest = std::max(longest, label.size());
  const auto context = static_cast<size_t>(model->config().context);
  if (prompt.size() + longest - 1 > context)
    throw Error(ErrorCode::bad_input,
                fmt::format("{} has {} tokens with a label, the model's context {}; give fewer or shorter ones", what,
                            prompt.size() + longest - 1, context));
}

void FewShot::Impl::read_examples(const Watch& watch) {
  const size_t m = rows(), each = outputs->outputs();
  {
    const Stopwatch watching(seconds, "examples");
    for (const BlockId id : blocks) {
      const BlockExtent e = extent(*model, id);
      gradients.push_back(Matrix::uninitialized(m, e.out * e.in));
    }
    const int first_layer = BlockGradientSink(*model, blocks).first_layer();
    const LowerLayers packed = [&](std::span<const Sequence> batch) {
      return model->forward(batch, 0, first_layer, model->embed(batch), nullptr, watch.cancel);
    };
    read = {decide::Matrix64(prompts.size(), outputs->classes()), decide::Matrix64(prompts.size(), each)};
    for_each_pass(*outputs, prompts, [&](size_t first, size_t count) {
      watch.report("examples", first, prompts.size());
      const LabelReadings some = read_labels(*model, *outputs, std::span(prompts).subspan(first, count), nullptr,
                                             packed, blocks, gradients, first * each, watch.cancel);
      std::ranges::copy(some.log_p.values, read.log_p.row(first).begin());
      std::ranges::copy(some.outputs.values, read.outputs.row(first).begin());
    });
  }
  const Stopwatch watching(seconds, "grams");
  kernels = Matrix::uninitialized(blocks.size(), m * m);
  for (size_t b = 0; b < blocks.size(); ++b) linear_forward(gradients[b], gradients[b], {kernels.row(b).data(), m, m});
  decide::Matrix64 sum(m, m);
  for (size_t b = 0; b < blocks.size(); ++b)
    for (size_t i = 0; i < m * m; ++i) sum.values[i] += static_cast<double>(kernels.row(b)[i]);
  full.emplace(sum);
}

std::vector<double> FewShot::Impl::residuals_at(double target_scale) const {
  std::vector<double> r;
  for (size_t i = 0; i < label_of.size(); ++i) {
    const std::vector<double> target = outputs->targets(label_of[i]);
    for (size_t o = 0; o < target.size(); ++o) r.push_back(target_scale * target[o] - read.outputs(i, o));
  }
  return r;
}

// The largest a^m Σ_T π(T) exp(−m ℓ_T(a)).
void FewShot::Impl::decide_scale() {
  if (options.task == FewShotOptions::Task::regression) return;
  double best = -std::numeric_limits<double>::infinity();
  const auto m = static_cast<double>(rows());
  for (const double a : {0.5, 1.0, 2.0, 4.0, 8.0}) {
    const decide::StepOptions wanted = step_options();
    const decide::StepEvidence evidence(*full, full->coordinates(residuals_at(a), "residuals"),
                                        decide::step_size(*full, options.step), wanted.noise);
    const decide::StepPosterior posterior = decide::step_posterior(evidence, steps, wanted.prior);
    const double least = posterior.scores[posterior.best];
    double sum = 0;
    for (size_t t = 0; t < steps.size(); ++t) sum += posterior.prior[t] * std::exp(m * (least - posterior.scores[t]));
    const double log_evidence = m * std::log(a) - m * least + std::log(sum);
    if (log_evidence > best) {
      best = log_evidence;
      scale = a;
    }
  }
}

decide::StepOptions FewShot::Impl::step_options() const {
  decide::StepOptions result{.step = options.step, .steps = steps, .delta = options.delta};
  if (options.steps == FewShotOptions::Steps::profiled) result.noise = decide::Noise::profiled;
  if (!options.step_prior.empty()) {
    if (options.step_prior.size() != steps.size())
      throw Error(ErrorCode::bad_input, fmt::format("a prior over {} numbers of steps for {}; give one of each",
                                                    options.step_prior.size(), steps.size()));
    result.prior = options.step_prior;
  }
  return result;
}

decide::Matrix64 FewShot::Impl::label_log_p(const decide::Matrix64& left_out_errors) const {
  const size_t n = label_of.size(), each = outputs->outputs();
  decide::Matrix64 log_p(left_out_errors.rows, n);
  double variance = 0;
  for (const double r : residuals) variance += r * r / static_cast<double>(residuals.size());
  for (size_t t = 0; t < log_p.rows; ++t)
    for (size_t i = 0; i < n; ++i) {
      std::vector<double> f(each);
      for (size_t o = 0, row = i * each; o < each; ++o, ++row)
        f[o] = read.outputs(i, o) + residuals[row] - left_out_errors(t, row);
      if (options.task == FewShotOptions::Task::classification)
        log_p(t, i) = outputs->log_probabilities(f)[label_of[i]];
      else if (variance > 0)  // of a Gaussian, without its constant, which all T share
        log_p(t, i) = -std::pow(label_values[label_of[i]] - f[0], 2) / (2 * variance);
    }
  return log_p;
}

FewShot::FewShot(std::shared_ptr<const Model> model, std::span<const LabelledText> examples, FewShotOptions options,
                 const Watch& watch)
    : impl_(std::make_unique<Impl>(std::move(model), examples, std::move(options), watch)) {}
FewShot::FewShot(FewShot&&) noexcept = default;
FewShot& FewShot::operator=(FewShot&&) noexcept = default;
FewShot::~FewShot() = default;

void FewShot::check_query(std::string_view query) const { impl_->prompt_with(query); }
FewShotAnswer FewShot::answer(std::string_view query, const Watch& watch) { return impl_->answer(query, watch); }
std::span<const double> FewShot::step_scores() const { return impl_->step_scores; }
size_t FewShot::observations() const { return impl_->rows(); }
const std::vector<std::string>& FewShot::labels() const { return impl_->labels; }
const StageSeconds& FewShot::seconds() const { return impl_->seconds; }

}  // namespace hone
