// Few-shot decisions against what their parts say one by one, their bound, and what cannot be decided.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "adapt/few_shot_mixture.h"
#include "adapt/few_shot_state.h"
#include "base/random.h"
#include "hone/fewshot.h"
#include "hone/grams.h"
#include "tests/expect_error.h"
#include "tests/golden.h"

namespace hone::test::few_shot_test {
namespace {

using Subspace = FewShotOptions::Subspace;
using Steps = FewShotOptions::Steps;
using Task = FewShotOptions::Task;

// "the" and "and" are one token each, the others several, and two of them begin alike.
const std::string without_spaces = "{input}->{label}\n";
const std::vector<LabelledText> single_token = {
    {"red door", "the"}, {"blue sea", "and"}, {"a red hat", "the"}, {"the sea at night", "and"}, {"door", "the"}};
const std::vector<LabelledText> several_tokens = {
    {"red door", "good"}, {"blue sea", "great"}, {"a red hat", "bad"}, {"the sea", "great"}, {"hat", "good"}};
const std::vector<LabelledText> numbers = {{"one", "1"}, {"two", "2"}, {"ten", "10"}, {"five", "5"}, {"1 and 1", "2"}};

class FewShots : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Model> model = Model::open(tiny_model(GetParam()));
};

double output_at(const FewShotAnswer& answer, size_t t, size_t o = 0) {
  return answer.report.outputs_along_steps[t][o];
}

// Base margin + k_xᵀ q_T(K) r with Grams of another sink and gradient descent run step by step.
TEST_P(FewShots, LinearisedPredictionIsWhatItsPartsSay) {
  const std::string query = "red sea";
  FewShot few_shot(model, single_token, {.prompt_template = without_spaces, .layers = 2});
  const FewShotAnswer answer = few_shot.answer(query);
  const Tokenizer& tokenizer = model->tokenizer();
  std::vector<Token> start;
  if (tokenizer.adds_bos()) start.push_back(tokenizer.bos());
  std::vector<Example> examples;
  const std::vector<Token> after = tokenizer.encode("\n");
  for (const auto& [input, label] : single_token) {
    examples.push_back({tokenizer.encode(input + "->"), tokenizer.encode(label)});
    ASSERT_EQ(examples.back().label.size(), 1U);
    examples.back().label.insert(examples.back().label.end(), after.begin(), after.end());
  }
  const auto prompts = leave_one_out_prompts(start, examples, tokenizer.encode(query + "->"));
  std::vector<Sequence> batch;
  for (const auto& prompt : prompts) batch.push_back({.tokens = prompt});
  share_prefixes(batch);
  const Readout margin = Readout::margin(tokenizer.encode("the")[0], tokenizer.encode("and")[0]);
  const MatrixKind kinds[] = {MatrixKind::v};
  const int first = model->config().layers - 2;
  GramSink sink(*model, blocks_of(*model, first, kinds));
  GradientSink* const sinks[] = {&sink};
  const std::vector<double> margins = readout_gradients(*model, batch, first, {&margin, 1}, sinks);
  const QueryKernel kernel = query_kernel(sink.total(), 0);
  const size_t n = kernel.examples;
  std::vector<double> w(n), r(n);
  for (size_t i = 0; i < n; ++i)
    r[i] = (single_token[i].label == "the" ? 1 : -1) * answer.report.target_scale - margins[i + 1];
  for (size_t i = 0; i < n; ++i) EXPECT_NEAR(r[i], answer.report.residuals[i], 1e-4);
  const double rho = answer.report.decisions[0].rho;
  for (size_t t = 0; t <= 30; ++t) {
    double correction = 0;
    for (size_t i = 0; i < n; ++i) correction += kernel.with_query[i] * w[i];
    EXPECT_NEAR(output_at(answer, t), margins[0] + correction, 2e-4 * (1 + std::abs(correction))) << t;
    std::vector<double> next = w;
    for (size_t i = 0; i < n; ++i) {
      double fitted = 0;
      for (size_t j = 0; j < n; ++j) fitted += kernel.kernel[i * n + j] * w[j];
      next[i] += rho * (r[i] - fitted);
    }
    w = next;
  }
  EXPECT_NEAR(answer.classes[0].in_context, 1 / (1 + std::exp(-margins[0])), 1e-4);
}

// Without a step they are the model's own, and each number of steps has probabilities of its own.
TEST_P(FewShots, PredictionsAlongSteps) {
  const FewShotAnswer answer = FewShot(model, several_tokens, {.layers = 1}).answer("blue hat");
  ASSERT_EQ(answer.classes.size(), 3U);
  for (size_t c = 0; c < 3; ++c)
    EXPECT_NEAR(answer.prediction_along_steps(0)[c], answer.classes[c].in_context, 1e-6) << c;
  EXPECT_NE(answer.prediction_along_steps(1), answer.prediction_along_steps(30));
  for (const size_t t : {1, 30}) {
    double sum = 0;
    for (const double p : answer.prediction_along_steps(t)) sum += p;
    EXPECT_NEAR(sum, 1, 1e-12);
  }
  EXPECT_THROW((void)answer.prediction_along_steps(31), std::out_of_range);
  const FewShotAnswer number = FewShot(model, numbers, {.task = Task::regression, .layers = 1}).answer("six");
  EXPECT_EQ(number.prediction_along_steps(3), number.report.outputs_along_steps[3]);
}

// log p of a label is the sum over its tokens, and labels may begin alike.
TEST_P(FewShots, LabelsOfSeveralTokens) {
  const std::string query = "blue hat";
  FewShot few_shot(model, several_tokens, {.layers = 1});
  const FewShotAnswer answer = few_shot.answer(query);
  const Tokenizer& tokenizer = model->tokenizer();
  std::vector<Token> prompt;
  if (tokenizer.adds_bos()) prompt.push_back(tokenizer.bos());
  const auto add = [](std::vector<Token>& text, const std::vector<Token>& more) {
    text.insert(text.end(), more.begin(), more.end());
  };
  for (const auto& [input, label] : several_tokens)
    for (const std::string& part : {input + " ->", " " + label, std::string("\n")}) add(prompt, tokenizer.encode(part));
  add(prompt, tokenizer.encode(query + " ->"));
  std::vector<double> log_p;
  for (const std::string& label : few_shot.labels()) {
    std::vector<Token> text = prompt;
    const std::vector<Token> of_label = tokenizer.encode(" " + label);
    EXPECT_GT(of_label.size(), 1U);
    add(text, of_label);
    const Sequence sequence{.tokens = text};
    const Matrix hidden = model->forward({&sequence, 1});
    double sum = 0;
    for (const float loss : model->losses(hidden.view().row_range(prompt.size() - 1, of_label.size()), of_label))
      sum -= static_cast<double>(loss);
    log_p.push_back(sum);
  }
  double total = 0;
  for (const double l : log_p) total += std::exp(l - log_p[0]);
  ASSERT_EQ(answer.classes.size(), 3U);
  for (size_t c = 0; c < 3; ++c) EXPECT_NEAR(answer.classes[c].in_context, std::exp(log_p[c] - log_p[0]) / total, 1e-4);
  double sum = 0;
  for (const ClassProbability& one : answer.classes) sum += one.answer;
  EXPECT_NEAR(sum, 1, 1e-9);
}

// Weights moved a little change outputs as their gradients say: one token, several tokens, numbers; v, o and others.
TEST_P(FewShots, SmallUpdatesOfTheWeightsAgreeWithTheLinearisedPrediction) {
  for (const auto* examples : {&single_token, &several_tokens, &numbers}) {
    FewShotOptions options{.layers = 1,
                           .matrices = {MatrixKind::v, MatrixKind::o, MatrixKind::down},
                           .steps = Steps::fixed,
                           .fixed_steps = 3,
                           .step = 2e-3};
    options.exact_update = options.descent = true;
    if (examples == &numbers) options.task = Task::regression;
    FewShot few_shot(model, *examples, options);
    const FewShotAnswer answer = few_shot.answer("blue sea");
    const FewShotReport& report = answer.report;
    double change = 0;
    for (size_t o = 0; o < report.outputs; ++o) {
      const double by_gradients = report.linearised[o] - output_at(answer, 0, o);
      EXPECT_NEAR(report.linearised[o], output_at(answer, 3, o), 1e-9);
      EXPECT_NEAR(report.updated[o] - output_at(answer, 0, o), by_gradients, 0.05 * std::abs(by_gradients) + 5e-6);
      EXPECT_NEAR(report.descended[o] - output_at(answer, 0, o), by_gradients, 0.05 * std::abs(by_gradients) + 5e-6);
      change = std::max(change, std::abs(by_gradients));
    }
    EXPECT_GT(change, 2e-5);
    EXPECT_FALSE(few_shot.update().dense.empty());
  }
}

// One token, several tokens, numbers; v, o and others; every rule that does not look at the query.
TEST_P(FewShots, TangentsPredictWhatGradientsDo) {
  for (const auto* examples : {&single_token, &several_tokens, &numbers})
    for (const Subspace subspace : {Subspace::all, Subspace::trace, Subspace::last_layer, Subspace::random}) {
      FewShotOptions options{.layers = 2, .matrices = {MatrixKind::v, MatrixKind::o, MatrixKind::down}};
      options.subspace = subspace;
      options.budget = subspace == Subspace::all ? 0 : 2;
      if (examples == &numbers) options.task = Task::regression;
      FewShot by_gradient(model, *examples, options);
      options.query_pass = FewShotOptions::QueryPass::tangent;
      FewShot by_tangent(model, *examples, options);
      for (const std::string query : {"blue sea", "", "red", "a hat and the sea at night"}) {
        const FewShotAnswer a = by_gradient.answer(query), b = by_tangent.answer(query);
        double largest = 0;
        for (size_t t = 0; t <= 30; ++t)
          for (size_t o = 0; o < a.report.outputs; ++o)
            largest = std::max(largest, std::abs(output_at(a, t, o) - output_at(a, 0, o)));
        EXPECT_GT(largest, 1e-3);
        for (size_t o = 0; o < a.report.outputs; ++o) EXPECT_EQ(output_at(a, 0, o), output_at(b, 0, o)) << query;
        for (size_t t = 0; t <= 30; ++t)
          for (size_t o = 0; o < a.report.outputs; ++o)
            EXPECT_NEAR(output_at(a, t, o), output_at(b, t, o), 1e-4 * largest + 1e-5) << query << " " << t;
        if (options.task == Task::classification) {
          EXPECT_EQ(a.label, b.label) << query;
        } else {  // six digits of the value
          EXPECT_NEAR(std::stod(a.label), std::stod(b.label), 1e-4 * largest + 2e-5) << query;
        }
        EXPECT_NEAR(a.value, b.value, 1e-4 * largest + 1e-5);
        EXPECT_NEAR(a.adapted_value, b.adapted_value, 1e-4 * largest + 1e-5);
        for (size_t c = 0; c < a.classes.size(); ++c) {
          EXPECT_EQ(a.classes[c].in_context, b.classes[c].in_context);
          EXPECT_NEAR(a.classes[c].adapted, b.classes[c].adapted, 1e-4);
          EXPECT_NEAR(a.classes[c].answer, b.classes[c].answer, 1e-4);
        }
        EXPECT_EQ(a.report.weights, b.report.weights);
        EXPECT_EQ(a.report.filter, b.report.filter);
        EXPECT_EQ(a.report.decisions[0].posterior.weights, b.report.decisions[0].posterior.weights);
        EXPECT_EQ(a.report.decisions.size(), b.report.decisions.size());
        EXPECT_TRUE(std::isnan(b.report.risk_adapted) && b.report.decisions[0].query.empty());
        for (size_t i = 0; i < a.report.blocks.size(); ++i) {
          EXPECT_EQ(a.report.blocks[i].chosen, b.report.blocks[i].chosen);
          EXPECT_EQ(a.report.blocks[i].trace, b.report.blocks[i].trace);
        }
      }
      EXPECT_EQ(by_gradient.update().dense.size(), by_tangent.update().dense.size());
    }
}

TEST_P(FewShots, SeveralQueriesAreEachOneAlone) {
  const FewShotOptions options{.layers = 1, .subspace = Subspace::query_aware, .budget = 1};
  FewShot together(model, several_tokens, options);
  for (const std::string query : {"blue hat", "blue hat at sea", "red", "blue hat"}) {
    FewShot alone(model, several_tokens, options);
    const FewShotAnswer a = together.answer(query), b = alone.answer(query);
    EXPECT_EQ(a.label, b.label);
    EXPECT_EQ(a.report.outputs_along_steps, b.report.outputs_along_steps) << query;
    EXPECT_EQ(a.report.weights, b.report.weights);
    for (size_t c = 0; c < a.classes.size(); ++c) EXPECT_EQ(a.classes[c].answer, b.classes[c].answer);
  }
}

// Whatever is true, whatever the adapted predictions say.
TEST_P(FewShots, NoAnswerIsWorseThanInContextByMoreThanTheBound) {
  RandomStream random(3, "labels");
  for (int draw = 0; draw < 12; ++draw) {
    std::vector<LabelledText> examples = draw % 2 == 0 ? single_token : several_tokens;
    const std::vector<std::string> labels = labels_of(examples);
    for (LabelledText& example : examples) example.label = labels[random.below(labels.size())];
    FewShotOptions options{.labels = labels, .layers = 2, .max_steps = 100, .step = 0.95, .floor = 0.03};
    options.steps = std::array{Steps::evidence, Steps::profiled, Steps::gibbs, Steps::loo, Steps::fixed}[draw % 5];
    options.subspace = std::array{Subspace::query_aware, Subspace::greedy,     Subspace::exact,
                                  Subspace::trace,       Subspace::last_layer, Subspace::random}[draw % 6];
    options.budget = 2;
    options.exact_update = draw % 4 == 0;
    FewShot few_shot(model, examples, options);
    const FewShotAnswer answer = few_shot.answer("sea");
    const auto chosen = std::ranges::count(answer.report.blocks, true, &BlockChoice::chosen);
    EXPECT_EQ(chosen, 2);
    EXPECT_NEAR(answer.report.bound_bits, std::log2(1 / 0.03), 1e-12);
    for (const ClassProbability& one : answer.classes)
      EXPECT_LE(std::log2(one.in_context) - std::log2(one.answer), answer.report.bound_bits + 1e-9) << draw;
    EXPECT_GE(answer.report.weights[0], 0.03);
  }
}

TEST_P(FewShots, RegressionAnswersWithANumber) {
  FewShot few_shot(model, numbers, {.task = Task::regression, .layers = 1});
  EXPECT_EQ(few_shot.labels(), (std::vector<std::string>{"1", "2", "10", "5"}));
  const FewShotAnswer answer = few_shot.answer("three");
  EXPECT_TRUE(answer.classes.empty());
  EXPECT_GE(answer.in_context_value, 1);
  EXPECT_LE(answer.in_context_value, 10);
  EXPECT_GT(answer.deviation, 0);
  double mean = 0;
  for (size_t t = 0; t < answer.report.weights.size(); ++t) mean += answer.report.weights[t] * output_at(answer, t);
  EXPECT_NEAR(answer.value, mean, 1e-9);
}

TEST_P(FewShots, StepsAndPriorsAreThoseAskedFor) {
  FewShot eight(model, single_token, {.layers = 1, .steps = Steps::fixed, .max_steps = 4, .fixed_steps = 8});
  EXPECT_EQ(eight.answer("sea").report.steps, 8);
  std::vector<double> prior(5, 1e-9);
  prior[3] = 1;
  FewShot three(model, single_token, {.layers = 1, .max_steps = 4, .step_prior = prior});
  EXPECT_NEAR(three.answer("sea").report.steps, 3, 1e-3);
  FewShot map(model, single_token, {.layers = 1, .steps = Steps::profiled});
  const FewShotAnswer answer = map.answer("sea");
  EXPECT_EQ(answer.report.steps, answer.report.decisions[0].posterior.map_steps());
  EXPECT_FALSE(answer.report.decisions[0].map_certificate);
  EXPECT_EQ(map.step_scores().size(), 31U);
  EXPECT_EQ(std::vector(map.step_scores().begin(), map.step_scores().end()),
            answer.report.decisions[0].posterior.scores);
}

TEST_P(FewShots, LimitCases) {
  const std::vector<LabelledText> one = {{"red door", "the"}};
  FewShot of_one(model, one, {.labels = {"the", "and"}, .layers = 1});
  const FewShotAnswer single = of_one.answer("sea");
  EXPECT_EQ(single.report.decisions[0].posterior.map_steps(), 0);
  const std::vector<LabelledText> equal(4, {"red door", "the"});
  FewShot of_equal(model, equal, {.labels = {"the", "and"}, .layers = 1});
  const FewShotAnswer same = of_equal.answer("red door");
  const std::vector<LabelledText> unknown = {{"red", "Ωμέγα"}, {"sea", "ペン"}, {"", "Ωμέγα"}};
  FewShot of_unknown(model, unknown, {.layers = 1});
  const FewShotAnswer bytes = of_unknown.answer("");
  const std::vector<LabelledText> nested = {{"red", "a"}, {"sea", "ab"}, {"hat", "abc"}};
  FewShot of_nested(model, nested, {.layers = 1});
  const FewShotAnswer beginnings = of_nested.answer("sea");
  for (const FewShotAnswer* answer : {&single, &same, &bytes, &beginnings}) {
    double sum = 0;
    for (const ClassProbability& c : answer->classes) {
      EXPECT_TRUE(c.answer > 0 && c.answer < 1) << c.label << " " << c.answer;
      sum += c.answer;
    }
    EXPECT_NEAR(sum, 1, 1e-9);
  }
}

TEST_P(FewShots, WhatCannotBeDecidedIsRefused) {
  const auto refuse = [&](std::vector<LabelledText> examples, const FewShotOptions& options, const char* text) {
    HONE_EXPECT_ERROR(FewShot(model, examples, options), ErrorCode::bad_input, text);
  };
  refuse({}, {}, "there are no examples");
  refuse({{"a", "x"}, {"b", "x"}}, {}, "every example has the label 'x'");
  refuse({{"a", "x"}}, {.labels = {"x", "y", "x"}}, "label 'x' is given twice");
  refuse({{"a", "x"}}, {}, "every example has the label 'x'");
  refuse({{"a", "3"}, {"b", "3"}}, {.task = Task::regression}, "every example has the label '3'");
  refuse({{"a", "x"}, {"b", "y"}}, {.step = 1.5}, "ρ = c/λ_max would be too large");
  refuse({{"a", "z"}}, {.labels = {"x", "y"}}, "label 'z', which is not one of the labels");
  refuse({{"a", "1"}, {"b", "two"}}, {.task = Task::regression}, "'two' is not a number");
  refuse({{"a", "1"}, {"b", "nan"}}, {.task = Task::regression}, "'nan' is not a number");
  refuse({{"a", "x"}, {"b", ""}}, {.prompt_template = "{input}:{label}\n"}, "label '' has no text");
  refuse({{"a", "x"}, {"b", ""}}, {}, "label '' has no text");
  refuse({{"a", "x"}}, {.labels = {"x", " "}}, "label ' ' has no text");
  refuse({{"a", "a"}, {"b", "ab"}}, {.prompt_template = "{input}:{label}"}, "one label is the beginning of another");
  refuse(single_token, {.prompt_template = "{input}"}, "must name {label} once");
  refuse(single_token, {.prompt_template = "{label} {input}"}, "has {label} before {input}");
  refuse(single_token, {.layers = 0}, "0 layers");
  refuse(single_token, {.blocks = {{{99, MatrixKind::q}, -1}}}, "does not exist");
  refuse(single_token, {.budget = 2}, "needs a rule");
  refuse(single_token, {.subspace = Subspace::trace}, "needs a budget");
  for (const Subspace subspace : {Subspace::query_aware, Subspace::greedy, Subspace::exact})
    refuse(single_token, {.subspace = subspace, .budget = 1, .query_pass = FewShotOptions::QueryPass::tangent},
           "need its gradient");
  refuse(single_token, {.step = 1}, "step c = 1 is not between 0 and 1");
  refuse(single_token, {.step = std::nan("")}, "is not between 0 and 1");
  refuse(single_token, {.floor = 0}, "floor 0 is not between");
  for (const double delta : {0.0, 1.0, std::nan("")}) refuse(single_token, {.delta = delta}, "is not between 0 and 1");
  for (const size_t steps : {FewShotOptions::most_steps + 1, size_t{1000000000000}, SIZE_MAX}) {
    refuse(single_token, {.max_steps = steps}, "max_steps is");
    refuse(single_token, {.steps = Steps::fixed, .fixed_steps = steps}, "fixed_steps is");
  }
  refuse(single_token, {.step_prior = {1, 1}}, "a prior over 2 numbers of steps for 31");
  std::vector<LabelledText> many(200, {"the red door and the blue sea", "the"});
  many.push_back({"sea", "and"});
  refuse(many, {}, "give fewer or shorter ones");
  HONE_EXPECT_ERROR(FewShot(model, single_token, {.memory = 1000}), ErrorCode::unsupported, "MiB of gradients");
  FewShot few_shot(model, single_token, {.layers = 1});
  HONE_EXPECT_ERROR(few_shot.update(), ErrorCode::bad_input, "before the first answer");
  HONE_EXPECT_ERROR(few_shot.answer(std::string(4000, 'x')), ErrorCode::bad_input, "the prompt of examples and query");
  EXPECT_FALSE(few_shot.answer("sea").label.empty());
  Watch cancelled;
  cancelled.cancel.cancel();
  HONE_EXPECT_ERROR(few_shot.answer("hat", cancelled), ErrorCode::cancelled, "");
  EXPECT_FALSE(few_shot.answer("hat").label.empty());
}

TEST_P(FewShots, NumbersThatAreNotFiniteAreAnError) {
  const LabelOutputs outputs = LabelOutputs::contrasts({{5}, {9}});
  const std::vector<std::vector<Token>> prompts = {{3, 4, 5}};
  const int last = model->config().layers - 1;
  const BlockId block{{last, MatrixKind::v}, 0};
  Adapter adapter;
  const auto [out, in] = model->shape(block.matrix);
  Matrix& addition = adapter.dense.emplace(block.matrix, Matrix(out, in)).first->second;
  std::fill_n(addition.data(), addition.size(), std::nanf(""));
  const LowerLayers lower = [&](std::span<const Sequence> batch) {
    return model->forward(batch, 0, last, model->embed(batch));
  };
  HONE_EXPECT_ERROR(read_labels(*model, outputs, prompts, &adapter, lower, {&block, 1}, {}, 0, {}),
                    ErrorCode::bad_input, "not finite");
}

// The same limit cases where queries are read by tangents: no residual, one example, one direction, no query text.
TEST_P(FewShots, APromptWithoutAnyToken) {
  const std::vector<LabelledText> one = {{"", "a"}};
  FewShotOptions options;
  options.prompt_template = "{input}{label}\n";
  options.labels = {"a", "b"};
  if (!model->encode("").empty()) GTEST_SKIP() << "this model begins with BOS";
  HONE_EXPECT_ERROR(FewShot(model, one, options), ErrorCode::bad_input, "has no tokens");
}

TEST_P(FewShots, TangentsInLimitCases) {
  const FewShotOptions options{.labels = {"the", "and"}, .layers = 1, .query_pass = FewShotOptions::QueryPass::tangent};
  const std::vector<LabelledText> one = {{"red door", "the"}}, equal(4, {"red door", "the"}), empty(2, {"", "and"});
  for (const auto& examples : {one, equal, empty, single_token}) {
    FewShot few_shot(model, examples, options);
    for (const std::string query : {"sea", ""}) {
      const FewShotAnswer answer = few_shot.answer(query);
      double sum = 0;
      for (const ClassProbability& c : answer.classes) {
        EXPECT_TRUE(c.answer > 0 && c.answer < 1) << c.label << " " << c.answer;
        EXPECT_LE(std::log2(c.in_context / c.answer), answer.report.bound_bits + 1e-9);
        sum += c.answer;
      }
      EXPECT_NEAR(sum, 1, 1e-9);
    }
    HONE_EXPECT_ERROR(few_shot.answer(std::string(4000, 'x')), ErrorCode::bad_input,
                      "the prompt of examples and query");
  }
  FewShot few_shot(model, single_token, options);
  Watch cancelled;
  cancelled.cancel.cancel();
  HONE_EXPECT_ERROR(few_shot.answer("hat", cancelled), ErrorCode::cancelled, "");
  EXPECT_FALSE(few_shot.answer("hat").label.empty());
  EXPECT_FALSE(few_shot.update().dense.empty());
}

// What a kernel of bad gradients, or one that is given from outside, would be.
TEST(FewShotKernels, ThatAreNoneAreRefused) {
  const auto kernel_of = [](std::vector<double> values) {
    decide::Matrix64 kernel(3, 3);
    kernel.values = std::move(values);
    return kernel;
  };
  const auto refuse = [&](const decide::Matrix64& kernel, const char* text) {
    HONE_EXPECT_ERROR(decide::Spectrum{kernel}, ErrorCode::bad_input, text);
  };
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  refuse(kernel_of({1, 0, nan, 0, 1, 0, nan, 0, 1}), "not a finite number; look at the gradients");
  refuse(kernel_of({infinity, 0, 0, 0, 1, 0, 0, 0, 1}), "not a finite number");
  refuse(kernel_of({1, 0.5, 0, 0.2, 1, 0, 0, 0, 1}), "not symmetric");
  refuse(kernel_of({1, 2, 0, 2, 1, 0, 0, 0, 1}), "not positive semidefinite: eigenvalues from -1 to 3");
  refuse(decide::Matrix64(2, 3), "2 x 3");
  refuse(decide::Matrix64(), "there are no examples");
  const decide::Spectrum spectrum(kernel_of({1, 0, 0, 0, 1, 0, 0, 0, 1}));
  for (const double c : {0.0, 1.0, 3.0, -0.5, nan})
    HONE_EXPECT_ERROR(decide::step_size(spectrum, c), ErrorCode::bad_input, "is not between 0 and 1");
}

INSTANTIATE_TEST_SUITE_P(Models, FewShots, testing::Values("llama", "qwen2", "gemma3"),
                         [](const auto& parameter) { return std::string(parameter.param); });

TEST(WeighSteps, IsBayesFromHalfOnTheBaseAndFloored) {
  decide::Matrix64 log_p(3, 2);
  log_p.values = {std::log(0.5), std::log(0.5), std::log(0.9), std::log(0.8), std::log(0.1), std::log(0.2)};
  const std::vector<double> trusted = {0, 0.25, 0.75};
  const double base = 0.5 * 0.25, first = 0.125 * 0.72, second = 0.375 * 0.02, sum = base + first + second;
  const std::vector<double> w = weigh_steps(trusted, log_p, 0.1);
  EXPECT_NEAR(w[0], 0.1 + 0.9 * base / sum, 1e-12);
  EXPECT_NEAR(w[1], 0.9 * first / sum, 1e-12);
  EXPECT_NEAR(w[2], 0.9 * second / sum, 1e-12);
  EXPECT_EQ(weigh_steps(std::vector<double>{1, 0, 0}, log_p, 0.1), (std::vector<double>{1, 0, 0}));
}

TEST(BlockNames, AreReadBack) {
  for (const BlockId id :
       {BlockId{{27, MatrixKind::v}, 2}, BlockId{{0, MatrixKind::up}, -1}, BlockId{{3, MatrixKind::o}, 11}})
    EXPECT_EQ(block_named(name(id)), id);
  for (const char* text :
       {"", "L", "L1", "L1.", "1.v", "L1.x", "L1.vv", "L1.v.h", "L1.v.h2x", "L-1.v", "L99999999999.v"})
    HONE_EXPECT_ERROR(block_named(text), ErrorCode::bad_input, "names no block");
}

}  // namespace
}  // namespace hone::test::few_shot_test
