// Theorem 8.2 in the dual against weight space: matrix square roots, random subspaces, Monte Carlo.
#include "hone/subspace.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "hone/directions.h"
#include "tests/expect_error.h"
#include "tests/random_kernel.h"

namespace hone::decide::subspace_test {
namespace {

struct Design {
  Design(RandomStream& random, size_t n, size_t m, size_t d)
      : examples(random_matrix(random, n, d)),
        queries(random_matrix(random, m, d)),
        spectrum(to_matrix64(examples * examples.transpose())),
        query_kernel(to_matrix64(queries * examples.transpose())),
        query_gram(to_matrix64(queries * queries.transpose())) {
    const Dense total = examples * examples.transpose() + noise * Dense::Identity(examples.rows(), examples.rows());
    posterior_map = examples.transpose() * total.inverse();  // θ̂ = posterior_map · r
    information = posterior_map * examples;
    q = queries.transpose() * queries / static_cast<double>(m);
    const Eigen::SelfAdjointEigenSolver<Dense> solver(q);
    const Dense u = solver.eigenvectors();
    const double null = 1e-10 * solver.eigenvalues().maxCoeff();
    const auto root_of = [&](double lambda) { return lambda > null ? std::sqrt(lambda) : 0; };
    const auto inverse_of = [&](double lambda) { return lambda > null ? 1 / std::sqrt(lambda) : 0; };
    root = u * solver.eigenvalues().unaryExpr(root_of).asDiagonal() * u.transpose();
    inverse_root = u * solver.eigenvalues().unaryExpr(inverse_of).asDiagonal() * u.transpose();
  }

  double noise = 0.7;
  Dense examples;  // J [n, d]
  Dense queries;   // J_Q [m, d]
  Spectrum spectrum;
  Matrix64 query_kernel;
  Matrix64 query_gram;
  Dense posterior_map;
  Dense information;  // I
  Dense q;
  Dense root;          // Q^{1/2}
  Dense inverse_root;  // its pseudo-inverse
};

struct Shape {
  size_t n, m, d;
};
constexpr Shape shapes[] = {{5, 1, 8}, {5, 3, 8}, {4, 6, 9}, {7, 12, 5}};

TEST(Subspace, DualEigenvaluesAreThoseOfTheTheorem) {
  RandomStream random(0, "dual");
  for (const auto [n, m, d] : shapes) {
    const Design design(random, n, m, d);
    const Spectrum dual(information_capture(design.spectrum, design.query_kernel, design.noise));
    const Eigen::SelfAdjointEigenSolver<Dense> primal(design.root * design.information * design.root);
    for (size_t i = 0; i < std::max(m, d); ++i) {
      const double expected = i < d ? primal.eigenvalues()(static_cast<Eigen::Index>(d - 1 - i)) : 0;
      EXPECT_NEAR(i < m ? dual.eigenvalues()[i] : 0, expected, 1e-9 * primal.eigenvalues().maxCoeff());
    }
  }
}

// The estimator's linear map r -> predictions at the queries, column by column.
Dense projection_map(const Design& design, const QuerySubspace& subspace) {
  Dense result(design.queries.rows(), design.examples.rows());
  for (Eigen::Index i = 0; i < result.cols(); ++i)
    result.col(i) = to_column(projected_posterior(design.spectrum, design.query_kernel,
                                                  to_vector(Column::Unit(result.cols(), i)), design.noise, subspace));
  return result;
}

// (1/m) E‖J_Qθ − M r‖² for θ ~ N(0, I), r = Jθ + noise.
double risk(const Design& design, const Dense& map) {
  const double m = static_cast<double>(design.queries.rows());
  return ((design.queries - map * design.examples).squaredNorm() + design.noise * map.squaredNorm()) / m;
}

TEST(Subspace, ProjectedPosteriorIsTheTheoremInWeightSpace) {
  RandomStream random(0, "projection");
  for (const auto [n, m, d] : shapes)
    for (const size_t rank : {1, 2, 4}) {
      const Design design(random, n, m, d);
      const QuerySubspace subspace =
          best_subspace(information_capture(design.spectrum, design.query_kernel, design.noise), rank);
      const auto k = static_cast<Eigen::Index>(subspace.capture.size());
      ASSERT_EQ(subspace.capture.size(), std::min({rank, n, m, d}));
      const Eigen::SelfAdjointEigenSolver<Dense> primal(design.root * design.information * design.root);
      const Dense v = primal.eigenvectors().rightCols(k);
      const Dense weights = design.inverse_root * v * v.transpose() * design.root * design.posterior_map;
      EXPECT_LT((projection_map(design, subspace) - design.queries * weights).norm(), 1e-7);
      double kept = 0;
      for (const double mu : subspace.capture) kept += mu;
      EXPECT_NEAR(risk(design, projection_map(design, subspace)), design.q.trace() - kept, 1e-8 * design.q.trace());
      EXPECT_NEAR(kept + subspace.left, (design.q * design.information).trace(), 1e-8 * design.q.trace());
    }
}

TEST(Subspace, NoOtherSubspaceOfItsRankIsBetter) {
  RandomStream random(0, "brute force");
  for (const auto [n, m, d] : {Shape{4, 3, 6}, Shape{6, 8, 5}})
    for (const size_t rank : {1, 2}) {
      const Design design(random, n, m, d);
      const QuerySubspace best =
          best_subspace(information_capture(design.spectrum, design.query_kernel, design.noise), rank);
      const double least = risk(design, projection_map(design, best));
      for (int i = 0; i < 3000; ++i) {
        // Far from the best subspace, and near it.
        Dense directions = random_matrix(random, m, rank);
        if (i % 2 == 1) directions = to_dense(best.basis).transpose() + 0.1 * directions;
        const Dense orthonormal = Eigen::HouseholderQR<Dense>(directions).householderQ() *
                                  Dense::Identity(static_cast<Eigen::Index>(m), static_cast<Eigen::Index>(rank));
        QuerySubspace other = best;
        other.basis = to_matrix64(orthonormal.transpose());
        ASSERT_GE(risk(design, projection_map(design, other)), least - 1e-10);
      }
    }
}

TEST(Subspace, KernelsInsideAreThoseOfTheParameterDirections) {
  RandomStream random(0, "inside");
  for (const auto [n, m, d] : shapes)
    for (const size_t rank : {1, 3}) {
      const Design design(random, n, m, d);
      const QuerySubspace subspace =
          best_subspace(information_capture(design.spectrum, design.query_kernel, design.noise), rank);
      const auto k = static_cast<Eigen::Index>(subspace.capture.size());
      const Eigen::SelfAdjointEigenSolver<Dense> primal(design.root * design.information * design.root);
      const Dense directions = design.inverse_root * primal.eigenvectors().rightCols(k);
      const Dense a = Eigen::HouseholderQR<Dense>(directions).householderQ() * Dense::Identity(directions.rows(), k);
      const SubspaceKernels inside = subspace_kernels(subspace, design.query_kernel, design.query_gram);
      EXPECT_LT((to_dense(inside.kernel) - design.examples * a * a.transpose() * design.examples.transpose()).norm(),
                1e-6);
      EXPECT_LT((to_dense(inside.queries) - design.queries * a * a.transpose() * design.examples.transpose()).norm(),
                1e-6);

      // Its risk, by the exact criterion, is another than the projection's, and no smaller.
      const Spectrum spectrum(inside.kernel);
      const Dense filter = to_dense(spectrum.function(bayes_filter(spectrum, design.noise)));
      const Dense map = to_dense(inside.queries) * filter;
      double total = 0;
      for (Eigen::Index query = 0; query < map.rows(); ++query) {
        const BlockSum full{to_matrix64(design.examples * design.examples.transpose()),
                            to_vector(to_dense(design.query_kernel).row(query).transpose())};
        total += rule_risk(full, design.queries.row(query).squaredNorm(), design.noise,
                           to_vector(map.row(query).transpose())) /
                 static_cast<double>(map.rows());
      }
      EXPECT_NEAR(total, risk(design, map), 1e-8 * design.q.trace());
      EXPECT_GE(total, risk(design, projection_map(design, subspace)) - 1e-8);
    }
}

TEST(Subspace, AmortisedDesignLosesAtMostItsRegret) {
  RandomStream random(0, "amortised");
  const Design shared(random, 6, 5, 9);
  std::vector<Matrix64> captures;
  for (int prompt = 0; prompt < 40; ++prompt) {
    const Dense examples = random_matrix(random, 6, 9);
    captures.push_back(information_capture(Spectrum(to_matrix64(examples * examples.transpose())),
                                           to_matrix64(shared.queries * examples.transpose()), 0.7));
  }
  const Matrix64 truth = mean_capture(captures);
  Dense sum = Dense::Zero(5, 5);
  for (const Matrix64& c : captures) sum += to_dense(c);
  EXPECT_LT((to_dense(truth) - sum / 40).norm(), 1e-12);
  for (const size_t few : {1, 3, 10})
    for (const size_t rank : {1, 2}) {
      const Matrix64 estimate = mean_capture(std::span(captures).first(few));
      const auto captured = [&](const QuerySubspace& s) {
        const Dense e = to_dense(s.basis);
        return (e * to_dense(truth) * e.transpose()).trace();
      };
      const double lost = captured(best_subspace(truth, rank)) - captured(best_subspace(estimate, rank));
      EXPECT_GE(lost, -1e-10);
      EXPECT_LE(lost, design_regret(estimate, truth, rank) + 1e-10);
    }
  EXPECT_EQ(design_regret(truth, truth, 2), 0);
}

TEST(Subspace, MistakesAreErrors) {
  RandomStream random(0, "mistakes");
  const Design design(random, 4, 3, 6);
  const Matrix64 capture = information_capture(design.spectrum, design.query_kernel, design.noise);
  const QuerySubspace subspace = best_subspace(capture, 2);
  Matrix64 broken = design.query_kernel;
  broken(1, 1) = std::numeric_limits<double>::quiet_NaN();
  HONE_EXPECT_ERROR(information_capture(design.spectrum, Matrix64(3, 5), 1), ErrorCode::bad_input, "query kernel");
  HONE_EXPECT_ERROR(information_capture(design.spectrum, Matrix64(0, 4), 1), ErrorCode::bad_input, "no queries");
  HONE_EXPECT_ERROR(information_capture(design.spectrum, broken, 1), ErrorCode::bad_input, "not a finite number");
  HONE_EXPECT_ERROR(information_capture(design.spectrum, design.query_kernel, 0), ErrorCode::bad_input, "s²");
  HONE_EXPECT_ERROR(best_subspace(capture, 0), ErrorCode::bad_input, "rank is 0");
  HONE_EXPECT_ERROR(mean_capture({}), ErrorCode::bad_input, "no prompts");
  HONE_EXPECT_ERROR(mean_capture(std::vector<Matrix64>{capture, Matrix64(2, 2)}), ErrorCode::bad_input, "design");
  HONE_EXPECT_ERROR(subspace_kernels(subspace, design.query_kernel, Matrix64(2, 2)), ErrorCode::bad_input, "Gram");
  HONE_EXPECT_ERROR(projected_posterior(design.spectrum, Matrix64(2, 4), to_vector(Column::Zero(4)), 1, subspace),
                    ErrorCode::bad_input, "subspace");
  EXPECT_EQ(best_subspace(Matrix64(3, 3), 2).basis.rows, 0U);  // nothing to capture
}

}  // namespace
}  // namespace hone::decide::subspace_test
