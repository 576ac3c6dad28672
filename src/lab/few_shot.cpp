// What few-shot decisions are worth on real data: in-context against hone on SST-2 and CLINC150.
#include <fmt/format.h>

#include "base/files.h"
#include "lab/experiments.h"
#include "lab/few_shot_report.h"

namespace hone::lab {
namespace {

class FewShotExperiment : public Experiment {
 public:
  bool needs_model() const override { return true; }
  std::vector<std::string> columns() const override { return few_shot_columns(); }
  size_t tasks(const Json& config) const override { return config.at("draws"); }

  Json settings(Size size) const override {
    const FewShotOptions defaults;
    Json settings = sizes(size);
    settings.update({{"data_sha256", sha256(file())},
                     {"template", prompt_template()},
                     {"layers", defaults.layers},
                     {"max_steps", defaults.max_steps},
                     {"c", defaults.step},
                     {"floor", defaults.floor}});
    return settings;
  }

  RunTask start(const Json& config, std::shared_ptr<const Model> model, const Watch&) const override {
    if (sha256(file()) != config.at("data_sha256"))
      throw Error(ErrorCode::bad_input, fmt::format("'{}' is not the file that this run began with", file().string()));
    return [config, model, drawn = draws(config)](size_t number, const Watch& watch) {
      const FewShotDraw draw = drawn(number);
      FewShotOptions options;
      options.query_pass = FewShotOptions::QueryPass::tangent;
      options.labels = draw.labels;
      options.prompt_template = config.at("template");
      options.layers = config.at("layers");
      options.max_steps = config.at("max_steps");
      options.step = config.at("c");
      options.floor = config.at("floor");
      FewShot few_shot(model, draw.examples, std::move(options), watch);
      std::vector<Row> rows;
      for (size_t q = 0; q < draw.queries.size(); ++q)
        rows.push_back(few_shot_row(q, draw, few_shot.answer(draw.queries[q].input, watch)));
      return rows;
    };
  }

  Report report(const Json&, const Table& rows) const override {
    Report report = few_shot_report(rows);
    report.text += "## What was fixed\n\n" + std::string(fixed()) +
                   " Value weights of the last layers by heads, c, the most steps and the floor as in the config: the "
                   "defaults of `hone fewshot`. Nothing was chosen by looking at these queries.\n";
    return report;
  }

 protected:
  virtual std::filesystem::path file() const = 0;
  virtual std::string_view prompt_template() const = 0;
  virtual Json sizes(Size size) const = 0;
  virtual std::function<FewShotDraw(size_t)> draws(const Json& config) const = 0;
  virtual std::string_view fixed() const = 0;
};

class FewShotSst2 : public FewShotExperiment {
 public:
  std::string_view name() const override { return "few-shot-sst2"; }
  std::string_view about() const override {
    return "Few-shot answers on SST-2, in-context against hone ($HONE_DATA/sst2/dev.tsv).";
  }

 protected:
  std::filesystem::path file() const override { return sst2_file(); }
  std::string_view prompt_template() const override { return "Review: {input}\nSentiment: {label}\n\n"; }
  Json sizes(Size size) const override {
    const size_t draws = size == Size::quick ? 2 : size == Size::standard ? 25 : 43;
    return {{"draws", draws}, {"examples", 8}, {"queries", size == Size::quick ? 4 : 20}};
  }
  std::function<FewShotDraw(size_t)> draws(const Json& config) const override {
    return [config, sentences = read_sst2(file())](size_t number) {
      return draw_sst2(sentences, config.at("seed"), number, config.at("examples"), config.at("queries"));
    };
  }
  std::string_view fixed() const override {
    return "Sentences of the validation set; every one is asked at most once; examples are drawn whatever their "
           "labels, from the sentences that the draw does not ask.";
  }
};

class FewShotClinc150 : public FewShotExperiment {
 public:
  std::string_view name() const override { return "few-shot-clinc150"; }
  std::string_view about() const override {
    return "Few-shot answers on CLINC150, in-context against hone ($HONE_DATA/clinc150/data_full.json).";
  }

 protected:
  std::filesystem::path file() const override { return clinc150_file(); }
  std::string_view prompt_template() const override { return "Query: {input}\nIntent: {label}\n\n"; }
  Json sizes(Size size) const override {
    if (size == Size::quick) return {{"draws", 2}, {"intents", 3}, {"examples", 2}, {"queries", 4}};
    const size_t draws = size == Size::standard ? 10 : 30;
    return {{"draws", draws}, {"intents", 10}, {"examples", 5}, {"queries", 50}};
  }
  std::function<FewShotDraw(size_t)> draws(const Json& config) const override {
    return [config, data = read_clinc150(file())](size_t number) {
      return draw_clinc150(data, config.at("seed"), number, config.at("intents"), config.at("examples"),
                           config.at("queries"));
    };
  }
  std::string_view fixed() const override {
    return "Each draw takes other intents of the 150, training texts as examples and test texts as queries; a label "
           "is the intent's name with spaces for underscores.";
  }
};

}  // namespace

std::unique_ptr<const Experiment> make_few_shot_sst2() { return std::make_unique<FewShotSst2>(); }
std::unique_ptr<const Experiment> make_few_shot_clinc150() { return std::make_unique<FewShotClinc150>(); }

}  // namespace hone::lab
