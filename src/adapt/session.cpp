#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>

#include "adapt/lesson.h"
#include "adapt/sampler.h"
#include "adapt/stopwatch.h"
#include "base/parallel.h"
#include "model/elementwise.h"

namespace hone {
namespace {

// The weight that an expert must have to take part in answering; the base always does.
constexpr double smallest_weight = 0.01;

// Whether each expert answers: the base, and the heaviest others.
std::vector<bool> answering(const std::vector<double>& weights, size_t others) {
  std::vector<size_t> order(weights.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order.begin() + 1, order.end(), std::greater(), [&](size_t e) { return weights[e]; });
  std::vector<bool> answers(weights.size());
  for (size_t k = 0; k <= std::min(others, order.size() - 1); ++k)
    answers[order[k]] = k == 0 || weights[order[k]] >= smallest_weight;
  return answers;
}

// A prior weight is positive, also of an expert that a block's evidence has ruled out.
constexpr double least_carried = 1e-200;

std::vector<double> log_probs_at(const Matrix& losses, size_t t) {
  std::vector<double> result(losses.rows());
  for (size_t e = 0; e < losses.rows(); ++e) result[e] = at_most_certain(-losses.row(e)[t]);
  return result;
}

void check_length(const Model& model, std::span<const Token> prompt, size_t following) {
  if (prompt.empty()) throw Error(ErrorCode::bad_input, "the prompt is empty; give at least one token");
  const auto context = static_cast<size_t>(model.config().context);
  if (following >= context || prompt.size() + model.encode("").size() > context - following)
    throw Error(
        ErrorCode::bad_input,
        fmt::format("a prompt of {} tokens and {} tokens to follow do not fit the model's context of {}; shorten "
                    "the prompt or ask for fewer (--max-tokens, in `hone eval` --continuation)",
                    prompt.size(), following, context));
}

// Draws tokens from `distribution` of the experts' log-probabilities [experts, V], the base's first, until the text
// ends. Every token that is part of it is shown to `learn` first.
void decode(const Model& model, ExpertPanel& panel, size_t max_tokens, Sampler& sampler, AnswerText& answer,
            const std::function<std::vector<float>(const Matrix&)>& distribution,
            const std::function<void(const Matrix&, Token)>& learn, Completion& completion, const Watch& watch) {
  const Tokenizer& tokenizer = model.tokenizer();
  for (size_t n = 0; n < max_tokens && !completion.stopped; ++n) {
    watch.report("answer", n, max_tokens);
    Matrix logits = panel.next_logits();
    parallel_for(logits.rows(), [&](size_t e) { normalize_logits(logits.row(e)); });
    if (!std::ranges::all_of(logits.row(0), [](float log_prob) { return std::isfinite(log_prob); }))
      throw Error(ErrorCode::corrupt,
                  fmt::format("{} gives token {} of the answer probabilities that are not finite; is the file damaged?",
                              model.name(), n));
    const Token token = sampler.next(distribution(logits));
    completion.stopped = tokenizer.ends_generation(token);
    if (completion.stopped) break;
    learn(logits, token);
    completion.tokens.push_back(token);
    completion.stopped = answer.add(tokenizer.piece(token));
    if (!completion.stopped && n + 1 < max_tokens) panel.read(std::span(&token, 1));
  }
  answer.finish();
  completion.text = answer.text();
}

// Bits that an answer can be longer than the base's at most. Weights that stay keep, at every token, the floor and what
// the rest gives the base; weights that learn have the mixture's own bound.
double answer_bound_bits(const decide::Mixture& mixture, const SessionOptions& options, double base_weight,
                         size_t tokens) {
  if (tokens == 0) return 0;
  if (options.learn_from_answer) return mixture.bound_bits(tokens);
  return static_cast<double>(tokens) * std::log2(1 / (options.floor + (1 - options.floor) * base_weight));
}

double tokens_per_second(const Completion& completion, double seconds) {
  return seconds > 0 ? static_cast<double>(completion.tokens.size()) / seconds : 0;
}

std::vector<double> normalized(std::vector<double> weights) {
  double total = 0;
  for (const double w : weights) total += w;
  for (double& w : weights) w /= total;
  return weights;
}

}  // namespace

struct Session::Impl {
  std::shared_ptr<const Model> model;
  const Store* store;
  SessionOptions options;
  CorpusStatistics statistics;

  // The experts of the whole prompt, having read it, and the weights that its blocks earned.
  struct Ready {
    Lesson lesson;
    std::unique_ptr<ExpertPanel> panel;
    std::vector<double> weights;  // without the floor
    Report report;
  };

  Teacher teacher() const { return {*model, store, statistics, options}; }
  // What the tokens find in the store. `read_before`: chunks that an earlier lesson read as text.
  Lesson retrieve(std::span<const Token> tokens, size_t following, const std::function<bool(const Chunk&)>& admits,
                  std::span<const int64_t> read_before, Report& report, const Watch& watch) const;
  // The directions that these experts follow. `base` has read the tokens afterwards.
  void learn(std::span<const Token> tokens, const std::vector<Expert>& experts, Lesson& lesson, Reading& base,
             Report& report, const Watch& watch) const;
  // `following` tokens will be read after the prompt.
  std::unique_ptr<Ready> prepare(std::span<const Token> prompt, size_t following, const Watch& watch,
                                 const std::function<bool(const Chunk&)>& admits) const;
};

namespace {

// Without a store nothing is adapted, so no matrix has statistics.
CorpusStatistics no_statistics(int first_layer) {
  CorpusStatistics statistics;
  statistics.first_layer = first_layer;
  return statistics;
}

}  // namespace

Session::Session(std::shared_ptr<const Model> model, const Store* store, SessionOptions options)
    : impl_(std::make_unique<Impl>()) {
  if (options.first_layer < 0) options.first_layer = default_first_adapted_layer(*model);
  if (options.first_layer >= model->config().layers)
    throw Error(ErrorCode::bad_input,
                fmt::format("first layer {} of a model of {} layers", options.first_layer, model->config().layers));
  if (!(options.floor > 0 && options.floor < 1))
    throw Error(ErrorCode::bad_input, fmt::format("floor is {}; it must be above 0 and below 1", options.floor));
  constexpr size_t most = size_t{1} << 24;
  if (options.block_tokens < 1 || options.block_tokens > most || options.judged_blocks > most)
    throw Error(ErrorCode::bad_input, "a block has 1 to 2^24 tokens, and at most 2^24 blocks are judged");
  impl_->statistics = store ? load_statistics(*model, *store, options.first_layer) : no_statistics(options.first_layer);
  if (!store) options.prompt_steps.clear();
  impl_->model = std::move(model);
  impl_->store = store;
  impl_->options = std::move(options);
}

Session::~Session() = default;

Lesson Session::Impl::retrieve(std::span<const Token> tokens, size_t following,
                               const std::function<bool(const Chunk&)>& admits, std::span<const int64_t> read_before,
                               Report& report, const Watch& watch) const {
  const Stopwatch stopwatch(report.seconds, "retrieve");
  Lesson lesson;
  teacher().find_neighbours(tokens, std::max(options.neighbours, options.context_neighbours), admits, read_before,
                            lesson, watch.cancel);
  teacher().plan(tokens.size(), lesson);
  const size_t wanted = lesson.in_context.size();
  if (!teacher().fit_context(tokens.size() + following, lesson))
    report.note =
        fmt::format("{} of {} neighbours were read as text: with more the prompt would not fit the model's context",
                    lesson.in_context.size(), wanted);
  return lesson;
}

void Session::Impl::learn(std::span<const Token> tokens, const std::vector<Expert>& experts, Lesson& lesson,
                          Reading& base, Report& report, const Watch& watch) const {
  const auto followed = [&](const Adapter& direction) {
    return std::ranges::find(experts, &direction, &Expert::adapter) != experts.end();
  };
  {
    const Stopwatch stopwatch(report.seconds, "read");
    base.read(*model, tokens, watch.cancel);
  }
  const Stopwatch stopwatch(report.seconds, "gradients");
  if (followed(lesson.neighbour_direction)) teacher().learn_from_neighbours(lesson, watch);
  if (followed(lesson.prompt_direction)) teacher().learn_from_prompt(tokens, base, lesson, watch.cancel);
  report.gradients_computed += lesson.gradients_computed;
}

std::unique_ptr<Session::Impl::Ready> Session::Impl::prepare(std::span<const Token> prompt, size_t following,
                                                             const Watch& watch,
                                                             const std::function<bool(const Chunk&)>& admits) const {
  check_length(*model, prompt, following);
  auto ready = std::make_unique<Ready>();
  Report& report = ready->report;
  report.floor = options.floor;
  report.retrieval = options.retrieval;
  report.base_hash = model->base_hash();

  // Each block is judged by experts that earlier blocks made. Experts of the same name carry their weight on.
  std::vector<ExpertWeight> carried;
  const auto weights_for = [&](const std::vector<Expert>& experts) {
    std::vector<double> weights = priors(experts);
    if (carried.empty()) return weights;
    for (size_t e = 0; e < experts.size(); ++e) {
      const auto before = std::ranges::find(carried, experts[e].name, &ExpertWeight::name);
      if (before != carried.end()) weights[e] = std::max(before->weight, least_carried);
    }
    return normalized(weights);
  };
  const size_t judged = options.judged_blocks * options.block_tokens;
  const size_t first =
      prompt.size() > judged ? std::max(options.block_tokens, prompt.size() - judged) : options.block_tokens;
  std::vector<Reading> readings;
  readings.emplace_back(*model, options.first_layer);
  std::vector<int64_t> read_before;
  for (size_t begin = first; begin < prompt.size() && judged > 0; begin += options.block_tokens) {
    watch.report("judge", begin, prompt.size());
    const size_t end = std::min(begin + options.block_tokens, prompt.size());
    Lesson lesson =
        retrieve(prompt.first(begin), prompt.size() - begin + following, admits, read_before, report, watch);
    read_before.clear();
    for (const size_t i : lesson.in_context) read_before.push_back(lesson.neighbours[i].id);
    const std::vector<Expert> experts = experts_of(lesson, options);
    learn(prompt.first(begin), experts, lesson, readings[plain_context], report, watch);
    const Stopwatch stopwatch(report.seconds, "judge");
    ExpertPanel panel = panel_of(*model, options.first_layer, lesson, experts, prompt.first(begin - 1),
                                 std::move(readings), watch.cancel);
    const Matrix losses = panel.read(prompt.subspan(begin - 1, end - begin + 1), 1);
    decide::Mixture mixture(weights_for(panel.experts()), options.sharing);
    report.bound_bits += mixture.bound_bits(end - begin);
    for (size_t t = 0; t < losses.cols(); ++t) {
      report.evidence_base_bits += losses.row(0)[t] / std::numbers::ln2;
      report.evidence_mixture_bits -= mixture.update(log_probs_at(losses, t)) / std::numbers::ln2;
    }
    readings = panel.take_readings();
    report.evidence_tokens += end - begin;
    const std::vector<double> weights = mixture.weights();
    carried.clear();
    for (size_t e = 0; e < weights.size(); ++e)
      carried.push_back({panel.experts()[e].name, panel.experts()[e].prior, weights[e]});
  }

  Lesson& lesson = ready->lesson;
  report.note.clear();  // it is about the answer, not about a block that was judged
  lesson = retrieve(prompt, following, admits, read_before, report, watch);
  for (size_t i = 0; i < lesson.neighbours.size(); ++i)
    report.neighbours.push_back({lesson.neighbours[i].path, lesson.neighbours[i].ordinal, lesson.scores[i],
                                 std::ranges::find(lesson.in_context, i) != lesson.in_context.end()});
  if (!store) report.note = "no store was given: the base answers alone";
  if (store && lesson.neighbours.empty()) report.note = "the store has no text that resembles the prompt";

  std::vector<Expert> experts = experts_of(lesson, options), kept;
  const std::vector<double> weights = weights_for(experts);
  const std::vector<bool> answers = answering(weights, options.answering_experts);
  for (size_t e = 0; e < weights.size(); ++e) {
    report.experts.push_back({experts[e].name, experts[e].prior, answers[e] ? weights[e] : 0});
    if (!answers[e]) continue;
    ready->weights.push_back(weights[e]);
    kept.push_back(std::move(experts[e]));
  }
  ready->weights = normalized(ready->weights);
  size_t k = 0;
  for (ExpertWeight& expert : report.experts)
    if (expert.weight > 0) expert.weight = ready->weights[k++];
  learn(prompt, kept, lesson, readings[plain_context], report, watch);
  const Stopwatch stopwatch(report.seconds, "read");
  ready->panel =
      std::make_unique<ExpertPanel>(panel_of(*model, options.first_layer, lesson, std::move(kept),
                                             prompt.first(prompt.size() - 1), std::move(readings), watch.cancel));
  ready->panel->read(prompt.last(1));
  return ready;
}

Completion Session::complete(std::span<const Token> prompt, const SamplingOptions& sampling, const Watch& watch,
                             const std::function<void(std::string_view)>& stream) {
  Sampler sampler(sampling);
  AnswerText answer(sampling.stop, stream);
  StageSeconds clock;
  Completion completion;
  std::unique_ptr<Impl::Ready> ready;
  {
    const Stopwatch stopwatch(clock, "first");
    ready = impl_->prepare(prompt, sampling.max_tokens, watch, {});
  }
  decide::Mixture mixture(ready->weights, impl_->options.sharing, impl_->options.floor);
  const auto mixed = [&](const Matrix& logits) {
    std::vector<float> result(logits.cols());
    log_mixture(logits, mixture.weights(), result);
    return result;
  };
  const auto learn = [&](const Matrix& logits, Token token) {
    if (!impl_->options.learn_from_answer) return;
    std::vector<double> log_probs(logits.rows());
    for (size_t e = 0; e < log_probs.size(); ++e)
      log_probs[e] = at_most_certain(logits.row(e)[static_cast<size_t>(token)]);
    mixture.update(log_probs);
  };
  {
    const Stopwatch stopwatch(clock, "answer");
    decode(*impl_->model, *ready->panel, sampling.max_tokens, sampler, answer, mixed, learn, completion, watch);
  }
  completion.seconds_to_first_token = clock.front().second;
  completion.tokens_per_second = tokens_per_second(completion, clock.back().second);
  completion.report = std::move(ready->report);
  completion.report.answer_bound_bits =
      answer_bound_bits(mixture, impl_->options, ready->weights.front(), completion.tokens.size());
  seconds_of(completion.report.seconds, "answer") += clock.back().second;
  return completion;
}

Session::Scored Session::score_continuation(std::span<const Token> prompt, std::span<const Token> continuation,
                                            const Watch& watch, const std::function<bool(const Chunk&)>& admits) {
  const std::unique_ptr<Impl::Ready> ready = impl_->prepare(prompt, continuation.size(), watch, admits);
  decide::Mixture mixture(ready->weights, impl_->options.sharing, impl_->options.floor);
  const Matrix losses = ready->panel->read(continuation, 0);
  Scored scored;
  for (size_t t = 0; t < losses.cols(); ++t) {
    const std::vector<double> log_probs = log_probs_at(losses, t);
    scored.base.push_back(-log_probs[0]);
    scored.mixture.push_back(impl_->options.learn_from_answer ? -mixture.update(log_probs)
                                                              : -mixture.log_prob(log_probs));
  }
  scored.report = std::move(ready->report);
  scored.report.answer_bound_bits =
      answer_bound_bits(mixture, impl_->options, ready->weights.front(), continuation.size());
  return scored;
}

Completion complete_with_base(const Model& model, std::span<const Token> prompt, const SamplingOptions& sampling,
                              const Watch& watch, const std::function<void(std::string_view)>& stream) {
  Sampler sampler(sampling);
  AnswerText answer(sampling.stop, stream);
  Completion completion;
  StageSeconds clock;
  check_length(model, prompt, sampling.max_tokens);
  ExpertPanel panel(model, model.config().layers, watch.cancel);
  {
    const Stopwatch stopwatch(clock, "read");
    panel.add_expert({"base", panel.add_context({}), nullptr, 0, 1});
    panel.read(prompt);
  }
  const auto of_base = [](const Matrix& logits) {
    return std::vector<float>(logits.row(0).begin(), logits.row(0).end());
  };
  {
    const Stopwatch stopwatch(clock, "answer");
    const auto learn_nothing = [](const Matrix&, Token) {};
    decode(model, panel, sampling.max_tokens, sampler, answer, of_base, learn_nothing, completion, watch);
  }
  completion.seconds_to_first_token = clock.front().second;
  completion.tokens_per_second = tokens_per_second(completion, clock.back().second);
  completion.report.protocol = "base";
  completion.report.base_hash = model.base_hash();
  completion.report.seconds = clock;
  return completion;
}

}  // namespace hone
