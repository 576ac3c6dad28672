// The digit-shift experiment on tiny models: tasks, kernels of several prompts, true descent, and raw rows.
#include "lab/digit_shift.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lab/digit_shift_rows.h"
#include "lab/number_list.h"
#include "lab/weight_descent.h"
#include "tests/expect_error.h"
#include "tests/golden.h"

namespace hone::lab::digit_shift_test {
namespace {

using test::tiny_model;

TEST(DigitShiftTasks, AreTheSameWheneverDrawn) {
  const DigitShift once = digit_shift(7, 3), again = digit_shift(7, 3), other = digit_shift(8, 3),
                   next = digit_shift(7, 4);
  EXPECT_EQ(once.x, again.x);
  EXPECT_EQ(once.labels, again.labels);
  EXPECT_EQ(once.sign, again.sign);
  EXPECT_EQ(once.query, again.query);
  EXPECT_NE(once.x, other.x);
  EXPECT_NE(once.x, next.x);
}

TEST(DigitShiftTasks, HaveThePublishedRates) {
  constexpr size_t tasks = 4000;
  size_t noisy = 0, arrows = 0, wrong = 0, labels = 0;
  std::vector<size_t> shifts(10), queries(10);
  for (size_t number = 0; number < tasks; ++number) {
    const DigitShift task = digit_shift(1, number);
    ASSERT_EQ(task.x.size(), 10U);
    ASSERT_EQ(task.labels.size(), 10U);
    noisy += task.noisy;
    arrows += task.sign == "->";
    EXPECT_TRUE(task.sign == "->" || task.sign == ":");
    ++shifts.at(static_cast<size_t>(task.shift));
    ++queries.at(static_cast<size_t>(task.query));
    EXPECT_EQ(task.answer(), (task.query + task.shift) % 10);
    for (size_t i = 0; i < task.x.size(); ++i) {
      const bool right = task.labels[i] == (task.x[i] + task.shift) % 10;
      if (!task.noisy) {
        EXPECT_TRUE(right);
        continue;
      }
      ++labels;
      wrong += !right;
    }
    EXPECT_EQ(task.targets()[0], task.labels[0] / 9.0);
  }
  // Within 4 standard deviations.
  const auto near = [](size_t count, size_t of, double rate) {
    const auto n = static_cast<double>(of);
    EXPECT_NEAR(static_cast<double>(count) / n, rate, 4 * std::sqrt(rate * (1 - rate) / n));
  };
  near(noisy, tasks, 0.5);
  near(arrows, tasks, 0.5);
  near(wrong, labels, 0.55 * 0.9);
  for (size_t digit = 0; digit < 10; ++digit) {
    near(shifts[digit], tasks, 0.1);
    near(queries[digit], tasks, 0.1);
  }
}

class DigitShiftModel : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Model> model = Model::open(tiny_model(GetParam()));
  Readout readout = digit_readout(*model);
  std::vector<BlockId> blocks = value_blocks(*model, 2);

  // Σ over the blocks of ∇ŷ of one text alone, as one long vector.
  std::vector<double> gradient(const std::vector<Token>& text) const {
    const Sequence sequence{.tokens = text};
    WeightGradientSink sink;
    GradientSink* const sinks[] = {&sink};
    readout_gradients(*model, {&sequence, 1}, 0, {&readout, 1}, sinks);
    std::vector<double> all;
    for (const BlockId& block : blocks) {
      const BlockExtent e = extent(*model, block);
      const Matrix& matrix = sink.gradients().at(block.matrix);
      for (size_t o = 0; o < e.out; ++o) {
        const auto row = matrix.row(e.first_out + o).subspan(e.first_in, e.in);
        all.insert(all.end(), row.begin(), row.end());
      }
    }
    return all;
  }
  static double dot(std::span<const double> a, std::span<const double> b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }
};

TEST_P(DigitShiftModel, PromptsReadAsPublished) {
  DigitShift task = digit_shift(0, 0, 2);
  task.sign = "->";
  task.x = {3, 0};
  task.labels = {5, 2};
  task.query = 7;
  const LabelledPrompt prompt = digit_prompt(*model, task);
  const auto texts = prompt.texts();
  ASSERT_EQ(texts.size(), 3U);
  EXPECT_EQ(model->tokenizer().decode(texts[0]), "3->5\n0->2\n7->");
  EXPECT_EQ(model->tokenizer().decode(texts[1]), "0->2\n3->");
  EXPECT_EQ(model->tokenizer().decode(texts[2]), "3->5\n0->");
  EXPECT_EQ(model->tokenizer().piece(readout.labels()[4]), "4");
}

// Three tasks in one pass with shared prefixes against every text's gradient taken alone.
TEST_P(DigitShiftModel, KernelsAreThoseOfUnsharedPrompts) {
  std::vector<LabelledPrompt> prompts;
  for (const size_t number : {0, 1, 2}) prompts.push_back(digit_prompt(*model, digit_shift(0, number, 3 + number)));
  const std::vector<PromptKernels> found = prompt_kernels(*model, prompts, blocks, readout);
  ASSERT_EQ(found.size(), 3U);
  for (size_t p = 0; p < prompts.size(); ++p) {
    const auto texts = prompts[p].texts();
    std::vector<std::vector<double>> gradients;
    for (const auto& text : texts) gradients.push_back(gradient(text));
    const size_t n = texts.size() - 1;
    const decide::BlockSum sum = decide::sum_blocks(found[p].blocks());
    const auto close = [&](double value, size_t i, size_t j) {
      const double scale = std::sqrt(dot(gradients[i], gradients[i]) * dot(gradients[j], gradients[j]));
      EXPECT_NEAR(value, dot(gradients[i], gradients[j]), 1e-4 * scale) << "prompt " << p << ", " << i << ", " << j;
    };
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) close(sum.kernel(i, j), i + 1, j + 1);
      close(sum.query[i], i + 1, 0);
    }
    close(found[p].query_norm, 0, 0);
    std::vector<Sequence> alone;
    for (const auto& text : texts) alone.push_back({.tokens = text});
    const std::vector<double> values = readout_values(*model, alone, {&readout, 1});
    EXPECT_NEAR(found[p].answer, values[0], 1e-6);
    const std::vector<double> ones(n, 1), r = found[p].residuals(ones);
    for (size_t i = 0; i < n; ++i) {
      EXPECT_NEAR(found[p].left_out[i], values[i + 1], 1e-6);
      EXPECT_EQ(r[i], 1 - found[p].left_out[i]);
    }
  }
}

TEST_P(DigitShiftModel, DescentWithSmallStepsAgreesWithTheLinearisedOne) {
  const DigitShift task = digit_shift(0, 5, 6);
  const LabelledPrompt prompt = digit_prompt(*model, task);
  const PromptKernels kernels = std::move(prompt_kernels(*model, {&prompt, 1}, blocks, readout).front());
  const decide::BlockSum sum = decide::sum_blocks(kernels.blocks());
  const StepTask known(sum.kernel, sum.query, kernels.residuals(task.targets()), kernels.answer, task.target());
  const std::string before = model->hash_weights();
  // What separates them is of second order: half the step size, a quarter of the difference. fp32 readouts of about 1
  // are known to about 1e-6.
  const double steps[] = {0.001, 0.002, 0.004}, largest = known.spectrum.largest();
  const double rates[] = {steps[0] / largest, steps[1] / largest, steps[2] / largest};
  const auto answers = weight_descent(*model, prompt, task.targets(), blocks, readout, rates, 4);
  EXPECT_EQ(model->hash_weights(), before);
  ASSERT_EQ(answers.size(), 3U);
  const auto gap = [&](size_t rate, size_t t) {
    return std::abs(answers[rate][t] - known.prediction(steps[rate], static_cast<double>(t)));
  };
  for (size_t rate = 0; rate < 3; ++rate) {
    ASSERT_EQ(answers[rate].size(), 5U);
    EXPECT_NEAR(answers[rate][0], kernels.answer, 1e-6);
  }
  for (size_t t = 1; t <= 4; ++t) {
    EXPECT_LE(gap(1, t), 0.3 * gap(2, t) + 2e-6) << "step " << t;
    EXPECT_LE(gap(0, t), 0.3 * gap(1, t) + 2e-6) << "step " << t;
  }
  EXPECT_LE(gap(0, 4), 0.05 * std::abs(known.prediction(steps[0], 4) - kernels.answer) + 1e-6);
}

// The second step's gradient and residuals are taken at the weights after the first.
TEST_P(DigitShiftModel, DescentTakesEveryStepAtTheWeightsThatItReached) {
  const DigitShift task = digit_shift(0, 6, 3);
  const LabelledPrompt prompt = digit_prompt(*model, task);
  const std::vector<double> y = task.targets();
  const PromptKernels kernels = std::move(prompt_kernels(*model, {&prompt, 1}, blocks, readout).front());
  const double rate = 0.5 / decide::Spectrum(decide::sum_blocks(kernels.blocks()).kernel).largest();
  const auto texts = prompt.texts();
  Adapter adapter;
  for (const BlockId& block : blocks) {
    const auto [out, in] = model->shape(block.matrix);
    adapter.dense.try_emplace(block.matrix, out, in);
  }
  std::vector<double> expected;
  for (int t = 0; t <= 2; ++t) {
    std::map<MatrixId, Matrix> sum;
    for (size_t i = 0; i < texts.size(); ++i) {
      const Sequence sequence{.tokens = texts[i], .adapter = &adapter};
      WeightGradientSink sink;
      GradientSink* const sinks[] = {&sink};
      const double value = readout_gradients(*model, {&sequence, 1}, 0, {&readout, 1}, sinks).front();
      if (i == 0) expected.push_back(value);
      if (i == 0) continue;
      for (const BlockId& block : blocks) {
        const Matrix& g = sink.gradients().at(block.matrix);
        Matrix& to = sum.try_emplace(block.matrix, g.rows(), g.cols()).first->second;
        const BlockExtent e = extent(*model, block);
        for (size_t o = e.first_out; o < e.first_out + e.out; ++o)
          for (size_t c = 0; c < g.cols(); ++c) to.row(o)[c] += static_cast<float>(y[i - 1] - value) * g.row(o)[c];
      }
    }
    for (auto& [id, g] : sum)
      for (size_t i = 0; i < g.size(); ++i) adapter.dense.at(id).data()[i] += static_cast<float>(rate) * g.data()[i];
  }
  const double rates[] = {rate};
  const auto answers = weight_descent(*model, prompt, y, blocks, readout, rates, 2);
  for (size_t t = 0; t <= 2; ++t) EXPECT_NEAR(answers[0][t], expected[t], 2e-5) << t;
  EXPECT_GT(std::abs(expected[2] - expected[1]), 1e-4);
}

TEST_P(DigitShiftModel, RowsHoldAllThatPredictionsNeed) {
  const Json config = {{"seed", 3},   {"tasks", 7},    {"tasks_per_pass", 3}, {"examples", 4},
                       {"layers", 2}, {"c", {.1, .2}}, {"descent_tasks", 2},  {"descent_steps", 30}};
  ASSERT_EQ(digit_shift_runs(config), 3U + 2U);
  const RunTask run_task = digit_shift_rows(config, model);
  std::vector<std::string> columns = digit_shift_columns();
  Table table(columns);
  for (size_t task = 0; task < digit_shift_runs(config); ++task)
    for (const Row& row : run_task(task, {})) {
      std::vector<std::string> cells;
      for (const Cell& cell : row) cells.push_back(text(cell));
      table.add(std::move(cells));
    }
  ASSERT_EQ(table.where("kind", "kernel").rows(), 7U);
  const DigitShiftRows rows = DigitShiftRows::read(config, table);
  ASSERT_EQ(rows.tasks.size(), 7U);
  ASSERT_EQ(rows.descents.size(), 2U);
  EXPECT_NE(rows.descents[0].task, rows.descents[1].task);

  // Gradient descent by hand from one row's cells: w ← w + ρ(r − Kw), prediction ŷ + k_xᵀw.
  const auto cells = [&](std::string_view column) { return read_number_list(table.text(4, column), column); };
  const std::vector<double> kernel = cells("kernel"), r = cells("residuals"), query = cells("query_kernel");
  const double rho = 0.2 / rows.tasks[4].spectrum.largest();
  std::vector<double> w(4);
  for (int t = 0; t < 8; ++t) {
    std::vector<double> next = w;
    for (size_t i = 0; i < 4; ++i) {
      next[i] += rho * r[i];
      for (size_t j = 0; j < 4; ++j) next[i] -= rho * kernel[i * 4 + j] * w[j];
    }
    w = next;
  }
  const double by_hand = table.number(4, "in_context") + dot(query, w);
  for (const RuleResult& rule : apply_step_rules(rows.tasks, 0.2)) {
    ASSERT_EQ(rule.predictions.size(), 7U);
    if (rule.name == "T = 8") {
      EXPECT_NEAR(rule.predictions[4], by_hand, 1e-9);
    }
    if (rule.name == "in context") {
      EXPECT_EQ(rule.predictions[4], table.number(4, "in_context"));
    }
  }
  // True descent of the task that its row names.
  const DigitShiftRows::Descent& descent = rows.descents[0];
  ASSERT_EQ(descent.answers.size(), 2U);
  const auto number = static_cast<size_t>(table.where("kind", "descent").number(0, "number"));
  ASSERT_EQ(descent.task, number);
  const DigitShift task = digit_shift(3, number, 4);
  const double largest = rows.tasks[number].spectrum.largest();
  const double rates[] = {0.1 / largest, 0.2 / largest};
  const auto expected = weight_descent(*model, digit_prompt(*model, task), task.targets(), blocks, readout, rates, 30);
  for (size_t c = 0; c < 2; ++c)
    for (size_t t = 0; t <= 30; ++t) EXPECT_NEAR(descent.answers[c][t], expected[c][t], 1e-4) << c << ", " << t;

  const Report report = digit_shift_report(config, table);
  EXPECT_EQ(report.summary.at("tasks"), 7U);
  EXPECT_EQ(report.findings.size(), 2 * (9U + 4U));
  EXPECT_NE(report.text.find("True gradient descent"), std::string::npos);
  EXPECT_EQ(digit_shift_report(config, table).summary, report.summary);

  const auto with = [&](std::string_view column, const std::string& cell) {  // in the first row
    Table damaged(columns);
    for (size_t row = 0; row < table.rows(); ++row) {
      std::vector<std::string> cells_of_row;
      for (const std::string& name : columns)
        cells_of_row.push_back(row == 0 && name == column ? cell : table.text(row, name));
      damaged.add(cells_of_row);
    }
    return damaged;
  };
  HONE_EXPECT_ERROR(DigitShiftRows::read(config, with("kernel", "1 2")), ErrorCode::corrupt,
                    "kernel holds 2 numbers, not 16");
  HONE_EXPECT_ERROR(DigitShiftRows::read(config, with("number", "5")), ErrorCode::corrupt,
                    "task number 5 in place of 0");
  HONE_EXPECT_ERROR(DigitShiftRows::read(config, with("kind", "other")), ErrorCode::corrupt, "6 tasks of 7");
}

TEST_P(DigitShiftModel, WhatDoesNotFitIsRefused) {
  const LabelledPrompt prompt = digit_prompt(*model, digit_shift(0, 0, 2)), none{};
  HONE_EXPECT_ERROR(prompt_kernels(*model, {&none, 1}, blocks, readout), ErrorCode::bad_input, "without examples");
  HONE_EXPECT_ERROR(prompt_kernels(*model, {&prompt, 1}, {}, readout), ErrorCode::bad_input, "at least one prompt");
  const double one[] = {1}, two[] = {0, 1};
  HONE_EXPECT_ERROR(weight_descent(*model, prompt, one, blocks, readout, one, 1), ErrorCode::bad_input,
                    "1 targets for 2 examples");
  HONE_EXPECT_ERROR(weight_descent(*model, prompt, two, {}, readout, one, 1), ErrorCode::bad_input,
                    "at least one block");
}

INSTANTIATE_TEST_SUITE_P(Models, DigitShiftModel, testing::Values("llama", "qwen2", "gemma3"),
                         [](const auto& parameter) { return std::string(parameter.param); });

TEST(NumberList, ReadsWhatItWrote) {
  const std::vector<double> values = {0.1, -3, 1e-17, 1.0 / 3, 12345678901234.5};
  EXPECT_EQ(read_number_list(number_list(values), "x"), values);
  EXPECT_EQ(number_list({}), "");
  EXPECT_TRUE(read_number_list("", "x").empty());
  for (const char* wrong : {" 1", "1 ", "1  2", "1,2", "a", "1 b"})
    HONE_EXPECT_ERROR(read_number_list(wrong, "kernel"), ErrorCode::corrupt, "column kernel");
}

}  // namespace
}  // namespace hone::lab::digit_shift_test
