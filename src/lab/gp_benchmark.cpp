#include "lab/gp_benchmark.h"

#include "lab/experiments.h"

namespace hone::lab {
namespace {

class GpBenchmark final : public Experiment {
 public:
  std::string_view name() const override { return "gp-benchmark"; }
  std::string_view about() const override {
    return "What theory says about a fixed number of steps, measured on prompts of its own Gaussian model.";
  }

  Json settings(Size size) const override {
    const bool quick = size == Size::quick, full = size == Size::full;
    return {{"examples", 10},
            {"features", 64},
            {"decay", 1.0},
            {"step", 0.2},
            {"snrs", {0.03, 0.1, 0.3, 1, 3, 10, 30, 100}},
            {"identity", {{"steps", {0, 1, 8, 30, 300}}, {"draws", 100000}}},
            {"steps",
             {{"grid", {0, 1, 2, 3, 5, 8, 13, 20, 30, 50, 80, 130, 200, 300, 500, 1000}},
              {"kernels", quick  ? 100
                          : full ? 2000
                                 : 400},
              {"draws", quick ? 5 : 20}}},
            {"james_stein",
             {{"ranks", {2, 3, 5, 8}},
              {"strengths", {0, 0.25, 0.5, 1, 2, 4, 8, 16}},
              {"steps", 1e9},
              {"draws", quick ? 50000 : 200000}}},
            {"floor",
             {{"examples", 40},
              {"features", 16},
              {"snr", 100},
              {"shares", {0, 0.25, 0.5, 0.75, 1}},
              {"grid", {1, 3, 10, 30, 100, 300, 1000, 3000}},
              {"kernels", quick  ? 20
                          : full ? 400
                                 : 100},
              {"queries", 50}}}};
  }
  std::vector<std::string> columns() const override { return gp_columns(); }
  size_t tasks(const Json& config) const override { return gp_tasks(config).total(); }
  RunTask start(const Json& config, std::shared_ptr<const Model>, const Watch&) const override {
    return [config](size_t task, const Watch&) { return gp_rows(config, task); };
  }
  Report report(const Json& config, const Table& rows) const override { return gp_report(config, rows); }
};

}  // namespace

std::unique_ptr<const Experiment> make_gp_benchmark() { return std::make_unique<GpBenchmark>(); }

}  // namespace hone::lab
