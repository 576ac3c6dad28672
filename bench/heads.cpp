// Trains local heads on demand, so that bench/heads.py can interleave them with torch: reads lines
// "SOLVER DIMENSION CLASSES NEIGHBOURS STEPS RATE QUERIES" and answers each with the seconds it took. Points are drawn
// as bench/heads.py draws them: the sizes of published cases, features that have no structure.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <iostream>

#include "base/random.h"
#include "hone/heads.h"

namespace {

using namespace hone;

constexpr size_t points = 2000;

struct Problem {
  Problem(size_t dimension, size_t classes, size_t neighbours, size_t queries)
      : x(Matrix::uninitialized(points, dimension)),
        y(points),
        asked(Matrix::uninitialized(queries, dimension)),
        start{Matrix::uninitialized(classes, dimension), std::vector<float>(classes)},
        ids(queries * neighbours) {
    RandomStream random(0, "bench heads");
    random.normals({x.data(), x.size()}, 1);
    random.normals({asked.data(), asked.size()}, 1);
    random.normals({start.weights.data(), start.weights.size()}, 1 / std::sqrt(static_cast<float>(dimension)));
    for (int& label : y) label = static_cast<int>(random.below(classes));
    for (int64_t& id : ids) id = static_cast<int64_t>(random.below(points));
  }

  Matrix x;
  std::vector<int> y;
  Matrix asked;
  LinearHead start;
  std::vector<int64_t> ids;
};

}  // namespace

int main() {
  std::string solver;
  size_t dimension = 0, classes = 0, neighbours = 0, queries = 0;
  LocalTraining training;
  while (std::cin >> solver >> dimension >> classes >> neighbours >> training.steps >> training.learning_rate >>
         queries) {
    const Problem problem(dimension, classes, neighbours, queries);
    training.solver = solver == "adam" ? LocalSolver::adam : LocalSolver::lbfgs;
    const auto begun = std::chrono::steady_clock::now();
    local_answers(problem.start, problem.x, problem.y, {problem.ids, neighbours}, problem.asked, training);
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begun;
    fmt::print("{:.6f}\n", passed.count());
    std::fflush(stdout);
  }
}
