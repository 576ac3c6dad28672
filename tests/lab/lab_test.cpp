// The lab: statistics against closed forms, rows that survive a kill, and what theory says of the two experiments that
// need no model.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <tuple>

#include "base/files.h"
#include "base/random.h"
#include "lab/gaussian_prompt.h"
#include "lab/gp_benchmark.h"
#include "lab/rows_file.h"
#include "lab/runner.h"
#include "tests/expect_error.h"
#include "tests/golden.h"
#include "tests/temporary_folder.h"

namespace hone::lab::lab_test {
namespace {

namespace fs = std::filesystem;

// Statistics.

TEST(LabStatistics, StandardError) {
  EXPECT_NEAR(standard_error(std::vector<double>{1, 2, 3, 4}), std::sqrt(5.0 / 3 / 4), 1e-15);
  EXPECT_EQ(standard_error(std::vector<double>{7}), 0);
  HONE_EXPECT_ERROR(standard_error({}), ErrorCode::bad_input, "no values");
}

TEST(LabStatistics, WilsonInterval) {
  const decide::Interval some = share_interval(10, 100);  // (p + z²/2n ± z sqrt(p(1 − p)/n + z²/4n²)) / (1 + z²/n)
  EXPECT_EQ(some.mean, 0.1);
  EXPECT_NEAR(some.low, 0.0552291, 1e-6);
  EXPECT_NEAR(some.high, 0.1743657, 1e-6);
  const decide::Interval none = share_interval(0, 10);  // z²/(n + z²)
  EXPECT_EQ(none.low, 0);
  EXPECT_NEAR(none.high, 3.841459 / 13.841459, 1e-6);
  EXPECT_EQ(share_interval(10, 10).high, 1);
  HONE_EXPECT_ERROR(share_interval(2, 1), ErrorCode::bad_input, "2 of 1");
}

TEST(LabStatistics, SignFlipsAreExactForFewDifferences) {
  EXPECT_EQ(sign_flip_p(std::vector<double>{1, 1, 1, 1, 1}), 2.0 / 32);  // all plus or all minus
  EXPECT_EQ(sign_flip_p(std::vector<double>{3, 2, 1}), 2.0 / 8);
  EXPECT_EQ(sign_flip_p(std::vector<double>{3, 2, -1}), 4.0 / 8);  // |sum| ≥ 4: ±(3 + 2 ± 1)
  EXPECT_EQ(sign_flip_p(std::vector<double>{1, -1}), 1);
  EXPECT_EQ(sign_flip_p(std::vector<double>{0, 0, 0}), 1);
  EXPECT_EQ(sign_flip_p(std::vector<double>{0, 1, 0, 1, 0}), 2.0 / 4);  // zeros do not count
  HONE_EXPECT_ERROR(sign_flip_p({}), ErrorCode::bad_input, "no values");
  HONE_EXPECT_ERROR(sign_flip_p(std::vector<double>{1, NAN}), ErrorCode::bad_input, "value 1 is nan");
}

// m differences of equal size: the sum is binomial.
TEST(LabStatistics, SampledSignFlipsMatchTheBinomial) {
  std::vector<double> differences(100, 1.0);
  for (size_t i = 0; i < 42; ++i) differences[i] = -1;  // 58 plus: P(|2X − 100| ≥ 16), X ~ Bin(100, ½)
  double exact = 0;
  for (int k = 0; k <= 100; ++k)
    if (std::abs(2 * k - 100) >= 16)
      exact += std::exp(std::lgamma(101) - std::lgamma(k + 1.0) - std::lgamma(101.0 - k) - 100 * std::log(2.0));
  EXPECT_NEAR(sign_flip_p(differences), exact, 4 * std::sqrt(exact * (1 - exact) / 20000));
  EXPECT_EQ(sign_flip_p(differences), sign_flip_p(differences));
  EXPECT_EQ(sign_flip_p(std::vector<double>(100, 1.0), 0, 999), 1.0 / 1000);  // never 0
}

TEST(LabStatistics, Holm) {
  const std::vector<double> corrected = holm(std::vector<double>{0.04, 0.01, 0.03, 0.5});
  const std::vector<double> expected = {0.09, 0.04, 0.09, 0.5};  // 4·.01, 3·.03, max(2·.04, .09), .5
  ASSERT_EQ(corrected.size(), 4);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(corrected[i], expected[i], 1e-15);
  EXPECT_EQ(holm(std::vector<double>{0.6, 0.7}), (std::vector<double>{1, 1}));
  EXPECT_TRUE(holm({}).empty());
}

TEST(LabStatistics, EveryPairIsCompared) {
  RandomStream random(0, "pairs");
  std::vector<Method> methods = {{"worse", {}}, {"better", {}}, {"same", {}}};
  for (int task = 0; task < 200; ++task) {
    const double common = random.normal();
    methods[0].values.push_back(common + 1 + 0.1 * random.normal());
    methods[1].values.push_back(common);
    methods[2].values.push_back(common + 0.1 * random.normal());
  }
  const std::vector<Comparison> pairs = compare_all(methods);
  ASSERT_EQ(pairs.size(), 3);
  EXPECT_EQ(pairs[0].a + pairs[0].b, "worsebetter");
  EXPECT_NEAR(pairs[0].difference.mean, 1, 0.05);
  EXPECT_LT(pairs[0].difference.high - pairs[0].difference.low, 0.1);  // paired: the common part is gone
  EXPECT_TRUE(pairs[0].found);
  EXPECT_NEAR(pairs[0].holm_p, 3.0 / 20001, 1e-12);
  EXPECT_TRUE(pairs[1].found);
  EXPECT_EQ(pairs[2].a + pairs[2].b, "bettersame");
  EXPECT_FALSE(pairs[2].found);
  for (const auto& [pair, a, b] : {std::tuple{0, 0, 1}, {1, 0, 2}, {2, 1, 2}}) {
    std::vector<double> differences;
    for (size_t i = 0; i < 200; ++i)
      differences.push_back(methods[static_cast<size_t>(a)].values[i] - methods[static_cast<size_t>(b)].values[i]);
    const decide::Interval expected = decide::bootstrap_mean(differences);
    const decide::Interval& found = pairs[static_cast<size_t>(pair)].difference;
    EXPECT_NEAR(found.mean, expected.mean, 1e-12);
    EXPECT_NEAR(found.low, expected.low, 1e-12);
    EXPECT_NEAR(found.high, expected.high, 1e-12);
    EXPECT_EQ(pairs[static_cast<size_t>(pair)].p, sign_flip_p(differences));
  }
  methods[2].values.pop_back();
  HONE_EXPECT_ERROR(compare_all(methods), ErrorCode::bad_input, "same has 199");
}

// Rows and figures.

TEST(LabTable, CellsSurviveCsv) {
  const std::vector<std::string> cells = {"plain", "a,b", "say \"x\"", "", "T = 8"};
  const std::string line = csv_line(cells);
  EXPECT_EQ(csv_cells(line.substr(0, line.size() - 1)), cells);
  EXPECT_EQ(csv_line({"two\nlines"}), "two lines\n");
  EXPECT_EQ(text(Cell(0.1)), "0.1");
  EXPECT_EQ(std::stod(text(Cell(1.0 / 3))), 1.0 / 3);
  EXPECT_EQ(text(Cell(int64_t{-3})), "-3");
  HONE_EXPECT_ERROR(csv_cells("a,\"b"), ErrorCode::corrupt, "quote");
}

TEST(LabTable, SelectsRows) {
  Table table({"method", "value"});
  table.add({"a", "1"});
  table.add({"b", "2.5"});
  table.add({"a", "x"});
  EXPECT_EQ(table.distinct("method"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(table.where("method", "b").numbers("value"), std::vector<double>{2.5});
  HONE_EXPECT_ERROR(table.number(2, "value"), ErrorCode::corrupt, "row 3, value: 'x'");
  HONE_EXPECT_ERROR(table.add({"a"}), ErrorCode::corrupt, "1 cells");
  Table counts({"count"});
  for (const char* cell : {"7", "-1", "nan", "1e300", "2.5"}) counts.add({cell});
  EXPECT_EQ(counts.count(0, "count"), 7U);
  for (size_t row = 1; row < counts.rows(); ++row)
    HONE_EXPECT_ERROR(counts.count(row, "count"), ErrorCode::corrupt, "not a whole number");
  EXPECT_THROW(table.numbers("nonsense"), std::out_of_range);
  EXPECT_THROW(table.where("method", "c").text(0, "value"), std::out_of_range);
}

TEST(LabFigure, EcdfIsTheShareOfSmallerValues) {
  const Series series = ecdf("x", {3, 1, 2, 1});
  EXPECT_EQ(series.x, (std::vector<double>{1, 1, 2, 3}));
  EXPECT_EQ(series.y, (std::vector<double>{0, 0.5, 0.75, 1}));
}

TEST(LabFigure, SeriesThatDoNotFit) {
  const test::TemporaryFolder folder;
  Figure figure{"odd", FigureKind::bars, "title", "x", "y", {{"s'1", {}, {1, 2}, {0}, {2, 3}}}};
  figure.categories = {"a", "b"};
  HONE_EXPECT_ERROR(write_script(figure, folder.path()), ErrorCode::bad_input, "series 's'1'");
}

TEST(LabFigure, NothingInATextIsSpecial) {
  const test::TemporaryFolder folder;
  Figure figure{"odd", FigureKind::bars, "it's `date` \"$x\"\\n", "x_{1}", "y", {{"s'1", {}, {1, 2}, {0, 1}, {2, 3}}}};
  figure.categories = {"a'b", "c"};
  const fs::path script = write_script(figure, folder.path());
  try {
    const std::string drawing = read_file(draw(script));
    EXPECT_NE(drawing.find("`date`"), std::string::npos);
    EXPECT_NE(drawing.find("</svg>"), std::string::npos);
  } catch (const Error& error) {
    if (error.code != ErrorCode::unsupported) throw;
    GTEST_SKIP() << error.message;
  }
  const fs::path broken = folder.write("broken.gp", "plot nonsense(");
  HONE_EXPECT_ERROR(draw(broken), ErrorCode::io, "broken.gp");
}

TEST(LabFigure, LogarithmicAxesHaveMarksWithinTheirRange) {
  const test::TemporaryFolder folder;
  const auto script = [&](const Figure& figure) { return read_file(write_script(figure, folder.path())); };
  Figure figure{"log", FigureKind::lines, "t", "x", "y", {{"s", {25, 480}, {3, 0}, {2.3, -1}, {4, 2.3}}}};
  figure.log_x = figure.log_y = true;
  EXPECT_NE(script(figure).find("set logscale x\nset xtics (50, 100, 200)\n"), std::string::npos) << script(figure);
  EXPECT_NE(script(figure).find("set logscale y\nset yrange [2:4.6]\nset ytics (2)\n"), std::string::npos)
      << script(figure);
  figure.series[0].x = {1, 1e6};  // many powers
  EXPECT_NE(script(figure).find("set xtics (1, 10, 100, 1000, 10000, 100000, 1e+06)\n"), std::string::npos)
      << script(figure);
  figure.series[0] = {"s", {0, 0}, {0, -1}};  // nothing that the axis could show
  EXPECT_EQ(script(figure).find("tics ("), std::string::npos) << script(figure);
}

// The runner. An experiment of seven tasks, whose rows depend on the seed.
class Dice : public Experiment {
 public:
  std::string_view name() const override { return "dice"; }
  std::string_view about() const override { return "Throws dice."; }
  Json settings(Size size) const override { return {{"tasks", size == Size::quick ? 3 : 7}}; }
  std::vector<Adjustable> adjustable() const override { return {{"tasks", 1, 9}}; }
  std::vector<std::string> columns() const override { return {"die", "points"}; }
  size_t tasks(const Json& config) const override { return config.at("tasks"); }
  RunTask start(const Json& config, std::shared_ptr<const Model>, const Watch& watch) const override {
    watch.cancel.check();
    ++starts;
    return [this, config](size_t task, const Watch&) {
      if (task == stop_at) throw Error(ErrorCode::io, "stopped");
      RandomStream random(config.at("seed"), "dice " + std::to_string(task));
      std::vector<Row> rows;
      for (const char* die : {"red", "say \"blue\", twice", "green"})
        rows.push_back({std::string(die), static_cast<double>(random.below(6) + 1) / 7});
      return rows;
    };
  }
  Report report(const Json&, const Table& rows) const override {
    Report report;
    const std::vector<double> points = rows.numbers("points");
    report.summary["mean"] = mean_text(points);
    report.findings = {{"mean | points", mean_text(points), "0.5000"}};
    report.figures = {{"points", FigureKind::steps, "Points", "points / 7", "share", {ecdf("all", points)}}};
    return report;
  }

  size_t stop_at = SIZE_MAX;
  mutable std::atomic<int> starts = 0;
};

class LabRunner : public testing::Test {
 protected:
  lab::Run go(const std::string& name, Size size = Size::standard, uint64_t seed = 0) const {
    return run(dice, make_config(dice, size, seed), {}, folder.path() / name);
  }
  std::string bytes(const std::string& name, const std::string& file) const {
    return read_file(folder.path() / name / file);
  }
  void expect_equal(const std::string& a, const std::string& b) const {
    for (const char* file : {"config.json", "rows.csv", "summary.json", "report.md", "figures/points.gp"})
      EXPECT_EQ(bytes(a, file), bytes(b, file)) << file;
    if (fs::exists(folder.path() / a / "figures/points.svg")) {
      EXPECT_EQ(bytes(a, "figures/points.svg"), bytes(b, "figures/points.svg"));
    }
  }

  Dice dice;
  test::TemporaryFolder folder;
};

TEST_F(LabRunner, GoesOnFromWhereverItWasCut) {
  const lab::Run whole = go("whole");
  EXPECT_EQ(whole.tasks, 7);
  EXPECT_EQ(whole.resumed, 0);
  const std::string rows = bytes("whole", "rows.csv");
  EXPECT_EQ(std::count(rows.begin(), rows.end(), '\n'), 1 + 7 * 3);
  const std::string header = rows.substr(0, rows.find('\n') + 1);
  for (size_t cut = header.size(); cut <= rows.size(); cut += 37) {
    fs::remove_all(folder.path() / "cut");
    fs::create_directories(folder.path() / "cut");
    folder.write("cut/config.json", bytes("whole", "config.json"));
    folder.write("cut/rows.csv", rows.substr(0, cut));
    const lab::Run resumed = go("cut");
    const std::string there = rows.substr(header.size(), cut - header.size());
    EXPECT_EQ(resumed.resumed, static_cast<size_t>(std::count(there.begin(), there.end(), '\n')) / 3) << cut;
    expect_equal("whole", "cut");
  }
}

TEST_F(LabRunner, AFailedTaskCostsNoOther) {
  go("whole");
  const int before = threads();
  set_threads(3);
  for (const size_t stop : {0, 3, 6}) {
    dice.stop_at = stop;
    HONE_EXPECT_ERROR(go("stopped"), ErrorCode::io, "stopped");
  }
  dice.stop_at = SIZE_MAX;
  go("stopped");
  set_threads(before);
  expect_equal("whole", "stopped");
  const int starts = dice.starts;
  EXPECT_EQ(go("stopped").resumed, 7);
  EXPECT_EQ(dice.starts, starts);  // nothing to run: no model would be opened
}

TEST_F(LabRunner, CancelKeepsWhatIsThere) {
  go("whole");
  Watch watch;
  watch.progress = [&](const Progress& progress) {
    if (progress.done >= 2) watch.cancel.cancel();
  };
  HONE_EXPECT_ERROR(run(dice, make_config(dice, Size::standard, 0), {}, folder.path() / "cancelled", watch),
                    ErrorCode::cancelled, "run it again");
  EXPECT_GE(go("cancelled").resumed, 2);
  expect_equal("whole", "cancelled");
}

// What an experiment prepares can take an hour.
TEST_F(LabRunner, CancelReachesThePreparation) {
  const Watch watch;
  watch.cancel.cancel();
  HONE_EXPECT_ERROR(run(dice, make_config(dice, Size::standard, 0), {}, folder.path() / "cancelled", watch),
                    ErrorCode::cancelled, "run it again");
  EXPECT_EQ(dice.starts, 0);
}

TEST_F(LabRunner, AnotherConfigIsRefused) {
  go("run");
  const std::string rows = bytes("run", "rows.csv");
  HONE_EXPECT_ERROR(go("run", Size::standard, 1), ErrorCode::bad_input, "seed 0, not 1");
  HONE_EXPECT_ERROR(go("run", Size::quick), ErrorCode::bad_input, "size \"standard\", not \"quick\"");
  EXPECT_EQ(bytes("run", "rows.csv"), rows);
  EXPECT_NE(go("other", Size::standard, 1).report.summary, go("run").report.summary);
}

TEST_F(LabRunner, NumbersCanBeSet) {
  Json config = make_config(dice, Size::standard, 0);
  adjust(dice, "tasks", 9, config);
  EXPECT_EQ(run(dice, config, {}, folder.path() / "nine").tasks, 9);
  HONE_EXPECT_ERROR(go("nine"), ErrorCode::bad_input, "tasks 9, not 7");
  HONE_EXPECT_ERROR(adjust(dice, "tasks", 0, config), ErrorCode::bad_input, "tasks is 0, not from 1 to 9");
  HONE_EXPECT_ERROR(adjust(dice, "tasks", 10, config), ErrorCode::bad_input, "tasks is 10, not from 1 to 9");
  HONE_EXPECT_ERROR(adjust(dice, "seed", 1, config), ErrorCode::bad_input, "no number 'seed' to set; it has tasks");
  HONE_EXPECT_ERROR(adjust(find_experiment("certificate"), "tasks", 1, config), ErrorCode::bad_input, "it has none");
}

TEST_F(LabRunner, FoldersThatAreNotARun) {
  folder.write("notes/a.txt", "mine");
  HONE_EXPECT_ERROR(go("notes"), ErrorCode::bad_input, "not empty");
  folder.write("killed/config.json.a1b2c3", "{");
  EXPECT_EQ(go("killed").tasks, 7);
  folder.write("file", "x");
  HONE_EXPECT_ERROR(go("file"), ErrorCode::io, "cannot make the folder");
  folder.write("broken/config.json", "{");
  HONE_EXPECT_ERROR(go("broken"), ErrorCode::corrupt, "config.json");
  go("run");
  const std::string rows = bytes("run", "rows.csv");
  const auto with_rows = [&](const std::string& contents) {
    folder.write("run/rows.csv", contents);
    return go("run");
  };
  HONE_EXPECT_ERROR(with_rows("x,y\n1,2\n"), ErrorCode::corrupt, "columns");
  std::string other = rows;
  other[rows.find('\n') + 1] = '5';
  HONE_EXPECT_ERROR(with_rows(other), ErrorCode::corrupt, "line 2");
  HONE_EXPECT_ERROR(with_rows(rows + "8,0,red,0.5\n"), ErrorCode::corrupt, "line 23");
  HONE_EXPECT_ERROR(with_rows(rows + "7,0,red,0.5\n"), ErrorCode::corrupt, "holds 8 tasks");
  with_rows(rows + "7,1,red,0.5\n7,0,gre");  // a task that was cut off
  EXPECT_EQ(go("run").resumed, 7);
}

// Whatever a report trips over in rows that somebody changed.
TEST_F(LabRunner, RowsThatNoReportCanRead) {
  class Strict final : public Dice {
   public:
    Report report(const Json&, const Table& rows) const override {
      static_cast<void>(std::stoul(rows.text(0, "die")));
      return {};
    }
  };
  HONE_EXPECT_ERROR(run(Strict(), make_config(dice, Size::quick, 0), {}, folder.path() / "run"), ErrorCode::corrupt,
                    "rows.csv");
}

TEST_F(LabRunner, OneRunAtATimeInAFolder) {
  Watch watch;
  bool refused = false;
  watch.progress = [&](const Progress& progress) {
    if (progress.stage != "report") return;
    HONE_EXPECT_ERROR(go("run"), ErrorCode::busy, "another run");
    refused = true;
  };
  run(dice, make_config(dice, Size::standard, 0), {}, folder.path() / "run", watch);
  EXPECT_TRUE(refused);
}

TEST_F(LabRunner, WithoutGnuplotTheRestIsWritten) {
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", folder.path().c_str(), 1);
  const lab::Run without = go("run");
  ::setenv("PATH", path.c_str(), 1);
  ASSERT_EQ(without.warnings.size(), 1);
  EXPECT_NE(without.warnings[0].find("gnuplot-nox"), std::string::npos);
  EXPECT_NE(bytes("run", "report.md").find("was not drawn"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder.path() / "run/figures/points.svg"));
  EXPECT_TRUE(fs::exists(folder.path() / "run/figures/points.gp"));
  if (go("run").warnings.empty()) {
    EXPECT_TRUE(fs::exists(folder.path() / "run/figures/points.svg"));
  }
}

TEST_F(LabRunner, ModelsAreAskedForWhereTheyAreNeeded) {
  HONE_EXPECT_ERROR(make_config(dice, Size::quick, 0, "some.gguf"), ErrorCode::bad_input, "uses no model");
  HONE_EXPECT_ERROR(find_experiment("nonsense"), ErrorCode::not_found, "gp-benchmark");
  const Experiment& digits = find_experiment("digit-shift");
  for (const auto& [precision, name] : {std::pair(Precision::fp32, "fp32"), std::pair(Precision::int8, "int8")})
    EXPECT_EQ(make_config(digits, Size::quick, 0, test::tiny_model("llama"), precision).at("model").at("precision"),
              name);
}

TEST(LabPage, OursStandsBesideThePublished) {
  const test::TemporaryFolder folder;
  const Dice dice;
  run(dice, make_config(dice, Size::quick, 0), {}, folder.path() / "run");
  const std::string page = read_file(folder.path() / "run/report.md");
  EXPECT_NE(page.find("|  | ours, this run | published |"), std::string::npos) << page;
  EXPECT_NE(page.find("| mean \\| points |"), std::string::npos) << page;
  const Comparison one{"a", "b", {0.5, 0.25, 0.75}, 0.0001, 0.0003, true};
  EXPECT_NE(markdown_table(std::vector<Comparison>{one}, 100, 1)
                .find("| a − b | +50.0 | [25.0, 75.0] | 1.0e-04 | 3.0e-04 | yes |"),
            std::string::npos);
  EXPECT_EQ(to_json(std::vector<Comparison>{one})[0]["found"], true);
}

// The experiments, small.

Run run_small(const char* name, const Json& changes, const fs::path& folder) {
  const Experiment& experiment = find_experiment(name);
  Json config = make_config(experiment, Size::quick, 7);
  config.merge_patch(changes);
  return run(experiment, config, {}, folder);
}

TEST(LabExperiments, HaveNamesAndConfigsThatDiffer) {
  for (const auto& experiment : experiments()) {
    EXPECT_EQ(&find_experiment(experiment->name()), experiment.get());
    EXPECT_TRUE(experiment->about().ends_with("."));
    try {
      const Json quick = experiment->settings(Size::quick);
      EXPECT_NE(quick, experiment->settings(Size::standard)) << experiment->name();
      for (const Adjustable& number : experiment->adjustable()) {
        ASSERT_TRUE(quick.contains(number.name)) << experiment->name() << " " << number.name;
        EXPECT_GE(quick[number.name].get<uint64_t>(), number.least);
        EXPECT_LE(quick[number.name].get<uint64_t>(), number.most);
      }
    } catch (const Error& error) {  // its data are not there
      EXPECT_EQ(name(error.code), name(ErrorCode::not_found)) << error.message;
      const auto names = [&](const char* what) { return error.message.find(what) != std::string::npos; };
      EXPECT_TRUE(names("HONE_DATA") || names("linux-doc")) << error.message;
    }
  }
}

TEST(GaussianPrompt, SignalToNoiseIsAsNamed) {
  RandomStream random(0, "prompt");
  double diagonal = 0;
  for (int i = 0; i < 400; ++i) {
    const GaussianPrompt prompt = draw_prompt(random, 5, 16, 1);
    for (const double lambda : prompt.spectrum.eigenvalues()) diagonal += lambda / 5 / 400;
  }
  EXPECT_NEAR(diagonal, 1, 0.05);  // tr K = n
}

TEST(GpBenchmark, SaysWhatTheorySays) {
  const test::TemporaryFolder folder;
  const Json small = {{"snrs", {0.1, 3, 100}},
                      {"identity", {{"steps", {0, 8}}, {"draws", 20000}}},
                      {"steps", {{"kernels", 60}, {"draws", 4}, {"grid", {0, 1, 2, 5, 8, 13, 30, 80, 200, 1000}}}},
                      {"james_stein", {{"ranks", {2, 3, 6}}, {"strengths", {0, 1, 4}}, {"draws", 20000}}},
                      {"floor", {{"shares", {0, 0.5, 1}}, {"kernels", 10}, {"queries", 20}}}};
  const lab::Run result = run_small("gp-benchmark", small, folder.path() / "run");
  const Json& summary = result.report.summary;
  // Six comparisons: |z| > 4 has a probability below .0004.
  EXPECT_LT(summary["identity"]["largest_z"].get<double>(), 4);
  // No fixed T is best at both ends; a higher signal-to-noise ratio wants more steps.
  EXPECT_EQ(summary["best_steps"]["no_fixed_best"], true);
  double last = -1;
  for (const Json& at : summary["best_steps"]["by_snr"]) {
    EXPECT_GE(at["steps"].get<double>(), last);
    last = at["steps"];
    EXPECT_LE(at["relative_risk"].get<double>(), 1);  // T = 0 is in the grid
  }
  for (const Json& one : summary["james_stein"]["cases"]) {
    const double error = one["difference_error"], difference = one["difference"];
    if (one["rank"] == 2) {
      EXPECT_NEAR(difference, 0, 1e-6);  // 1 − (2 − 2)/‖r‖² = 1; T → ∞ is the projection
      continue;
    }
    EXPECT_LT(difference, 0);
    EXPECT_NEAR(difference, one["theory"].get<double>() - 1, 4 * error);
    EXPECT_NEAR(one["descent"].get<double>(), 1, 0.05);
    if (one["strength"] == 0) {  // risk 2σ² whatever the rank
      EXPECT_NEAR(one["theory"].get<double>(), 2 / one["rank"].get<double>(), 1e-12);
    }
  }
  for (const Json& one : summary["floor"]["cases"]) {
    const double floor = one["floor"], least = one["least"];
    EXPECT_GT(least, floor - 0.15);  // ten kernels of twenty queries
    if (floor > 0) {
      EXPECT_GT(least, one["least_all_features"].get<double>() + 0.3);
    }
    EXPECT_LT(one["least_all_features"].get<double>(), 0.1);
  }
  EXPECT_EQ(result.report.figures.size(), 4);
}

// Rows of a run that somebody edited, whose numbers no longer fit each other.
TEST(GpBenchmark, EditedRowsAreDamaged) {
  const test::TemporaryFolder folder;
  const Json small = {{"snrs", {0.1, 3}},
                      {"identity", {{"steps", {0, 8}}, {"draws", 10}}},
                      {"steps", {{"kernels", 4}, {"draws", 2}, {"grid", {0, 8}}}},
                      {"james_stein", {{"ranks", {3}}, {"strengths", {1}}, {"draws", 10}}},
                      {"floor", {{"shares", {0.5}}, {"kernels", 2}, {"queries", 2}}}};
  run_small("gp-benchmark", small, folder.path() / "run");
  const std::string rows = read_file(folder.path() / "run/rows.csv");
  // One kernel fewer of a selector; no row of a part or of a method.
  for (const auto& [from, to, all] : {std::tuple("Gibbs mixture", "another", false),
                                      {",steps,", ",step,", true},
                                      {"james-stein,", "james,", true},
                                      {"subspace,", "space,", true}}) {
    const size_t header = rows.find('\n') + 1;
    std::string edited = rows.substr(header);
    size_t edits = 0;
    for (size_t at = edited.rfind(from); at != std::string::npos && (all || edits == 0); at = edited.rfind(from)) {
      edited.replace(at, std::string(from).size(), to);
      ++edits;
    }
    EXPECT_GT(edits, 0U) << from;
    folder.write("run/rows.csv", rows.substr(0, header) + edited);
    HONE_EXPECT_ERROR(run_small("gp-benchmark", small, folder.path() / "run"), ErrorCode::corrupt, "rows");
  }
  HONE_EXPECT_ERROR(gp_report({{"seed", 0}, {"steps", {{"grid", {0, 8}}}}}, Table(gp_columns())), ErrorCode::corrupt,
                    "no rows of part steps");
}

TEST(CertificateExperiment, CoversWhereTheTheoremHolds) {
  const test::TemporaryFolder folder;
  const Json small = {{"examples", {4, 30}}, {"snrs", {0, 3}}, {"kernels", 5}, {"draws", 200}, {"delta", 0.3}};
  const Json summary = run_small("certificate", small, folder.path() / "run").report.summary;
  for (const char* kind : {"T_MAP, known", "mixture, known"}) {
    EXPECT_EQ(summary["coverage"][kind]["draws"], 4000);
    // 4 cases of 1 000 draws, each failing with a probability of at most δ.
    EXPECT_LT(summary["coverage"][kind]["worst_rate"].get<double>(), 0.3 + 3 * std::sqrt(0.3 * 0.7 / 1000));
  }
  for (const Json& one : summary["cases"]) {
    EXPECT_EQ(one["assumed"], one["certificate"].get<std::string>().find("plug-in") != std::string::npos);
    EXPECT_GT(one["slack"].get<double>(), 0);
    if (one["assumed"] == false) {
      EXPECT_LE(one["needed_slack"].get<double>(), one["slack"].get<double>());
    }
    if (one["certificate"] == "T_MAP, known" && one["snr"] == 0) {
      // Σ* = σ²I: v̄ = 1, slack = sqrt((log 31 + log 1/δ)/n).
      EXPECT_NEAR(one["slack"].get<double>(), std::sqrt(std::log(31 / 0.3) / one["examples"].get<double>()), 1e-9);
    }
  }
}

TEST(LabExperiments, DoNotDependOnThreads) {
  const test::TemporaryFolder folder;
  const Json small = {{"examples", {4}}, {"snrs", {0, 3}}, {"kernels", 4}, {"draws", 10}};
  const int before = threads();
  for (const int count : {1, 3}) {
    set_threads(count);
    run_small("certificate", small, folder.path() / std::to_string(count));
  }
  set_threads(before);
  EXPECT_EQ(read_file(folder.path() / "1/rows.csv"), read_file(folder.path() / "3/rows.csv"));
  EXPECT_EQ(read_file(folder.path() / "1/report.md"), read_file(folder.path() / "3/report.md"));
}

}  // namespace
}  // namespace hone::lab::lab_test
