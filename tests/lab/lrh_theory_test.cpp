// lrh-theory: its estimators by their optimality conditions, its closed forms by numeric integration and Monte Carlo,
// and the report of a small run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "lab/experiments.h"
#include "lab/lrh_model.h"
#include "lab/lrh_rows.h"
#include "lab/statistics.h"
#include "tests/expect_error.h"

namespace hone::lab::lrh_theory_test {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

double mean(const std::vector<double>& values) {
  return std::reduce(values.begin(), values.end()) / static_cast<double>(values.size());
}

void expect_near(const std::vector<double>& draws, double theory, double errors = 4) {
  EXPECT_NEAR(mean(draws), theory, errors * standard_error(draws));
}

TEST(LrhModel, SoftThresholdRisk) {
  for (const double threshold : {0.0, 1.0, 2.5})
    for (const double at : {0.0, 0.7, -2.0, 6.0}) {
      double sum = 0;
      constexpr double step = 1e-3;
      for (double z = -9; z < 9; z += step) {
        const double value = at + z;
        const double shrunk = std::copysign(std::max(std::abs(value) - threshold, 0.0), value);
        sum += std::pow(shrunk - at, 2) * std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi) * step;
      }
      EXPECT_NEAR(soft_threshold_risk(threshold, at), sum, 1e-6) << threshold << ' ' << at;
    }
}

TEST(LrhModel, LassoIsOptimal) {
  RandomStream random(1, "lasso");
  const MatrixXd x = draw_gaussian(random, 60, 100);
  const VectorXd y = 3 * x.col(4) - 2 * x.col(70) + draw_gaussian(random, 60, 1).col(0);
  const double penalty = 0.3;
  const VectorXd w = lasso(x, y, penalty);
  const VectorXd gradient = x.transpose() * (y - x * w) / 60;
  EXPECT_GT((w.array() != 0).count(), 2);
  EXPECT_LT((w.array() != 0).count(), 60);
  for (Index j = 0; j < 100; ++j) {
    if (w[j] != 0)
      EXPECT_NEAR(gradient[j], std::copysign(penalty, w[j]), 1e-5);
    else
      EXPECT_LE(std::abs(gradient[j]), penalty + 1e-5);
  }
  EXPECT_EQ(lasso(x, y, 1e3).norm(), 0);
}

TEST(LrhModel, PursuitFindsTheSupportWithoutNoise) {
  RandomStream random(2, "pursuit");
  const MatrixXd x = draw_gaussian(random, 80, 200);
  VectorXd w = VectorXd::Zero(200);
  for (const size_t j : draw_subset(random, 5, 200)) w[as_index(j)] = random.below(2) ? 1 : -1;
  EXPECT_EQ((w.array() != 0).count(), 5);
  EXPECT_LT((matching_pursuit(x, x * w, 5) - w).norm(), 1e-9);
}

TEST(LrhModel, LeastSquaresAndRidge) {
  RandomStream random(3, "least squares");
  const MatrixXd tall = draw_gaussian(random, 30, 7), wide = draw_gaussian(random, 7, 30);
  const VectorXd y = draw_gaussian(random, 30, 1).col(0), few = y.head(7);
  EXPECT_LT((tall.transpose() * (y - tall * least_squares(tall, y))).norm(), 1e-9);
  const VectorXd shortest = least_squares(wide, few);
  EXPECT_LT((wide * shortest - few).norm(), 1e-9);
  EXPECT_LT((shortest - wide.transpose() * (wide * wide.transpose()).ldlt().solve(few)).norm(), 1e-9);
  // Features of rank 3: the head of least norm lies in their span.
  const MatrixXd flat = tall.leftCols(3) * draw_gaussian(random, 3, 12);
  const VectorXd head = least_squares(flat, y);
  EXPECT_LT((flat.transpose() * (y - flat * head)).norm(), 1e-7);
  EXPECT_LT((head - flat.transpose() * least_squares(MatrixXd(flat * flat.transpose()), flat * head)).norm(), 1e-7);
  for (const MatrixXd& x : {tall, wide}) {
    const VectorXd labels = y.head(x.rows());
    const VectorXd v = ridge_regression(x, labels, 0.7);
    EXPECT_LT((x.transpose() * (labels - x * v) - 0.7 * v).norm(), 1e-9);
  }
}

TEST(LrhModel, TheBestGlobalHeadMissesOneMinusTheShareOfFeatures) {
  RandomStream random(4, "global");
  constexpr size_t d1 = 60;
  for (const size_t d2 : {6, 30, 54}) {
    std::vector<double> best, fitted;
    for (int draw = 0; draw < 150; ++draw) {
      const MatrixXd projection = draw_gaussian(random, d2, d1);
      VectorXd w = draw_gaussian(random, d1, 1).col(0);
      w.normalize();
      const GlobalHead global = best_global_head(projection, MatrixXd::Identity(d1, d1), w);
      best.push_back(global.error);
      EXPECT_NEAR((projection.transpose() * global.head - w).squaredNorm(), global.error, 1e-9);
      const MatrixXd concepts = draw_gaussian(random, 3 * d2 + 10, d1);
      const VectorXd head = least_squares(concepts * projection.transpose(), concepts * w);
      fitted.push_back((projection.transpose() * head - w).squaredNorm());
      EXPECT_GE(fitted.back(), global.error - 1e-9);
    }
    expect_near(best, global_error(d1, d2));
    expect_near(fitted, global_error(d1, d2) * least_squares_inflation(d2, 3 * d2 + 10));
  }
  // Another second moment: against least squares on very many examples of it.
  const MatrixXd projection = draw_gaussian(random, 4, 9), root = draw_gaussian(random, 9, 9);
  const VectorXd w = draw_gaussian(random, 9, 1).col(0);
  const MatrixXd concepts = draw_gaussian(random, 200000, 9) * root.transpose();
  const VectorXd head = least_squares(concepts * projection.transpose(), concepts * w);
  const GlobalHead global = best_global_head(projection, root * root.transpose(), w);
  EXPECT_LT((head - global.head).norm(), 0.03 * global.head.norm());
  const VectorXd missed = concepts * w - concepts * projection.transpose() * global.head;
  EXPECT_NEAR(missed.squaredNorm() / (concepts * w).squaredNorm(), global.error, 0.02 * global.error);
}

// Finite size leaves a few percent of state evolution.
TEST(LrhModel, TheLassoIsWhatStateEvolutionSays) {
  RandomStream random(5, "state evolution");
  constexpr size_t d1 = 300, s = 6, k = 500;
  const double coefficient = 1 / std::sqrt(6.0);
  const LassoTheory theory = lasso_theory(d1, s, k, 0.25, coefficient);
  std::vector<double> errors;
  for (int draw = 0; draw < 60; ++draw) {
    VectorXd w = VectorXd::Zero(d1);
    for (const size_t j : draw_subset(random, s, d1)) w[as_index(j)] = random.below(2) ? coefficient : -coefficient;
    const MatrixXd x = draw_gaussian(random, k, d1);
    errors.push_back((lasso(x, x * w + 0.5 * draw_gaussian(random, k, 1).col(0), theory.penalty) - w).squaredNorm());
  }
  EXPECT_NEAR(mean(errors), theory.error, 4 * standard_error(errors) + 0.03 * theory.error);
  // For many examples: σ² s (2 log(d1/s) + 1)/k and a little for the zeros.
  const LassoTheory many = lasso_theory(1000, 10, 1000000, 1, 1);
  const double rate = 10 * (2 * std::log(100.0) + 1) / 1e6;
  EXPECT_GT(many.error, rate);
  EXPECT_LT(many.error, 1.1 * rate);
  EXPECT_NEAR(many.penalty, std::sqrt(2 * std::log(100.0) / 1e6), 1e-5);
}

class LrhRun : public testing::Test {
 protected:
  static Json small_config(uint64_t seed = 0) {
    const Experiment& experiment = find_experiment("lrh-theory");
    Json config = {{"experiment", "lrh-theory"}, {"size", "quick"}, {"seed", seed}};
    config.update(experiment.settings(Size::quick));
    config["global"]["base"]["d1"] = 64;
    config["global"]["base"]["d2"] = 16;
    config["global"]["grid"]["d2"] = {4, 16, 48};
    config["global"]["draws"] = 60;
    config["shared"]["draws"] = 150;
    config["recovery"]["base"] = {{"d1", 128}, {"s", 4}, {"k", 400}, {"noise", 0.25}};
    config["recovery"]["grid"] = {
        {"k", {200, 400, 800}}, {"s", {2, 4, 8}}, {"d1", {32, 128, 512}}, {"noise", {0.1, 0.25, 1.0}}};
    config["recovery"]["draws"] = 80;
    config["locality"].update({{"groups", 256}, {"d2", {16, 64}}, {"k", {10, 50, 200}}, {"draws", 6}, {"queries", 30}});
    return config;
  }
  static Table rows_of(const Json& config) {
    std::vector<std::string> columns = {"task"};
    for (const std::string& column : lrh_columns()) columns.push_back(column);
    Table table(columns);
    for (size_t task = 0; task < lrh_tasks(config); ++task)
      for (const Row& row : lrh_rows(config, task, {})) {
        std::vector<std::string> cells = {std::to_string(task)};
        for (const Cell& cell : row) cells.push_back(text(cell));
        table.add(cells);
      }
    return table;
  }
};

TEST_F(LrhRun, MatchesItsClosedFormsAndFitsTheRates) {
  const Json config = small_config();
  const Table rows = rows_of(config);
  const Report report = lrh_report(config, rows);
  const Json& summary = report.summary;
  EXPECT_LT(summary.at("global").at("largest_z").get<double>(), 4);
  EXPECT_LT(summary.at("shared").at("largest_z").get<double>(), 4);
  EXPECT_LT(summary.at("recovery").at("largest_z_lasso").get<double>(), 4);
  const Json& exponents = summary.at("recovery").at("exponents");
  ASSERT_EQ(exponents.size(), 8u);
  for (const Json& one : exponents) {
    const double low = one.at("exponent_ci").at(0), high = one.at("exponent_ci").at(1), theory = one.at("theory");
    EXPECT_LT(low, high);
    EXPECT_GT(theory, low - 0.1) << one.dump();
    EXPECT_LT(theory, high + 0.1) << one.dump();
    if (one.at("method") != "lasso") continue;
    EXPECT_NEAR(one.at("exponent").get<double>(), one.at("published").get<double>(), 0.35) << one.dump();
  }
  const Json &cases = summary.at("locality").at("cases"), &curves = summary.at("locality").at("curves");
  ASSERT_EQ(cases.size(), 8u);    // noise, method, width
  ASSERT_EQ(curves.size(), 12u);  // noise, width, k
  EXPECT_GT(cases.at(0).at("gain_ci").at(0).get<double>(), 0) << "d2 = 16 of 256: local wins";
  EXPECT_GT(cases.at(0).at("gain").get<double>(), cases.at(1).at("gain").get<double>()) << "less as d2 grows";
  for (size_t i = 0; i < 12; i += 3) {  // of k = 200 at most 50 can be of the own group
    EXPECT_LE(curves.at(i + 2).at("own_share").get<double>(), 0.25);
    EXPECT_GT(curves.at(i + 2).at("own_share").get<double>(), 0.1);
  }
  for (size_t i = 0; i < 6; i += 3)  // foreign concepts, little noise
    EXPECT_GT(curves.at(i + 2).at("error").get<double>(), curves.at(i + 1).at("error").get<double>());
  for (const std::string part : {"## Global", "## Neighbours that share", "## Sparse recovery", "## Where local wins"})
    EXPECT_NE(report.text.find(part), std::string::npos) << part;
  EXPECT_EQ(report.figures.size(), 7u);
  EXPECT_GE(report.findings.size(), 8u);
}

// The last row of a part's method with another method's name, or all of them.
TEST_F(LrhRun, EditedRowsAreDamaged) {
  Json config = small_config();
  for (const char* part : {"global", "shared", "recovery"}) config[part]["draws"] = 4;
  config["recovery"]["grid"] = {{"k", {200, 400}}, {"s", {2, 4}}, {"d1", {32, 128}}, {"noise", {0.25, 1.0}}};
  config["locality"].update({{"groups", 32}, {"d2", {16}}, {"k", {10, 50}}, {"draws", 2}, {"queries", 5}});
  const Table rows = rows_of(config);
  const auto edited = [&](std::string_view part, std::string_view method, bool all) {
    Table table(rows.columns());
    size_t left = rows.where("part", part).where("method", method).rows();
    EXPECT_GT(left, 1U) << part;
    for (size_t i = 0; i < rows.rows(); ++i) {
      std::vector<std::string> cells;
      for (const std::string& column : rows.columns()) cells.push_back(rows.text(i, column));
      const bool found = rows.text(i, "part") == part && rows.text(i, "method") == method;
      if (found && (all || left == 1)) cells[7] = "another";
      left -= found;
      table.add(cells);
    }
    return lrh_report(config, table);
  };
  EXPECT_FALSE(lrh_report(config, rows).findings.empty());
  HONE_EXPECT_ERROR(edited("recovery", "lasso", false), ErrorCode::corrupt, "a setting has");
  EXPECT_THROW(edited("recovery", "lasso", true), std::out_of_range);
  HONE_EXPECT_ERROR(edited("locality", "global", false), ErrorCode::corrupt, "draws of the global head");
  HONE_EXPECT_ERROR(edited("locality", "plain", true), ErrorCode::corrupt, "no rows of method plain");
  EXPECT_THROW(edited("locality", "local", true), std::out_of_range);
}

TEST_F(LrhRun, RowsDependOnSeedAndTaskOnly) {
  Json config = small_config();
  EXPECT_EQ(lrh_rows(config, 3, {}), lrh_rows(config, 3, {}));
  EXPECT_NE(lrh_rows(config, 3, {}), lrh_rows(config, 4, {}));
  EXPECT_NE(lrh_rows(config, 3, {}), lrh_rows(small_config(1), 3, {}));
}

}  // namespace
}  // namespace hone::lab::lrh_theory_test
