#include "lab/experiments.h"
#include "lab/lrh_rows.h"

namespace hone::lab {
namespace {

class LrhTheory final : public Experiment {
 public:
  std::string_view name() const override { return "lrh-theory"; }
  std::string_view about() const override {
    return "Why local heads win: global and local errors of the linear representation model against its theory.";
  }

  Json settings(Size size) const override {
    return {{"global",
             {{"base", {{"d1", 256}, {"d2", 64}}},
              {"grid", {{"d2", {16, 32, 64, 96, 128, 192, 224}}}},
              {"examples_per_feature", 8},
              {"draws", by_size(size, 16, 60, 200)}}},
            {"shared",
             {{"base", {{"d2", 64}, {"s", 8}, {"k", 64}, {"noise", 0.25}}},
              {"grid", {{"k", {16, 32, 64, 128, 256}}, {"s", {2, 4, 8, 16, 32}}, {"d2", {16, 32, 64, 128}}}},
              {"draws", by_size(size, 100, 400, 2000)}}},
            {"recovery",
             {{"base", {{"d1", 512}, {"s", 8}, {"k", 800}, {"noise", 0.25}}},
              {"grid",
               {{"k", {400, 800, 1600, 3200}},
                {"s", {2, 4, 8, 16, 32}},
                {"d1", {64, 128, 256, 512, 1024}},
                {"noise", {0.0625, 0.125, 0.25, 0.5, 1.0}}}},
              {"draws", by_size(size, 16, 60, 200)}}},
            {"locality",
             {{"d1", 256},
              {"s", 8},
              {"groups", 1024},
              {"members", 50},
              {"mean", 2.0},
              {"noise", {0.05, 1.0}},
              {"d2", {16, 32, 64, 128, 192, 224}},
              {"k", {5, 10, 20, 30, 50, 100, 200, 400}},
              {"queries", 64},
              {"draws", by_size(size, 4, 16, 60)}}}};
  }
  std::vector<std::string> columns() const override { return lrh_columns(); }
  size_t tasks(const Json& config) const override { return lrh_tasks(config); }
  RunTask start(const Json& config, std::shared_ptr<const Model>, const Watch&) const override {
    return [config](size_t task, const Watch& watch) { return lrh_rows(config, task, watch); };
  }
  Report report(const Json& config, const Table& rows) const override { return lrh_report(config, rows); }
};

}  // namespace

std::unique_ptr<const Experiment> make_lrh_theory() { return std::make_unique<LrhTheory>(); }

}  // namespace hone::lab
