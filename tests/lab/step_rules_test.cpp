// Rules over a stream of tasks, choices of blocks, and SST-2's prompts, from random kernels and tiny models.
#include "lab/step_rules.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <numeric>
#include <set>

#include "lab/block_choice.h"
#include "lab/not_worse.h"
#include "lab/sst2_tasks.h"
#include "lab/statistics.h"
#include "lab/stream_rules.h"
#include "tests/expect_error.h"
#include "tests/golden.h"
#include "tests/random_kernel.h"
#include "tests/temporary_folder.h"

namespace hone::lab::step_rules_test {
namespace {

using decide::Dense;
using decide::Problem;

// Tasks whose answers lie in [0, 1].
std::vector<StepTask> random_tasks(size_t count, size_t n = 6) {
  RandomStream random(1, "tasks");
  std::vector<StepTask> tasks;
  for (size_t i = 0; i < count; ++i) {
    Problem p = decide::random_problem(random, n, 9);
    p.residuals *= 0.1;
    p.query *= 0.3;
    tasks.emplace_back(decide::to_matrix64(p.kernel), p.k(), p.r(), random.uniform(), random.uniform());
  }
  return tasks;
}

const RuleResult& find(const std::vector<RuleResult>& rules, std::string_view name) {
  for (const RuleResult& rule : rules)
    if (rule.name == name) return rule;
  throw std::out_of_range(std::string(name));
}

TEST(StepRules, EvidenceChoosesTheBestDensityOfAllSteps) {
  const std::vector<StepTask> tasks = random_tasks(12);
  constexpr double c = 0.2;
  const auto rules = apply_step_rules(tasks, c);
  for (size_t i = 0; i < tasks.size(); ++i) {
    const Dense kernel = decide::to_dense(tasks[i].kernel);
    const auto r = decide::to_column(tasks[i].residuals);
    const auto n = static_cast<double>(r.size());
    const double rho = c / tasks[i].spectrum.largest(), variance = r.squaredNorm() / n;
    Dense power = Dense::Identity(r.size(), r.size());
    double best_fixed = INFINITY, best_mle = INFINITY;
    int fixed = 0, mle = 0;
    for (int t = 0; t <= 30; ++t) {
      // −2 log N(r; 0, σ²(I − ρK)^{−T}) without constants.
      const double log_det = -std::log(power.determinant()), quadratic = r.dot(power * r);
      const double with_fixed = n * std::log(variance) + log_det + quadratic / variance;
      const double with_mle = n * std::log(quadratic / n) + log_det;
      if (with_fixed < best_fixed - 1e-9) best_fixed = with_fixed, fixed = t;
      if (with_mle < best_mle - 1e-9) best_mle = with_mle, mle = t;
      power = power * (Dense::Identity(r.size(), r.size()) - rho * kernel);
    }
    EXPECT_EQ(find(rules, "evidence, fixed σ").steps[i], fixed);
    EXPECT_EQ(find(rules, "evidence, MLE").steps[i], mle);
    EXPECT_DOUBLE_EQ(find(rules, "evidence, MLE").predictions[i], tasks[i].prediction(c, mle));
  }
}

TEST(StepRules, LeaveOneOutChoosesByRefittingWithoutEachExample) {
  const std::vector<StepTask> tasks = random_tasks(5, 5);
  constexpr double c = 0.1;
  const auto rules = apply_step_rules(tasks, c);
  for (size_t i = 0; i < tasks.size(); ++i) {
    const double rho = c / tasks[i].spectrum.largest();
    std::vector<double> errors(31);
    for (size_t out = 0; out < 5; ++out) {
      std::vector<double> w(5);
      for (size_t t = 0; t <= 30; ++t) {
        double prediction = 0;
        for (size_t j = 0; j < 5; ++j) prediction += tasks[i].kernel(out, j) * w[j];
        errors[t] += std::pow(tasks[i].residuals[out] - prediction, 2);
        std::vector<double> next = w;
        for (size_t j = 0; j < 5; ++j) {
          if (j == out) continue;
          next[j] += rho * tasks[i].residuals[j];
          for (size_t k = 0; k < 5; ++k) next[j] -= rho * tasks[i].kernel(j, k) * w[k];
        }
        w = next;
      }
    }
    const auto best = std::ranges::min_element(errors) - errors.begin();
    EXPECT_EQ(find(rules, "leave-one-out to 30").steps[i], static_cast<double>(best));
  }
}

TEST(StepRules, OnlyRulesThatSaySoDependOnAnswers) {
  std::vector<StepTask> tasks = random_tasks(20);
  const auto before = apply_step_rules(tasks, 0.1);
  for (StepTask& task : tasks) task.target = 1 - task.target;
  const auto after = apply_step_rules(tasks, 0.1);
  for (size_t r = 0; r < before.size(); ++r) {
    const bool changed = before[r].predictions != after[r].predictions;
    EXPECT_EQ(changed, before[r].sees == Sees::truths) << before[r].name;
  }
}

TEST(StepRules, NoRuleDependsOnTheAnswerOfTheTaskItPredicts) {
  std::vector<StepTask> tasks = random_tasks(12);
  const auto before = apply_step_rules(tasks, 0.1);
  tasks.back().target = 1 - tasks.back().target;
  const auto after = apply_step_rules(tasks, 0.1);
  for (size_t r = 0; r < before.size(); ++r) EXPECT_EQ(before[r].predictions, after[r].predictions) << before[r].name;
}

TEST(StepRules, RulesOfOnePromptFollowFromItsKernel) {
  constexpr double c = 0.1;
  const std::vector<StepTask> tasks = random_tasks(3);
  const auto rules = apply_step_rules(tasks, c);
  for (size_t i = 0; i < tasks.size(); ++i) {
    const StepTask& task = tasks[i];
    const double rho = decide::step_size(task.spectrum, c), n = static_cast<double>(task.residuals.size());
    const decide::StepEvidence evidence(task.spectrum, task.coordinates, rho, decide::Noise::profiled);
    const double lambda_star = decide::fit_signal(task.spectrum, task.coordinates).lambda_star();
    double gibbs = 0, gibbs_sum = 0, geometric = 0, geometric_sum = 0, least = std::numeric_limits<double>::infinity();
    const std::vector<double> steps = wide_steps();
    for (size_t t = 0; t < steps.size(); ++t) {
      const double weight = std::exp(-n * (evidence.score(steps[t]) - evidence.score(0)));
      const double below = steps[t == 0 ? 0 : t - 1], above = steps[std::min(t + 1, steps.size() - 1)];
      const double prior = std::pow(1 + rho * lambda_star, -steps[t]) * std::max((above - below) / 2, 1.0);
      gibbs += weight * task.prediction(c, steps[t]);
      gibbs_sum += weight;
      geometric += prior * weight * task.prediction(c, steps[t]);
      geometric_sum += prior * weight;
      least = std::min(least, evidence.score(steps[t]));
    }
    EXPECT_NEAR(find(rules, "Gibbs, MLE").predictions[i], gibbs / gibbs_sum, 1e-9);
    EXPECT_NEAR(find(rules, "Gibbs, geometric prior").predictions[i], geometric / geometric_sum, 1e-9);
    const double real = find(rules, "real T, MLE").steps[i];
    EXPECT_LE(evidence.score(real), least + 1e-9);
    EXPECT_NEAR(find(rules, "real T, MLE").predictions[i], task.prediction(c, real), 1e-12);
    const Dense covariance = decide::to_dense(task.kernel) + lambda_star * Dense::Identity(6, 6);
    const auto k_x = decide::to_column(task.spectrum.combination(task.query));
    EXPECT_NEAR(find(rules, "Bayes filter").predictions[i],
                task.base + k_x.dot(covariance.ldlt().solve(decide::to_column(task.residuals))), 1e-9);
  }
}

TEST(StepRules, NoRuleDependsOnLaterTasks) {
  const std::vector<StepTask> tasks = random_tasks(15);
  const auto all = apply_step_rules(tasks, 0.1), few = apply_step_rules(std::span(tasks).first(9), 0.1);
  for (size_t r = 0; r < all.size(); ++r)
    for (size_t i = 0; i < 9; ++i) EXPECT_EQ(all[r].predictions[i], few[r].predictions[i]) << all[r].name << ", " << i;
}

TEST(StepRules, TheFirstTaskHasNothingToPool) {
  const std::vector<StepTask> tasks = random_tasks(1);
  const auto rules = apply_step_rules(tasks, 0.1);
  for (const char* pooled : {"pooled leave-one-out", "pooled leave-one-out, alike"})
    EXPECT_EQ(find(rules, pooled).steps, find(rules, "leave-one-out").steps);
}

// The most probable prior over the columns of `evidence` [prompts][choices], Dirichlet with ten prompts' worth of a
// uniform one, by plain expectation maximisation.
std::vector<double> most_probable_prior(const std::vector<std::vector<double>>& evidence) {
  constexpr double strength = 10;
  const size_t choices = evidence[0].size();
  std::vector<double> prior(choices, 1.0 / static_cast<double>(choices));
  for (int iteration = 0; iteration < 20000; ++iteration) {
    std::vector<double> counts(choices, strength / static_cast<double>(choices));
    for (const std::vector<double>& row : evidence) {
      const double sum = weighted_sum(prior, row);
      for (size_t t = 0; t < choices; ++t) counts[t] += prior[t] * row[t] / sum;
    }
    for (size_t t = 0; t < choices; ++t) prior[t] = counts[t] / (strength + static_cast<double>(evidence.size()));
  }
  return prior;
}

// The mean of `predictions` with weights ∝ prior · evidence.
double posterior_mean(std::span<const double> prior, std::span<const double> evidence,
                      std::span<const double> predictions) {
  double sum = 0, total = 0;
  for (size_t t = 0; t < prior.size(); ++t) {
    sum += prior[t] * evidence[t];
    total += prior[t] * evidence[t] * predictions[t];
  }
  return total / sum;
}

TEST(StepRules, PooledPriorsAreTheMostProbableOnes) {
  constexpr double c = 0.1;
  const std::vector<StepTask> tasks = random_tasks(5);
  const auto rules = apply_step_rules(tasks, c);
  const std::vector<double> steps = wide_steps();
  std::vector<std::vector<double>> of_steps, of_ridges;
  for (size_t i = 0; i < tasks.size(); ++i) {
    const StepTask& task = tasks[i];
    const decide::StepEvidence evidence(task.spectrum, task.coordinates, decide::step_size(task.spectrum, c),
                                        decide::Noise::profiled);
    std::vector<double> densities, predictions;
    for (const double t : steps) {
      densities.push_back(std::exp(-6 * (evidence.score(t) - evidence.score(0))));
      predictions.push_back(task.prediction(c, t));
    }
    of_steps.push_back(densities);
    EXPECT_NEAR(find(rules, "pooled prior").predictions[i],
                posterior_mean(most_probable_prior(of_steps), densities, predictions), 1e-6)
        << i;

    const Dense kernel = decide::to_dense(task.kernel);
    const auto r = decide::to_column(task.residuals);
    const auto k_x = task.spectrum.combination(task.query);
    densities.clear();
    predictions.clear();
    for (int ridge = -24; ridge <= 16; ++ridge) {  // N(r; 0, τ²(K + λ* I)) at its best τ²
      const Dense covariance = kernel + std::exp2(0.5 * ridge) * task.spectrum.largest() * Dense::Identity(6, 6);
      const Eigen::VectorXd solved = covariance.ldlt().solve(r);
      densities.push_back(std::pow(r.dot(solved) / 6, -3) / std::sqrt(covariance.determinant()));
      predictions.push_back(task.base + decide::to_column(k_x).dot(solved));
    }
    const double largest = *std::ranges::max_element(densities);
    for (double& density : densities) density /= largest;
    of_ridges.push_back(densities);
    EXPECT_NEAR(find(rules, "pooled Bayes filter").predictions[i],
                posterior_mean(most_probable_prior(of_ridges), densities, predictions), 1e-6)
        << i;
  }
}

// With few tasks before, errors are summed as they are.
TEST(StepRules, PooledLeaveOneOutSumsTheErrorsOfTheTasksBefore) {
  const std::vector<StepTask> tasks = random_tasks(4);
  const RuleStream stream(tasks, 0.1);
  const RuleResult all = pooled_left_out(stream, "all", false), alike = pooled_left_out(stream, "alike", true);
  for (size_t i = 0; i < tasks.size(); ++i) {
    std::vector<double> sum_all(stream.steps.size()), sum_alike(stream.steps.size());
    for (size_t j = 0; j <= i; ++j) {
      const double apart = std::log(decide::to_column(tasks[j].residuals).squaredNorm()) -
                           std::log(decide::to_column(tasks[i].residuals).squaredNorm());
      const double likeness = std::exp(-apart * apart / (2 * alike_width * alike_width));
      for (size_t t = 0; t < stream.steps.size(); ++t) {
        sum_all[t] += stream.prepared[j].left_out[t];
        sum_alike[t] += likeness * stream.prepared[j].left_out[t];
      }
    }
    EXPECT_EQ(all.steps[i], stream.steps[static_cast<size_t>(std::ranges::min_element(sum_all) - sum_all.begin())]);
    EXPECT_EQ(alike.steps[i],
              stream.steps[static_cast<size_t>(std::ranges::min_element(sum_alike) - sum_alike.begin())]);
  }
}

TEST(StepRules, StackedStepsAndRulesAreRidgeRegressionOnEarlierAnswers) {
  const std::vector<StepTask> tasks = random_tasks(12);
  constexpr double c = 0.2;
  const auto rules = apply_step_rules(tasks, c);
  const auto gibbs = find(rules, "Gibbs, MLE").predictions, left_out = find(rules, "leave-one-out mixture").predictions,
             signal = find(rules, "pooled signal").predictions;
  Dense features(12, 6);
  Eigen::VectorXd missing(12);
  for (Eigen::Index i = 0; i < 12; ++i) {
    const auto at = static_cast<size_t>(i);
    const StepTask& task = tasks[at];
    features.row(i) << task.prediction(c, 2), task.prediction(c, 20), task.prediction(c, 200), gibbs[at], left_out[at],
        signal[at];
    features.row(i).array() -= task.base;
    missing(i) = task.target - task.base;
    for (const auto& [name, width] : {std::pair("stacked steps", 3), std::pair("stacked rules", 6)}) {
      const Dense before = features.topLeftCorner(i, width);
      const Eigen::VectorXd coefficients = (before.transpose() * before + 0.1 * Dense::Identity(width, width))
                                               .ldlt()
                                               .solve(before.transpose() * missing.head(i));
      EXPECT_NEAR(find(rules, name).predictions[at], task.base + features.row(i).head(width).dot(coefficients), 1e-9)
          << name << " " << i;
    }
    EXPECT_NEAR(find(rules, "stacked and Gibbs").predictions[at],
                (2 * find(rules, "stacked rules").predictions[at] + gibbs[at]) / 3, 1e-12);
  }
}

// −log N(r; 0, τ²K/k̄ + σ²I) without constants, and the prediction, by dense algebra.
TEST(StepRules, ThePooledSignalIsAMixtureOfPosteriorMeans) {
  const std::vector<StepTask> tasks = random_tasks(4);
  const auto [rule, log_noise] = pooled_signal(RuleStream(tasks, 0.1));
  std::vector<double> counts(13 * 14, 1.0 / (13 * 14));
  double diagonals = 0;
  for (size_t i = 0; i < tasks.size(); ++i) {
    const Dense kernel = decide::to_dense(tasks[i].kernel);
    const auto r = decide::to_column(tasks[i].residuals);
    const auto k_x = tasks[i].spectrum.combination(tasks[i].query);
    diagonals += kernel.trace() / 6;
    const double scale = diagonals / static_cast<double>(i + 1);
    std::vector<double> weights, predictions, noises;
    for (int s = 0; s <= 12; ++s)
      for (int u = -1; u <= 12; ++u) {
        const double noise = std::pow(10, -4 + s / 3.0), signal = u < 0 ? 0 : std::pow(10, -3 + u / 3.0);
        const Dense covariance = signal / scale * kernel + noise * Dense::Identity(6, 6);
        const Eigen::VectorXd solved = covariance.ldlt().solve(r);
        weights.push_back(counts[weights.size()] * std::exp(-r.dot(solved) / 2) / std::sqrt(covariance.determinant()));
        predictions.push_back(tasks[i].base + signal / scale * decide::to_column(k_x).dot(solved));
        noises.push_back(std::log(noise));
      }
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (double& w : weights) w /= sum;
    EXPECT_NEAR(rule.predictions[i], weighted_sum(weights, predictions), 1e-9) << i;
    EXPECT_NEAR(log_noise[i], weighted_sum(weights, noises), 1e-9) << i;
    for (size_t g = 0; g < counts.size(); ++g) counts[g] += weights[g];
  }
}

TEST(StepRules, TheSoftBestWeighsEarlierAnswersByLikeness) {
  const std::vector<StepTask> tasks = random_tasks(7);
  const RuleStream stream(tasks, 0.2);
  std::vector<double> log_noise;
  for (size_t i = 0; i < tasks.size(); ++i) log_noise.push_back(std::sin(static_cast<double>(i)));
  const RuleResult soft = soft_best_so_far(stream, log_noise);
  EXPECT_EQ(soft.predictions[0], tasks[0].base);
  Dense features(7, 3);
  for (Eigen::Index i = 0; i < 7; ++i) {
    const auto task = static_cast<size_t>(i);
    features.row(i) << log_noise[task], std::log(*std::ranges::min_element(stream.prepared[task].left_out)),
        std::log(decide::to_column(tasks[task].residuals).squaredNorm());
  }
  for (Eigen::Index i = 1; i < 7; ++i) {
    const Dense seen = features.topRows(i + 1);
    const Eigen::RowVectorXd deviation =
        ((seen.rowwise() - seen.colwise().mean()).array().square().colwise().mean()).sqrt();
    double not_adapting = 0;
    for (size_t j = 0; j < static_cast<size_t>(i); ++j) not_adapting += stream.squared_error(j, tasks[j].base);
    std::vector<double> losses;
    for (const double steps : stream.steps) {
      double loss = 0;
      for (Eigen::Index j = 0; j < i; ++j) {
        const double apart = (features.row(j) - features.row(i)).cwiseQuotient(deviation).squaredNorm();
        const StepTask& task = tasks[static_cast<size_t>(j)];
        loss += std::exp(-apart / (2 * 0.49)) * std::pow(task.prediction(0.2, steps) - task.target, 2);
      }
      losses.push_back(4 * loss / (not_adapting / static_cast<double>(i)));
    }
    const std::vector<double> weights = soft_least(losses, std::vector<double>(losses.size(), 1));
    EXPECT_NEAR(soft.predictions[static_cast<size_t>(i)],
                weighted_sum(weights, stream.prepared[static_cast<size_t>(i)].predictions), 1e-9)
        << i;
  }
}

TEST(StepRules, MeansAreOfTheRulesThatTheyName) {
  const std::vector<StepTask> tasks = random_tasks(8);
  const auto rules = apply_step_rules(tasks, 0.1);
  for (size_t i = 0; i < tasks.size(); ++i) {
    const double left_out = find(rules, "leave-one-out mixture").predictions[i];
    const double signal = find(rules, "pooled signal").predictions[i];
    const double soft = find(rules, "soft best T so far").predictions[i];
    EXPECT_NEAR(find(rules, "mean of two").predictions[i], (left_out + signal) / 2, 1e-12);
    EXPECT_NEAR(find(rules, "mean of three").predictions[i], (left_out + signal + soft) / 3, 1e-12);
  }
}

TEST(StepRules, TheBestSoFarIsThatOfEarlierAnswers) {
  const std::vector<StepTask> tasks = random_tasks(10);
  constexpr double c = 0.1;
  const RuleResult best = find(apply_step_rules(tasks, c), "best T so far");
  const std::vector<double> steps = wide_steps();
  std::vector<double> errors(steps.size());
  for (size_t i = 0; i < tasks.size(); ++i) {
    const auto least = static_cast<size_t>(std::ranges::min_element(errors) - errors.begin());
    EXPECT_EQ(best.steps[i], steps[least]) << i;
    for (size_t t = 0; t < steps.size(); ++t)
      errors[t] += std::pow(tasks[i].prediction(c, steps[t]) - tasks[i].target, 2);
  }
}

TEST(StepRules, MixturesKeepTheirBound) {
  const std::vector<StepTask> tasks = random_tasks(200);
  const auto rules = apply_step_rules(tasks, 0.2);
  const auto sum = [&](std::string_view rule) {
    const std::vector<double> errors = find(rules, rule).squared_errors(tasks);
    return std::accumulate(errors.begin(), errors.end(), 0.0);
  };
  for (const char* rule : {"online mixture", "stacked and Gibbs, bounded"})
    EXPECT_LE(sum(rule), sum("in context") + online_mixture_bound(tasks.size())) << rule;
  // Of two experts it ends near the better one, after starting halfway.
  const RuleResult bounded = find(rules, "stacked and Gibbs, bounded");
  const double base = std::clamp(find(rules, "in context").predictions[0], 0.0, 1.0);
  const double mean = std::clamp(find(rules, "stacked and Gibbs").predictions[0], 0.0, 1.0);
  EXPECT_GE(bounded.predictions[0], std::min(base, mean) - 1e-12);
  EXPECT_LE(bounded.predictions[0], std::max(base, mean) + 1e-12);
  EXPECT_LE(sum("stacked and Gibbs, bounded"),
            std::min(sum("in context"), sum("stacked and Gibbs")) + online_mixture_bound(tasks.size()));
  EXPECT_NEAR(online_mixture_bound(tasks.size()), std::log(2.0) / 2, 1e-12);
}

// Margins may lie far beyond [0, 1], to which the bounded mixtures would clamp them.
TEST(StepRules, AnswersWithoutARangeLeaveTheBoundedMixturesOut) {
  const std::vector<StepTask> tasks = random_tasks(5);
  const auto all = apply_step_rules(tasks, 0.2), unbounded = apply_step_rules(tasks, 0.2, Answers::unbounded);
  ASSERT_EQ(unbounded.size() + 2, all.size());
  for (size_t r = 0; r < unbounded.size(); ++r) {
    EXPECT_EQ(unbounded[r].name, all[r].name);
    EXPECT_EQ(unbounded[r].predictions, all[r].predictions) << all[r].name;
  }
  for (const char* bounded : {"online mixture", "stacked and Gibbs, bounded"})
    EXPECT_EQ(std::ranges::count(unbounded, std::string(bounded), &RuleResult::name), 0) << bounded;
}

TEST(StepRules, ResidualsOfZeroMoveNothing) {
  RandomStream random(2, "zero");
  const Problem p = decide::random_problem(random, 4, 6);
  std::vector<StepTask> tasks;
  tasks.emplace_back(decide::to_matrix64(p.kernel), p.k(), std::vector<double>(4), 0.5, 0.5);
  tasks.emplace_back(decide::Matrix64(4, 4), std::vector<double>(4), p.r(), 0.5, 0.5);
  for (const RuleResult& rule : apply_step_rules(tasks, 0.1))
    for (const double prediction : rule.predictions) EXPECT_NEAR(prediction, 0.5, 1e-9) << rule.name;
}

TEST(StepRules, GridsAndBadInput) {
  EXPECT_EQ(published_steps().size(), 31U);
  const std::vector<double> wide = wide_steps();
  EXPECT_EQ(wide.back(), 300);
  EXPECT_TRUE(std::is_sorted(wide.begin(), wide.end()));
  EXPECT_EQ(std::set(wide.begin(), wide.end()).size(), wide.size());
  HONE_EXPECT_ERROR(apply_step_rules({}, 0.1), ErrorCode::bad_input, "no tasks");
  std::vector<StepTask> tasks = random_tasks(1, 4);
  tasks.push_back(random_tasks(1, 5).front());
  HONE_EXPECT_ERROR(apply_step_rules(tasks, 0.1), ErrorCode::bad_input, "same number of examples");
}

TEST(NotWorse, FarBetterIsShownAndFarWorseIsNot) {
  RandomStream random(3, "errors");
  std::vector<double> reference, better, worse;
  for (int i = 0; i < 400; ++i) {
    reference.push_back(1 + 0.1 * random.normal());
    better.push_back(reference.back() - 0.05 + 0.01 * random.normal());
    worse.push_back(reference.back() + 0.05 + 0.01 * random.normal());
  }
  NotWorse family[] = {not_worse("better", "x", better, reference), not_worse("worse", "x", worse, reference),
                       not_worse("same", "x", reference, reference)};
  correct(family);
  EXPECT_TRUE(family[0].shown);
  EXPECT_NEAR(family[0].upper_share(), -0.05, 0.01);
  EXPECT_FALSE(family[1].shown);
  EXPECT_GT(family[1].p, 0.99);
  EXPECT_TRUE(family[2].shown);
  EXPECT_EQ(family[2].upper_share(), 0);
  HONE_EXPECT_ERROR(not_worse("a", "x", {}, {}), ErrorCode::bad_input, "at least one");
}

TEST(NotWorse, FewTasksShowNothing) {
  const std::vector<double> reference(29, 1.0), better(29, 0.5);
  NotWorse family[] = {not_worse("better", "x", better, reference)};
  correct(family);
  EXPECT_EQ(family[0].p, 0);
  EXPECT_FALSE(family[0].shown);
  EXPECT_EQ(not_worse("same", "x", std::vector<double>(3), std::vector<double>(3)).upper_share(), 0);
}

PromptKernels random_blocks_kernels(size_t blocks, size_t n, std::vector<double>& residuals) {
  RandomStream random(4, "blocks");
  PromptKernels kernels{0.4, {}, Matrix(blocks, n * n), Matrix(blocks, n)};
  for (size_t b = 0; b < blocks; ++b) {
    const Problem p = decide::random_problem(random, n, 7);
    for (size_t i = 0; i < n * n; ++i)
      kernels.kernels.row(b)[i] =
          static_cast<float>(p.kernel(static_cast<Eigen::Index>(i / n), static_cast<Eigen::Index>(i % n)));
    for (size_t i = 0; i < n; ++i)
      kernels.queries.row(b)[i] = static_cast<float>(p.query(static_cast<Eigen::Index>(i)));
    kernels.query_norm += p.query_feature.squaredNorm();
  }
  residuals.clear();
  for (size_t i = 0; i < n; ++i) residuals.push_back(0.1 * random.normal());
  return kernels;
}

TEST(BlockMethods, ErrorsAreThoseOfStepsInsideTheChosenBlocks) {
  constexpr size_t n = 5, blocks = 6;
  std::vector<double> r;
  const PromptKernels kernels = random_blocks_kernels(blocks, n, r);
  const std::vector<int> layers = {0, 0, 0, 1, 1, 1};
  const BlockChoiceOptions options{.c = 0.3, .steps = 8, .budgets = {1, 2, 6, 9}, .random_draws = 3, .stream = "b"};
  const std::vector<MethodErrors> choices = compare_block_methods(kernels, layers, r, 0.7, options);
  ASSERT_EQ(choices.size(), block_methods().size());
  // Last-layer within two blocks: the first two of layer 1, by plain descent.
  const decide::Spectrum full(decide::sum_blocks(kernels.blocks()).kernel);
  const double rho = 0.3 / full.largest();
  const size_t chosen[] = {3, 4};
  const decide::BlockSum sum = decide::sum_blocks(kernels.blocks(), chosen);
  std::vector<double> w(n), left = r;
  for (int t = 0; t < 8; ++t) {
    for (size_t i = 0; i < n; ++i) w[i] += rho * left[i];
    for (size_t i = 0; i < n; ++i) {
      left[i] = r[i];
      for (size_t j = 0; j < n; ++j) left[i] -= sum.kernel(i, j) * w[j];
    }
  }
  const double prediction = 0.4 + std::inner_product(w.begin(), w.end(), sum.query.begin(), 0.0);
  const double fit = std::inner_product(left.begin(), left.end(), left.begin(), 0.0) / n;
  const MethodErrors& all = choices.back();
  EXPECT_EQ(all.method, "All");
  for (const MethodErrors& choice : choices) {
    if (choice.method == "Last-layer") {
      EXPECT_NEAR(choice.query[1], std::pow(prediction - 0.7, 2), 1e-9);
      EXPECT_NEAR(choice.fit[1], fit, 1e-9);
    }
    if (choice.method == "Exact") continue;  // which takes as many steps as it likes
    for (const size_t at : {2, 3}) {         // a budget that takes all: no difference, not even by rounding
      EXPECT_EQ(choice.query[at], all.query[0]) << choice.method;
      EXPECT_EQ(choice.fit[at], all.fit[0]) << choice.method;
    }
  }
  // Another block is at the other end of the same scores.
  EXPECT_NE(choices[1].fit[0], choices[2].fit[0]);
  HONE_EXPECT_ERROR(compare_block_methods(kernels, std::span(layers).first(2), r, 0.7, options), ErrorCode::bad_input,
                    "2 layers for 6 blocks");
}

TEST(BlockMethods, RandomDependsOnItsStreamOnly) {
  std::vector<double> r;
  const PromptKernels kernels = random_blocks_kernels(9, 4, r);
  const std::vector<int> layers(9, 0);
  BlockChoiceOptions options{.stream = "a"};
  const auto a = compare_block_methods(kernels, layers, r, 0.2, options),
             again = compare_block_methods(kernels, layers, r, 0.2, options);
  options.stream = "b";
  const auto b = compare_block_methods(kernels, layers, r, 0.2, options);
  EXPECT_EQ(a[0].query, again[0].query);
  EXPECT_NE(a[0].query, b[0].query);
  for (size_t m = 1; m < a.size(); ++m) EXPECT_EQ(a[m].query, b[m].query);
}

TEST(Sst2, TasksTakeEverySentenceOnceAsTheQuery) {
  std::set<size_t> queries;
  for (size_t number = 0; number < 40; ++number) {
    const std::vector<size_t> task = sst2_task(5, number, 40, 10);
    ASSERT_EQ(task.size(), 11U);
    EXPECT_EQ(std::set(task.begin(), task.end()).size(), 11U);
    for (const size_t sentence : task) EXPECT_LT(sentence, 40U);
    queries.insert(task.back());
    EXPECT_EQ(sst2_task(5, number, 40, 10), task);
  }
  EXPECT_EQ(queries.size(), 40U);
  HONE_EXPECT_ERROR(sst2_task(5, 40, 40, 10), ErrorCode::bad_input, "there are 40 sentences");
}

TEST(Sst2, ReadsBothOrdersOfColumnsAndNamesTheLineThatIsWrong) {
  const test::TemporaryFolder folder;
  const auto file = folder.path() / "dev.tsv";
  std::ofstream(file) << "label\tcontent\n1\tfine .\nbad film \t0\r\n";
  const auto sentences = read_sst2(file);
  ASSERT_EQ(sentences.size(), 2U);
  EXPECT_EQ(sentences[0].text, "fine .");
  EXPECT_EQ(sentences[0].label, 1);
  EXPECT_EQ(sentences[1].text, "bad film");
  EXPECT_EQ(sentences[1].label, 0);
  std::ofstream(file) << "label\tcontent\n1\tfine\nneither\n";
  HONE_EXPECT_ERROR(read_sst2(file), ErrorCode::corrupt, "line 3");
  std::ofstream(file) << "label\tcontent\n";
  HONE_EXPECT_ERROR(read_sst2(file), ErrorCode::corrupt, "dev.tsv");
}

class Sst2Model : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Model> model = Model::open(test::tiny_model(GetParam()));
  std::vector<LabelledSentence> sentences = {{"an ode", 1}, {"no", 0}, {"fun", 1}, {"so", 0}};
};

TEST_P(Sst2Model, PromptsReadAsPublished) {
  const Sst2Format format(*model);
  const size_t task[] = {0, 1, 2};
  const auto texts = format.prompt(sentences, task).texts();
  const std::string query = model->tokenizer().decode(texts[0]);
  EXPECT_EQ(query.substr(0, query.find_last_of(':') + 1), "Text: an ode Label: 1\nText: no Label: 0\nText: fun Label:");
  EXPECT_EQ(model->tokenizer().decode(texts[1]).substr(0, 20), "Text: no Label: 0\nTe");
}

TEST_P(Sst2Model, KernelsOfTheProbabilityFollowFromTheMargins) {
  const Sst2Format format(*model);
  const size_t task[] = {0, 1, 3, 2};
  const LabelledPrompt prompt = format.prompt(sentences, task);
  const std::vector<BlockId> blocks = value_blocks(*model, 1);
  const Readout margin = format.margin();
  const Readout probability = Readout::expected_value({margin.labels()[1], margin.labels()[0]}, {0, 1});
  const PromptKernels found = probability_kernels(prompt_kernels(*model, {&prompt, 1}, blocks, margin).front());
  const PromptKernels expected = std::move(prompt_kernels(*model, {&prompt, 1}, blocks, probability).front());
  EXPECT_NEAR(found.answer, expected.answer, 1e-5);
  EXPECT_NEAR(found.query_norm, expected.query_norm, 1e-4 * expected.query_norm);
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(found.left_out[i], expected.left_out[i], 1e-5);
  EXPECT_LE(test::relative_difference(found.kernels, expected.kernels), 1e-4);
  EXPECT_LE(test::relative_difference(found.queries, expected.queries), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Models, Sst2Model, testing::Values("llama", "gemma3"),
                         [](const auto& parameter) { return std::string(parameter.param); });

}  // namespace
}  // namespace hone::lab::step_rules_test
