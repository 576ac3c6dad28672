// Times what one decision costs once the kernels are there, on random kernels, beside the time it may take. Prints
// medians.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "base/random.h"
#include "hone/decide.h"
#include "hone/directions.h"
#include "hone/steps.h"

namespace {

using namespace hone;
using namespace hone::decide;

struct Input {
  Input(size_t blocks, size_t n, size_t width) : kernels(blocks, n * n), queries(blocks, n), residuals(n) {
    RandomStream random(0, "input");
    Matrix features(n + 1, width);  // the last row is the query's
    for (size_t b = 0; b < blocks; ++b) {
      random.normals({features.data(), features.size()}, 1);
      const auto product = [&](size_t i, size_t j) {
        float sum = 0;
        for (size_t f = 0; f < width; ++f) sum += features.row(i)[f] * features.row(j)[f];
        return sum;
      };
      for (size_t i = 0; i < n; ++i) {
        queries.row(b)[i] = product(i, n);
        for (size_t j = 0; j <= i; ++j) kernels.row(b)[i * n + j] = kernels.row(b)[j * n + i] = product(i, j);
      }
    }
    for (double& r : residuals) r = random.normal();
  }

  BlockKernels view() const { return {kernels, queries}; }

  Matrix kernels;
  Matrix queries;
  std::vector<double> residuals;
};

// Spectrum, evidence, posterior, signal, certificate, corrections and gaps, and every block's scores.
void decide_all(const Input& input) {
  const BlockSum sum = sum_blocks(input.view());
  const Spectrum spectrum(sum.kernel);
  const StepDecision decision = decide_steps(spectrum, input.residuals, sum.query);
  if (input.kernels.rows() > 1) block_scores(input.view(), spectrum, decision.signal.lambda_star());
}

void greedy(const Input& input) {
  const Spectrum spectrum(sum_blocks(input.view()).kernel);
  greedy_blocks(input.view(), spectrum, input.residuals, step_size(spectrum, 0.2), 8, 32);
}

void measure(const char* what, double asked, int repetitions, const std::function<void()>& operation) {
  std::vector<double> times;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    operation();
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  fmt::print("{:<64} {:>9.3f} ms   under {:>6} ms   fastest {:>9.3f} ms\n", what, median(times), asked,
             *std::min_element(times.begin(), times.end()));
}

}  // namespace

int main() {
  const Input many(200, 64, 16), one(1, 1000, 50);
  fmt::print("medians, {} threads\n", threads());
  measure("decision and scores: 200 blocks, n = 64, 31 numbers of steps", 1, 201, [&] { decide_all(many); });
  measure("greedy: 32 of 200 blocks, n = 64, T = 8", 150, 11, [&] { greedy(many); });
  measure("decision: 1 block, n = 1000, 31 numbers of steps", 1000, 5, [&] { decide_all(one); });
}
