// The digit-shift page's numbers, from rows made here, against plain loops over the same rows.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>

#include "lab/digit_shift_rows.h"
#include "lab/number_list.h"
#include "tests/random_kernel.h"

namespace hone::lab::digit_shift_report_test {
namespace {

constexpr size_t tasks = 42, n = 4, longest = 300;
constexpr size_t descended[] = {3, 10, 21};
const std::vector<double> rates = {.05, .2};  // c

struct HandMade {
  decide::Dense kernel;
  decide::Column query, residuals;
  double in_context, target;
  bool noisy;

  // ŷ + k_xᵀw after t steps w ← w + ρ(r − Kw) for t = 0 … 300.
  std::vector<double> path(double c) const {
    const double rho = c / kernel.selfadjointView<Eigen::Lower>().eigenvalues().maxCoeff();
    decide::Column w = decide::Column::Zero(n);
    std::vector<double> predictions;
    for (size_t t = 0; t <= longest; ++t) {
      predictions.push_back(in_context + query.dot(w));
      w += rho * (residuals - kernel * w);
    }
    return predictions;
  }
};

std::vector<HandMade> draw_tasks() {
  RandomStream random(4, "digit-shift-report");
  std::vector<HandMade> drawn;
  for (size_t i = 0; i < tasks; ++i) {
    const decide::Problem p = decide::random_problem(random, n, 9);
    drawn.push_back({p.kernel, 0.3 * p.query, 0.1 * p.residuals, random.uniform(), random.uniform(), i % 3 == 0});
  }
  return drawn;
}

double descent_answer(size_t task, size_t c, size_t t) {
  return 0.1 * static_cast<double>(task % 7) + 0.01 * static_cast<double>(t) + 0.2 * static_cast<double>(c);
}

class DigitShiftReport : public testing::Test {
 protected:
  DigitShiftReport() : table(digit_shift_columns()) {
    for (size_t i = 0; i < tasks; ++i) {
      const HandMade& task = drawn[i];
      const decide::Matrix64 kernel = decide::to_matrix64(task.kernel);
      add({static_cast<int64_t>(i), std::string("kernel"), static_cast<int64_t>(task.noisy), 1.0, int64_t{0},
           task.target, task.in_context, number_list(decide::to_vector(task.residuals)),
           number_list(decide::to_vector(task.query)), number_list(kernel.values), std::string()});
    }
    for (const size_t i : descended) {
      std::vector<double> answers;
      for (size_t c = 0; c < rates.size(); ++c)
        for (size_t t = 0; t <= 30; ++t) answers.push_back(descent_answer(i, c, t));
      add({static_cast<int64_t>(i), std::string("descent"), static_cast<int64_t>(drawn[i].noisy), 1.0, int64_t{0},
           drawn[i].target, drawn[i].in_context, std::string(), std::string(), std::string(), number_list(answers)});
    }
    report = digit_shift_report(config, table);
  }
  void add(const Row& row) {
    std::vector<std::string> cells;
    for (const Cell& cell : row) cells.push_back(text(cell));
    table.add(std::move(cells));
  }
  // The entry of an array of the summary that has these values.
  const Json& entry(const char* array, const Json& with) const {
    for (const Json& one : report.summary.at(array)) {
      bool fits = true;
      for (const auto& [key, value] : with.items()) fits = fits && one.at(key) == value;
      if (fits) return one;
    }
    throw std::out_of_range(std::string(array) + " " + with.dump());
  }
  // Squared errors of t steps for the tasks of a condition: "all", "clean" or "noisy".
  std::vector<double> errors(double c, size_t t, const std::string& condition) const {
    std::vector<double> squares;
    for (const HandMade& task : drawn)
      if (condition == "all" || task.noisy == (condition == "noisy"))
        squares.push_back(std::pow(task.path(c)[t] - task.target, 2));
    return squares;
  }

  std::vector<HandMade> drawn = draw_tasks();
  Json config = {{"seed", 3},   {"tasks", tasks}, {"tasks_per_pass", 4}, {"examples", n},
                 {"layers", 2}, {"c", rates},     {"descent_tasks", 3},  {"descent_steps", 30}};
  Table table;
  Report report;
};

TEST_F(DigitShiftReport, FixedStepsAreGradientDescent) {
  for (const double c : rates) {
    std::vector<double> sums(longest + 1);
    for (const HandMade& task : drawn) {
      const std::vector<double> path = task.path(c);
      for (size_t t = 0; t <= longest; ++t) sums[t] += std::pow(path[t] - task.target, 2);
    }
    const Json& mse = entry("fixed_steps", {{"c", c}}).at("mse");
    ASSERT_EQ(mse.size(), longest + 1);
    for (size_t t = 0; t <= longest; ++t) EXPECT_NEAR(mse[t].get<double>(), sums[t] / tasks, 1e-9) << c << ", " << t;
  }
}

TEST_F(DigitShiftReport, ConditionsAreScoredApart) {
  const std::pair<const char*, size_t> rules[] = {{"in context", 0}, {"T = 8", 8}, {"T = 30", 30}};
  for (const double c : rates)
    for (const auto& [rule, steps] : rules) {
      const Json& of_rule = entry("rules", {{"c", c}, {"rule", rule}});
      EXPECT_EQ(of_rule.at("published"), steps != 30);
      for (const char* condition : {"all", "clean", "noisy"}) {
        const std::vector<double> squares = errors(c, steps, condition);
        EXPECT_NEAR(of_rule.at(condition).at("mse").get<double>(), mean(squares), 1e-9) << rule << ", " << condition;
        EXPECT_NEAR(of_rule.at(condition).at("standard_error").get<double>(), standard_error(squares), 1e-9);
      }
    }
}

TEST_F(DigitShiftReport, EachHalfIsJudgedByTheStepsThatAreBestOnTheOther) {
  for (const double c : rates)
    for (const std::string condition : {"clean", "noisy"}) {
      std::array<std::vector<double>, 2> sums = {std::vector<double>(longest + 1), std::vector<double>(longest + 1)};
      size_t seen = 0;
      for (const HandMade& task : drawn) {
        if (task.noisy != (condition == "noisy")) continue;
        const std::vector<double> path = task.path(c);
        std::vector<double>& half = sums[seen++ % 2];
        for (size_t t = 0; t <= longest; ++t) half[t] += std::pow(path[t] - task.target, 2);
      }
      const auto best = [](const std::vector<double>& half) {
        return static_cast<size_t>(std::ranges::min_element(half) - half.begin());
      };
      const size_t for_even = best(sums[1]), for_odd = best(sums[0]);
      const std::vector<double> thirty = errors(c, 30, condition);
      const auto count = static_cast<double>(thirty.size());
      const double fixed = (sums[0][for_even] + sums[1][for_odd]) / count;
      const double rule = std::reduce(thirty.begin(), thirty.end()) / count;
      const std::string name = condition + (c == .05 ? ", c = 0.05" : ", c = 0.2");
      EXPECT_EQ(report.summary.at("best_fixed_steps").at(name), Json({for_even, for_odd}));
      const Json& not_worse = entry("not_worse", {{"rule", "T = 30"}, {"condition", name}});
      EXPECT_NEAR(not_worse.at("fixed_mse").get<double>(), fixed, 1e-9);
      EXPECT_NEAR(not_worse.at("difference").get<double>(), rule - fixed, 1e-9);
      EXPECT_LE(not_worse.at("low").get<double>(), not_worse.at("difference").get<double>());
      EXPECT_GE(not_worse.at("high").get<double>(), not_worse.at("difference").get<double>());
    }
}

TEST_F(DigitShiftReport, TrueDescentStandsBesideTheLinearisedOne) {
  for (size_t c = 0; c < rates.size(); ++c)
    for (const size_t t : {size_t{1}, size_t{8}, size_t{30}}) {
      double truly = 0, linearised = 0, gap = 0, moved = 0;
      for (const size_t i : descended) {
        const double answer = descent_answer(i, c, t), linear = drawn[i].path(rates[c])[t];
        truly += std::pow(answer - drawn[i].target, 2) / 3;
        linearised += std::pow(linear - drawn[i].target, 2) / 3;
        gap += std::pow(answer - linear, 2) / 3;
        moved += std::pow(linear - drawn[i].in_context, 2) / 3;
      }
      const Json& of_steps = entry("descent", {{"c", rates[c]}, {"steps", t}});
      EXPECT_NEAR(of_steps.at("mse").get<double>(), truly, 1e-9);
      EXPECT_NEAR(of_steps.at("linearised_mse").get<double>(), linearised, 1e-9);
      EXPECT_NEAR(of_steps.at("rms_difference").get<double>(), std::sqrt(gap), 1e-9);
      EXPECT_NEAR(of_steps.at("rms_correction").get<double>(), std::sqrt(moved), 1e-9);
    }
}

TEST_F(DigitShiftReport, EveryBoundHolds) {
  ASSERT_EQ(report.summary.at("bounded").size(), 2 * rates.size());
  for (const Json& one : report.summary.at("bounded"))
    EXPECT_LE(one.at("excess").get<double>(), one.at("bound").get<double>());
}

}  // namespace
}  // namespace hone::lab::digit_shift_report_test
