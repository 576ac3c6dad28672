// What the pages of experiments that choose blocks say, from rows made here, against plain loops over the same rows.
#include <gtest/gtest.h>

#include <map>

#include "base/random.h"
#include "lab/block_rows.h"
#include "lab/number_list.h"
#include "tests/expect_error.h"

namespace hone::lab {
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
    EXPECT_EQ(finding.published, std::string(!trace ? "+0.5000" : first ? "+0.1250" : "+0.2500") + " (a paper)");
    const std::string c = finding.quantity.starts_with("c = 0.05") ? "0.05" : "0.2";
    const double gain = mean(gains(c, trace ? "Trace-TopK" : "Query-Aware", true, first ? 0 : 1));
    EXPECT_NEAR(std::stod(finding.ours), gain, 1e-5) << finding.quantity;
  }
}

TEST_F(BlockReport, RowsOfOtherBudgetsAreDamaged) {
  Report report;
  HONE_EXPECT_ERROR(add_block_report(report, {{"budgets", {1, 2, 4}}}, table, {}, ""), ErrorCode::corrupt,
                    "query_errors holds 2 numbers for 3 budgets");
}

}  // namespace
}  // namespace hone::lab
