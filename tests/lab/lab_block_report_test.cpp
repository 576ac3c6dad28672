// What choices of blocks are worth, and what the pages of experiments that choose them say, from rows made here,
// against plain loops over the same rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "base/random.h"
#include "hone/signal.h"
#include "lab/block_rows.h"
#include "lab/number_list.h"
#include "tests/expect_error.h"

namespace hone::lab::lab_block_report_test {
namespace {

constexpr size_t tasks = 30;
const std::vector<size_t> budgets = {1, 4};
const std::vector<std::string> rates = {"0.05", "0.2"};

class BlockReport : public testing::Test {
 protected:
  BlockReport() : table(block_columns()) {
    RandomStream random(2, "block-report");
    for (size_t task = 0; task < tasks; ++task)
      for (const std::string& c : rates) {
        const double hard = random.uniform();
        for (size_t m = 0; m < block_methods().size(); ++m) {
          const std::string method(block_methods()[m]);
          std::vector<double> query, fit;
          for (size_t b = 0; b < budgets.size(); ++b) {
            // Alike in the mean, but for one method, whose errors at the query are smaller by 1.
            const double alike = hard + ((task + m + b) % 2 == 0 ? 0.1 : -0.1);
            query.push_back(alike - (method == "Trace-TopK" ? 0.5 + random.uniform() : 0));
            fit.push_back(alike);
          }
          errors[{c, method}].push_back({query, fit});
          table.add({std::to_string(task), "blocks", c, method, "0.5", "0.4", "", "", "", number_list(query),
                     number_list(fit)});
        }
      }
  }
  // Random's error minus the method's, [tasks].
  std::vector<double> gains(const std::string& c, const std::string& method, bool of_query, size_t budget) const {
    std::vector<double> result;
    const auto &random = errors.at({c, "Random"}), &own = errors.at({c, method});
    for (size_t i = 0; i < tasks; ++i) {
      const auto of = [&](const TaskErrors& one) { return of_query ? one.query[budget] : one.fit[budget]; };
      result.push_back(of(random[i]) - of(own[i]));
    }
    return result;
  }

  struct TaskErrors {
    std::vector<double> query, fit;  // [budgets]
  };
  std::map<std::pair<std::string, std::string>, std::vector<TaskErrors>> errors;  // of (c, method), [tasks]
  Json config = {{"budgets", budgets}};
  Table table;
};

TEST_F(BlockReport, GainsArePairedDifferencesFromRandom) {
  Report report;
  add_block_report(report, config, table, {}, "");
  size_t entries = 0;
  for (const Json& entry : report.summary.at("blocks")) {
    const bool of_query = entry.at("of") == "query";
    const std::string c = entry.at("c") == 0.05 ? "0.05" : "0.2";
    const size_t budget = entry.at("budget") == 1 ? 0 : 1;
    const std::vector<double> wanted = gains(c, entry.at("method"), of_query, budget);
    EXPECT_NEAR(entry.at("gain").get<double>(), mean(wanted), 1e-12) << entry;
    EXPECT_NEAR(entry.at("standard_error").get<double>(), standard_error(wanted), 1e-12) << entry;
    ++entries;
  }
  EXPECT_EQ(entries, rates.size() * 2 * budgets.size() * (block_methods().size() - 1));
  EXPECT_EQ(report.figures.size(), rates.size() * 2);
}

TEST_F(BlockReport, DifferencesAreFoundWhereTheyAre) {
  Report report;
  add_block_report(report, config, table, {}, "");
  const size_t against_random = budgets.size() * (block_methods().size() - 1);
  const size_t methods = block_methods().size() - 2;  // without Random and All
  size_t families = 0;
  for (const Json& family : report.summary.at("block_differences")) {
    const std::string of = family.at("of");
    EXPECT_EQ(family.at("pairs").size(),
              of == "query, between methods" ? budgets.size() * methods * (methods - 1) / 2 : against_random);
    for (const Json& pair : family.at("pairs")) {
      const std::string a = pair.at("a"), b = pair.at("b");
      const bool best = a.starts_with("Trace-TopK") || b.starts_with("Trace-TopK");
      EXPECT_EQ(pair.at("found"), of != "fit" && best) << pair;
      if (best && of == "query") {
        EXPECT_NEAR(pair.at("difference").get<double>(), 1, 0.4) << pair;
      }
    }
    ++families;
  }
  EXPECT_EQ(families, rates.size() * 3);
}

TEST_F(BlockReport, PublishedGainsStandBesideTheSameBudget) {
  Report report;
  const PublishedGain published[] = {{"Trace-TopK", {.125, .25}}, {"Query-Aware", {.5}}};
  add_block_report(report, config, table, published, "a paper");
  ASSERT_EQ(report.findings.size(), rates.size() * 3);
  for (const Finding& finding : report.findings) {
    const bool trace = finding.quantity.find("Trace-TopK") != std::string::npos;
    const bool first = finding.quantity.ends_with("budget 1");
    EXPECT_EQ(finding.published, !trace ? "+0.5000 (a paper)" : first ? "+0.1250 (a paper)" : "+0.2500 (a paper)");
    const std::string c = finding.quantity.starts_with("c = 0.05") ? "0.05" : "0.2";
    const double gain = mean(gains(c, trace ? "Trace-TopK" : "Query-Aware", true, first ? 0 : 1));
    EXPECT_NEAR(std::stod(finding.ours), gain, 1e-5) << finding.quantity;
  }
}

TEST_F(BlockReport, RowsOfOtherTasksThanRandomsAreDamaged) {
  const std::string list = number_list(std::vector<double>(budgets.size(), 0.5));
  table.add({"30", "blocks", "0.2", "Exact", "0.5", "0.4", "", "", "", list, list});
  Report report;
  HONE_EXPECT_ERROR(add_block_report(report, config, table, {}, ""), ErrorCode::corrupt,
                    "Exact, budget 1 has 31 tasks, Random 30");
}

TEST_F(BlockReport, RowsOfOtherBudgetsAreDamaged) {
  Report report;
  HONE_EXPECT_ERROR(add_block_report(report, {{"budgets", {1, 2, 4}}}, table, {}, ""), ErrorCode::corrupt,
                    "query_errors holds 2 numbers for 3 budgets");
}

// Trace-TopK fits best within one block, Exact within four; 32 are all there are.
TEST(BlockBudget, WhereAllBlocksAreTakenNothingIsBest) {
  const Experiment& experiment = find_experiment("block-budget");
  std::vector<std::string> columns = {"task", "rows_left"};
  for (const std::string& column : experiment.columns()) columns.push_back(column);
  Table table(columns);
  const std::map<std::string_view, std::vector<double>> errors = {{"Random", {1, 1, 0.5 + 1e-16}},
                                                                  {"Trace-TopK", {0.6, 0.9, 0.5}},
                                                                  {"Exact", {0.7, 0.8, 0.55}},
                                                                  {"All", {0.5, 0.5, 0.5}}};
  for (int task = 0; task < 5; ++task)
    for (const std::string_view method : block_methods()) {
      const auto own = errors.find(method);
      const std::string list = number_list(own == errors.end() ? std::vector<double>{0.9, 0.95, 0.5} : own->second);
      table.add({std::to_string(task), "0", std::to_string(task), "blocks", "0.1", std::string(method), "0.5", "0.4",
                 "", "", "", list, list});
    }
  const Report report = experiment.report({{"budgets", {1, 4, 32}}}, table);
  EXPECT_EQ(report.findings.back().quantity, "Trace-TopK has the best prompt fit at every budget");
  EXPECT_EQ(report.findings.back().ours, "c = 0.1: 1 of the 2 budgets below the number of blocks");
}

// A prompt of n examples and B blocks, each of three parameters.
PromptKernels random_prompt(RandomStream& random, size_t n, size_t blocks) {
  PromptKernels prompt;
  prompt.answer = random.normal();
  prompt.kernels = Matrix(blocks, n * n);
  prompt.queries = Matrix(blocks, n);
  for (size_t b = 0; b < blocks; ++b)
    for (int parameter = 0; parameter < 3; ++parameter) {
      std::vector<double> gradient(n + 1);  // the query's last
      for (double& value : gradient) value = random.normal();
      for (size_t i = 0; i < n; ++i) {
        prompt.queries.row(b)[i] += static_cast<float>(gradient[i] * gradient[n]);
        for (size_t j = 0; j < n; ++j)
          prompt.kernels.row(b)[i * n + j] += static_cast<float>(gradient[i] * gradient[j]);
      }
      prompt.query_norm += gradient[n] * gradient[n];
    }
  return prompt;
}

// Squared error at the query after T steps inside some blocks, of a truth of 0.
double query_error(const PromptKernels& prompt, std::span<const double> residuals, std::span<const size_t> chosen,
                   double rho, size_t steps) {
  const decide::BlockSum sum = decide::sum_blocks(prompt.blocks(), chosen);
  const decide::Spectrum spectrum(sum.kernel);
  const std::vector<double> filter = decide::descent_filter(spectrum, rho, static_cast<double>(steps));
  const double moved =
      decide::correction(filter, spectrum.coordinates(sum.query, "k_x"), spectrum.coordinates(residuals, "r"));
  return std::pow(prompt.answer + moved, 2);
}

TEST(BlockMethods, ExactIsScoredAtTheStepsItChose) {
  constexpr size_t n = 6, blocks = 5;
  const std::vector<int> layers = {0, 1, 2, 3, 4};
  const BlockChoiceOptions options{.c = 0.3, .budgets = {1, 2, 4, 9}, .random_draws = 1, .stream = "choose", .seed = 0};
  size_t fewest = options.steps;
  for (uint64_t draw = 0; draw < 8; ++draw) {
    RandomStream random(draw, "prompt");
    const PromptKernels prompt = random_prompt(random, n, blocks);
    std::vector<double> residuals(n);
    for (double& residual : residuals) residual = 4 * random.normal();
    const decide::Spectrum full(decide::sum_blocks(prompt.blocks()).kernel);
    const double rho = decide::step_size(full, options.c);
    const double fitted = decide::fit_signal(full, full.coordinates(residuals, "r")).lambda_star();
    const double square = std::inner_product(residuals.begin(), residuals.end(), residuals.begin(), 0.0);
    const decide::BlockPath path =
        decide::exact_blocks(prompt.blocks(), full, prompt.query_norm, std::isfinite(fitted) ? fitted : square / n, rho,
                             options.steps, blocks);
    for (const MethodErrors& choice : compare_block_methods(prompt, layers, residuals, 0, options))
      for (size_t at = 0; at < options.budgets.size(); ++at) {
        const size_t budget = std::min(options.budgets[at], blocks);
        if (choice.method == "Exact") {
          const double error =
              query_error(prompt, residuals, std::span(path.chosen).first(budget), rho, path.steps[budget - 1]);
          EXPECT_NEAR(choice.query[at], error, 1e-9 * (1 + error)) << draw << " " << budget;
          fewest = std::min(fewest, path.steps[budget - 1]);
        } else if (choice.method == "Last-layer") {
          const std::vector<size_t> last = decide::last_layer_blocks(layers, budget);
          const double error = query_error(prompt, residuals, last, rho, options.steps);
          EXPECT_NEAR(choice.query[at], error, 1e-9 * (1 + error)) << draw << " " << budget;
        }
      }
  }
  EXPECT_LT(fewest, options.steps);
}

}  // namespace
}  // namespace hone::lab::lab_block_report_test
