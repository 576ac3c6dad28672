#include "hone/subspace.h"

#include <algorithm>
#include <limits>

#include "decide/checks.h"
#include "decide/eigen.h"

namespace hone::decide {
namespace {

void check_query_kernel(const Spectrum& spectrum, const Matrix64& query_kernel) {
  check_size("query kernel: columns", query_kernel.cols, spectrum.size());
  check_size("query kernel", query_kernel.values.size(), query_kernel.rows * query_kernel.cols);
  check_finite("query kernel", query_kernel.values);
  if (query_kernel.rows == 0)
    throw Error(ErrorCode::bad_input, "query kernel: there are no queries; give at least one");
}

void check_positive_noise(double noise) {
  if (!(noise > 0 && std::isfinite(noise)))
    throw Error(ErrorCode::bad_input, fmt::format("s²: {} is not a positive variance", noise));
}

}  // namespace

Matrix64 information_capture(const Spectrum& spectrum, const Matrix64& query_kernel, double noise) {
  check_query_kernel(spectrum, query_kernel);
  check_positive_noise(noise);
  const Matrix64 inverse = spectrum.function(bayes_filter(spectrum, noise));
  const auto kq = map(query_kernel);
  const RowMajor half = kq * map(inverse);
  return matrix(half * kq.transpose() / static_cast<double>(query_kernel.rows));
}

QuerySubspace best_subspace(const Matrix64& capture, size_t rank) {
  if (rank == 0) throw Error(ErrorCode::bad_input, "subspace: its rank is 0; ask for at least one direction");
  const Spectrum spectrum(capture);
  const size_t k = std::min(rank, spectrum.rank());
  QuerySubspace subspace;
  subspace.basis = Matrix64(k, spectrum.size());
  for (size_t i = 0; i < spectrum.size(); ++i) {
    const double mu = spectrum.eigenvalues()[i];
    if (i >= k) {
      subspace.left += mu;
      continue;
    }
    subspace.capture.push_back(mu);
    std::ranges::copy(spectrum.eigenvector(i), subspace.basis.row(i).begin());
  }
  return subspace;
}

Matrix64 mean_capture(std::span<const Matrix64> captures) {
  if (captures.empty()) throw Error(ErrorCode::bad_input, "design: there are no prompts to average over");
  Matrix64 mean(captures[0].rows, captures[0].cols);
  for (const Matrix64& capture : captures) {
    check_size("design: rows", capture.rows, mean.rows);
    check_size("design", capture.values.size(), mean.values.size());
    check_finite("design", capture.values);
    map(mean) += map(capture) / static_cast<double>(captures.size());
  }
  return mean;
}

double design_regret(const Matrix64& estimate, const Matrix64& truth, size_t rank) {
  check_size("design: rows", estimate.rows, truth.rows);
  check_size("design: columns", estimate.cols, truth.rows);
  check_size("design", truth.values.size(), truth.rows * truth.rows);
  check_size("design", estimate.values.size(), truth.values.size());
  check_finite("design", estimate.values);
  check_finite("design", truth.values);
  if (truth.rows == 0) throw Error(ErrorCode::bad_input, "design: there are no queries; give at least one");
  const Eigen::MatrixXd difference = map(estimate) - map(truth);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(difference, Eigen::EigenvaluesOnly);
  return 2 * static_cast<double>(rank) * solver.eigenvalues().cwiseAbs().maxCoeff();
}

std::vector<double> projected_posterior(const Spectrum& spectrum, const Matrix64& query_kernel,
                                        std::span<const double> residuals, double noise,
                                        const QuerySubspace& subspace) {
  check_query_kernel(spectrum, query_kernel);
  check_positive_noise(noise);
  check_size("subspace: queries", subspace.basis.cols, query_kernel.rows);
  std::vector<double> dual = spectrum.coordinates(residuals, "residuals");
  for (size_t i = 0; i < dual.size(); ++i) dual[i] *= bayes_filter(spectrum.eigenvalues()[i], noise);
  const std::vector<double> alpha = spectrum.combination(dual);
  const auto e = map(subspace.basis);
  std::vector<double> prediction(query_kernel.rows);
  map(std::span(prediction)) = e.transpose() * (e * (map(query_kernel) * map(std::span(alpha))));
  return prediction;
}

// The directions Wᵀ G⁺ e_i, G = WWᵀ, have the Gram matrix M = E G⁺ Eᵀ, so with A = Wᵀ G⁺ Eᵀ M^{-1/2}, J A = K_Qᵀ G⁺ Eᵀ
// M^{-1/2}/√m.
SubspaceKernels subspace_kernels(const QuerySubspace& subspace, const Matrix64& query_kernel,
                                 const Matrix64& query_gram) {
  const double m = static_cast<double>(query_kernel.rows);
  check_size("subspace: queries", subspace.basis.cols, query_kernel.rows);
  check_size("query kernel", query_kernel.values.size(), query_kernel.rows * query_kernel.cols);
  check_finite("query kernel", query_kernel.values);
  check_size("query Gram: rows", query_gram.rows, query_kernel.rows);
  const Spectrum gram(query_gram);
  const Matrix64 inverse = gram.function(bayes_filter(gram, 0));                   // G⁺/m
  const RowMajor directions = m * map(inverse) * map(subspace.basis).transpose();  // [m, k]
  Matrix64 overlap = matrix(map(subspace.basis) * directions);
  SubspaceKernels kernels{Matrix64(query_kernel.cols, query_kernel.cols),
                          Matrix64(query_kernel.rows, query_kernel.cols)};
  if (overlap.rows == 0) return kernels;
  const Spectrum m_spectrum(overlap);
  const Matrix64 projector = m_spectrum.function(bayes_filter(m_spectrum, 0));          // M⁺
  const RowMajor examples = map(query_kernel).transpose() * directions / std::sqrt(m);  // J Wᵀ G⁺ Eᵀ [n, k]
  const RowMajor queries = map(query_gram) * directions / std::sqrt(m);                 // J_Q Wᵀ G⁺ Eᵀ [m, k]
  map(kernels.kernel) = examples * map(projector) * examples.transpose();
  map(kernels.queries) = queries * map(projector) * examples.transpose();
  return kernels;
}

}  // namespace hone::decide
