// certificate: how often [DTV]'s bound on the evidence fails, and how far it lies above the truth. "known": σ² and Σ*
// are the model's own, as the theorem needs. "plug-in": σ² = ‖r‖²/n and Σ* = τ̂²K + σ̂²I from the same residuals, as
// `decide_steps` has to; then δ promises nothing.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "hone/steps.h"
#include "lab/experiments.h"
#include "lab/gaussian_prompt.h"

namespace hone::lab {
namespace {

using decide::Certificate;
using decide::Signal;
using decide::Spectrum;
using decide::StepEvidence;
using decide::StepPosterior;
using Numbers = std::vector<double>;

// What one kind of certificate did on a task's draws.
class Tally {
 public:
  // L, the population score that the certificate bounds, and ℓ_0.
  void add(const Certificate& certificate, double population, double score_of_zero) {
    failures_ += population > certificate.bound;
    vacuous_ += certificate.vacuous;
    slack_ += certificate.slack;
    gain_ += score_of_zero - certificate.score;
    needed_.push_back(population - certificate.score);
  }
  // Draws, failures, vacuous ones, mean slack, mean of ℓ_0 − ℓ, and the slack that would have been enough but for the
  // share δ of the draws.
  Row row(int64_t n, double snr, std::string kind, double delta) {
    const double draws = static_cast<double>(needed_.size());
    std::sort(needed_.begin(), needed_.end());
    const double allowed = std::floor(delta * draws);
    return {n,
            snr,
            std::move(kind),
            static_cast<int64_t>(needed_.size()),
            failures_,
            vacuous_,
            slack_ / draws,
            gain_ / draws,
            needed_[needed_.size() - 1 - static_cast<size_t>(allowed)]};
  }

 private:
  int64_t failures_ = 0, vacuous_ = 0;
  double slack_ = 0, gain_ = 0;
  Numbers needed_;
};

const std::vector<std::string> kinds = {"T_MAP, known", "mixture, known", "T_MAP, plug-in", "mixture, plug-in"};

void add_draw(const Spectrum& spectrum, const Signal& truth, const Signal& assumed, const StepEvidence& evidence,
              const Json& config, bool known, Tally& map, Tally& mixture) {
  const double delta = config.at("delta");
  const double variance = decide::certificate_variance(evidence, spectrum, assumed);
  const StepPosterior posterior =
      decide::step_posterior(evidence, decide::whole_steps(config.at("last_step")), {}, config.at("beta"));
  Numbers population;
  for (const double t : posterior.steps) population.push_back(decide::population_score(evidence, spectrum, truth, t));
  const double mean = std::inner_product(population.begin(), population.end(), posterior.weights.begin(), 0.0);
  map.add(decide::certify_map(evidence, posterior, variance, delta, known), population[posterior.best],
          posterior.scores.front());
  mixture.add(decide::certify_mixture(evidence, posterior, variance, delta, known), mean, posterior.scores.front());
}

struct Case {
  int64_t n;
  double snr;
};

// Kernels are in turn of every case, so that an interrupted run has some of each.
Case case_of(const Json& config, size_t task) {
  const size_t snrs = config.at("snrs").size(), cases = config.at("examples").size() * snrs;
  const size_t at = task % cases;
  return {config.at("examples").at(at / snrs), config.at("snrs").at(at % snrs)};
}

std::vector<Row> run_task(const Json& config, size_t task, const Watch& watch) {
  RandomStream random(config.at("seed"), fmt::format("certificate {}", task));
  const auto [n, snr] = case_of(config, task);
  const GaussianPrompt prompt = draw_prompt(random, static_cast<size_t>(n), config.at("features"), config.at("decay"));
  const Spectrum& spectrum = prompt.spectrum;
  const double rho = decide::step_size(spectrum, config.at("step"));
  const Signal truth{snr, 1};
  std::vector<Tally> tallies(kinds.size());
  const size_t draws = config.at("draws");
  for (size_t draw = 0; draw < draws; ++draw) {
    watch.cancel.check();
    const Numbers r = draw_residuals(random, spectrum, truth);
    const StepEvidence known(spectrum, r, rho, truth.noise_variance);
    add_draw(spectrum, truth, truth, known, config, true, tallies[0], tallies[1]);
    const StepEvidence plug_in(spectrum, r, rho, decide::Noise::fixed);
    add_draw(spectrum, truth, decide::fit_signal(spectrum, r), plug_in, config, false, tallies[2], tallies[3]);
  }
  std::vector<Row> rows;
  for (size_t kind = 0; kind < kinds.size(); ++kind)
    rows.push_back(tallies[kind].row(n, snr, kinds[kind], config.at("delta")));
  return rows;
}

double sum(const Numbers& values) { return std::reduce(values.begin(), values.end()); }

// A kind at one n, or at one n and SNR: all its draws together.
struct Cell {
  size_t draws, failures, vacuous;
  double slack, needed, gain;  // means over kernels
};
Cell cell_of(const Table& rows) {
  const auto count = [&](std::string_view column) {
    size_t total = 0;
    for (size_t row = 0; row < rows.rows(); ++row) total += rows.count(row, column);
    return total;
  };
  const auto mean = [&](std::string_view column) {
    return sum(rows.numbers(column)) / static_cast<double>(rows.rows());
  };
  return {count("draws"), count("failures"), count("vacuous"), mean("slack"), mean("needed_slack"), mean("gain")};
}

double share(size_t count, size_t total) { return static_cast<double>(count) / static_cast<double>(total); }

bool is_known(const std::string& kind) { return kind.ends_with("known"); }

void add_cases(const Table& rows, Report& report) {
  std::vector<std::vector<std::string>> lines;
  Json cases = Json::array();
  for (const std::string& kind : rows.distinct("certificate"))
    for (const std::string& n : rows.distinct("examples"))
      for (const std::string& snr : rows.distinct("snr")) {
        const Cell cell = cell_of(rows.where("certificate", kind).where("examples", n).where("snr", snr));
        const decide::Interval failed = share_interval(cell.failures, cell.draws);
        lines.push_back({kind + (is_known(kind) ? "" : " (assumed)"), n, snr, fmt::format("{}", cell.draws),
                         fmt::format("{:.4f} [{:.4f}, {:.4f}]", failed.mean, failed.low, failed.high),
                         fmt::format("{:.3f}", cell.slack), fmt::format("{:.3f}", cell.needed),
                         fmt::format("{:.3f}", cell.gain),
                         fmt::format("{:.0f} %", 100 * share(cell.vacuous, cell.draws))});
        cases.push_back({{"certificate", kind},
                         {"assumed", !is_known(kind)},
                         {"examples", std::stoul(n)},
                         {"snr", std::stod(snr)},
                         {"draws", cell.draws},
                         {"failures", cell.failures},
                         {"failure_rate_ci", {failed.low, failed.high}},
                         {"slack", cell.slack},
                         {"needed_slack", cell.needed},
                         {"gain", cell.gain},
                         {"vacuous", cell.vacuous}});
      }
  report.summary["cases"] = cases;
  report.text +=
      "## Every case\n*Failed*: share of draws whose population score lies above the bound, with its 95 % interval. "
      "*Slack*: bound minus score. *Needed*: the slack that would have been enough but for the share δ of the "
      "draws. *Gain*: ℓ_0 minus the score; where the slack exceeds it the bound is vacuous. Nats per example, means "
      "over kernels.\n\n" +
      markdown_table({"certificate", "n", "SNR", "draws", "failed", "slack", "needed", "gain", "vacuous"}, lines);
}

void add_findings(const Json& config, const Table& rows, Report& report) {
  for (const std::string& kind : rows.distinct("certificate")) {
    const Table here = rows.where("certificate", kind);
    size_t over = 0, cases = 0, failures = 0, draws = 0, vacuous = 0;
    double worst = 0;
    for (const std::string& n : rows.distinct("examples"))
      for (const std::string& snr : rows.distinct("snr")) {
        const Cell cell = cell_of(here.where("examples", n).where("snr", snr));
        worst = std::max(worst, share(cell.failures, cell.draws));
        over += share(cell.failures, cell.draws) > config.at("delta").get<double>();
        ++cases;
        failures += cell.failures;
        draws += cell.draws;
        vacuous += cell.vacuous;
      }
    report.summary["coverage"][kind] = {{"draws", draws},      {"failures", failures},     {"vacuous", vacuous},
                                        {"worst_rate", worst}, {"cases_over_delta", over}, {"cases", cases}};
    report.findings.push_back(
        {kind + ": bound fails",
         fmt::format("{} of {} draws; most in one case: {:.2f} %", failures, draws, 100 * worst),
         is_known(kind) ? fmt::format("at most {:g} % ([DTV], Thm 7.2)", 100 * config.at("delta").get<double>())
                        : "nothing: the theorem does not cover it"});
    report.findings.push_back({kind + ": bound is vacuous",
                               fmt::format("in {:.1f} % of draws", 100 * share(vacuous, draws)), "not published"});
  }
}

void add_figures(const Json& config, const Table& rows, Report& report) {
  const std::vector<std::string> examples = rows.distinct("examples");
  const double delta = config.at("delta");
  Figure coverage{"coverage", FigureKind::bars, "How often the bound fails", "examples n", "share of draws", {}};
  Figure vacuous{"vacuous", FigureKind::bars, "How often the bound is vacuous", "examples n", "share of draws", {}};
  Figure slack{"slack",      FigureKind::lines,  "Slack of the bound, and the slack that was needed",
               "examples n", "nats per example", {}};
  coverage.categories = vacuous.categories = examples;
  coverage.caption = fmt::format(
      "All signal-to-noise ratios together, with 95 % intervals. Dashed: δ = {:g}, which the "
      "theorem promises for the known ones only.",
      delta);
  vacuous.caption = "The slack exceeds what the score gains over not adapting.";
  slack.caption =
      "Mean over kernels and signal-to-noise ratios. Needed: the slack that would have been enough but for the "
      "share δ of the draws.";
  slack.log_x = slack.log_y = true;
  int colour = 0;
  for (const std::string& kind : rows.distinct("certificate")) {
    Series failed{kind, {}, {}, {}, {}}, empty = failed, mean = failed,
                                         needed{kind + ": needed", {}, {}, {}, {}, true, colour};
    mean.colour = colour++;
    for (const std::string& n : examples) {
      const Cell cell = cell_of(rows.where("certificate", kind).where("examples", n));
      const auto push = [](Series& series, const decide::Interval& interval) {
        series.y.push_back(interval.mean);
        series.low.push_back(interval.low);
        series.high.push_back(interval.high);
      };
      push(failed, share_interval(cell.failures, cell.draws));
      push(empty, share_interval(cell.vacuous, cell.draws));
      for (Series* series : {&mean, &needed}) series->x.push_back(std::stod(n));
      mean.y.push_back(cell.slack);
      needed.y.push_back(cell.needed);
    }
    coverage.series.push_back(failed);
    vacuous.series.push_back(empty);
    if (is_known(kind)) {
      slack.series.push_back(mean);
      slack.series.push_back(needed);
    }
  }
  coverage.series.push_back({"δ", {-0.5, static_cast<double>(examples.size()) - 0.5}, {delta, delta}, {}, {}, true, 7});
  report.figures = {coverage, slack, vacuous};
}

class CertificateExperiment final : public Experiment {
 public:
  std::string_view name() const override { return "certificate"; }
  std::string_view about() const override {
    return "How often the PAC-Bayes bound on a number of steps fails, and how tight it is.";
  }

  Json settings(Size size) const override {
    const bool quick = size == Size::quick, full = size == Size::full;
    return {{"examples", quick ? Json{10, 30, 100} : Json{10, 30, 100, 300}},
            {"features", 64},
            {"decay", 1.0},
            {"step", 0.2},
            {"last_step", 30},
            {"snrs", {0, 0.3, 3}},
            {"delta", 0.05},
            {"beta", 1.0},
            {"kernels", quick  ? 10
                        : full ? 200
                               : 50},
            {"draws", quick ? 100 : 200}};
  }
  std::vector<std::string> columns() const override {
    return {"examples", "snr", "certificate", "draws", "failures", "vacuous", "slack", "gain", "needed_slack"};
  }
  size_t tasks(const Json& config) const override {
    return config.at("examples").size() * config.at("snrs").size() * config.at("kernels").get<size_t>();
  }
  RunTask start(const Json& config, std::shared_ptr<const Model>, const Watch&) const override {
    return [config](size_t task, const Watch& watch) { return run_task(config, task, watch); };
  }
  Report report(const Json& config, const Table& rows) const override {
    Report made;
    add_findings(config, rows, made);
    add_figures(config, rows, made);
    add_cases(rows, made);
    return made;
  }
};

}  // namespace

std::unique_ptr<const Experiment> make_certificate() { return std::make_unique<CertificateExperiment>(); }

}  // namespace hone::lab
