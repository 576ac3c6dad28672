// Draws of labelled prompts, and the report of few-shot answers against counts made by hand.
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "lab/few_shot_report.h"
#include "lab/rows_file.h"
#include "tests/expect_error.h"
#include "tests/golden.h"
#include "tests/temporary_folder.h"

namespace hone::lab::few_shot_lab_test {
namespace {

TEST(FewShotDraws, AskEverySentenceOnceAndNeverShowIt) {
  std::vector<LabelledSentence> sentences;
  for (int i = 0; i < 40; ++i) sentences.push_back({fmt::format("sentence {}", i), i % 2});
  std::set<size_t> asked;
  for (size_t number = 0; number < 5; ++number) {
    const FewShotDraw draw = draw_sst2(sentences, 3, number, 10, 8);
    EXPECT_EQ(draw.labels, (std::vector<std::string>{"negative", "positive"}));
    ASSERT_EQ(draw.examples.size(), 10U);
    ASSERT_EQ(draw.queries.size(), 8U);
    std::set<size_t> all(draw.query_numbers.begin(), draw.query_numbers.end());
    asked.insert(all.begin(), all.end());
    all.insert(draw.example_numbers.begin(), draw.example_numbers.end());
    EXPECT_EQ(all.size(), 18U);
    for (size_t i = 0; i < 10; ++i) {
      EXPECT_EQ(draw.examples[i].input, sentences[draw.example_numbers[i]].text);
      EXPECT_EQ(draw.examples[i].label, draw.labels[draw.example_numbers[i] % 2]);
    }
    EXPECT_EQ(draw_sst2(sentences, 3, number, 10, 8).example_numbers, draw.example_numbers);
    EXPECT_NE(draw_sst2(sentences, 4, number, 10, 8).example_numbers, draw.example_numbers);
  }
  EXPECT_EQ(asked.size(), 40U);
  HONE_EXPECT_ERROR(draw_sst2(sentences, 3, 5, 10, 8), ErrorCode::bad_input, "there are 40 sentences");
  HONE_EXPECT_ERROR(draw_sst2(sentences, 3, 0, 33, 8), ErrorCode::bad_input, "33 of 32 sentences");
}

TEST(FewShotDraws, TakeTheSameNumberOfExamplesOfEveryIntent) {
  const test::TemporaryFolder folder;
  nlohmann::json file;
  for (const char* intent : {"card_lost", "pay_bill", "play_song", "set_alarm"})
    for (int i = 0; i < 6; ++i) {
      file["train"].push_back({fmt::format("{} train {}", intent, i), intent});
      file["test"].push_back({fmt::format("{} test {}", intent, i), intent});
    }
  const Clinc150 data = read_clinc150(folder.write("data.json", file.dump()));
  std::set<std::vector<std::string>> sets;
  for (size_t number = 0; number < 8; ++number) {
    const FewShotDraw draw = draw_clinc150(data, 1, number, 3, 2, 10);
    ASSERT_EQ(draw.labels.size(), 3U);
    ASSERT_EQ(draw.examples.size(), 6U);
    ASSERT_EQ(draw.queries.size(), 10U);
    sets.insert(draw.labels);
    for (const std::string& label : draw.labels)
      EXPECT_EQ(std::ranges::count(draw.examples, label, &LabelledText::label), 2) << label;
    for (const auto& [texts, split] : {std::pair(&draw.examples, " train "), std::pair(&draw.queries, " test ")})
      for (const LabelledText& text : *texts) {
        std::string intent = text.input.substr(0, text.input.find(split));
        std::ranges::replace(intent, '_', ' ');
        EXPECT_EQ(intent, text.label);
      }
    EXPECT_EQ(std::set(draw.query_numbers.begin(), draw.query_numbers.end()).size(), 10U);
    EXPECT_EQ(draw_clinc150(data, 1, number, 3, 2, 10).query_numbers, draw.query_numbers);
  }
  EXPECT_GT(sets.size(), 3U);
  HONE_EXPECT_ERROR(draw_clinc150(data, 1, 0, 5, 2, 10), ErrorCode::bad_input, "5 of 4 intents");
  HONE_EXPECT_ERROR(draw_clinc150(data, 1, 0, 3, 2, 19), ErrorCode::bad_input, "19 of 18 queries");
  HONE_EXPECT_ERROR(read_clinc150(folder.write("a.json", "{")), ErrorCode::corrupt, "train");
  HONE_EXPECT_ERROR(read_clinc150(folder.write("b.json", R"({"train": [["a", "b"]], "test": [["a"]]})")),
                    ErrorCode::corrupt, R"(["a"] is not a pair)");
}

// Two draws of two queries; the margin that T = 8 predicts is 2 for the first label.
TEST(FewShotReport, CountsWhatTheRowsSay) {
  FewShotDraw draw{{"no", "yes"}, {{"a", "no"}}, {{"b", "no"}, {"c", "yes"}}, {5}, {7, 9}};
  FewShotAnswer answer;
  answer.classes = {{"no", 0.4, 0.9, 0.8}, {"yes", 0.6, 0.1, 0.2}};
  answer.report.outputs_along_steps.assign(9, {-0.5});
  answer.report.outputs_along_steps[8] = {2};
  answer.report.weights = {0.25, 0.75};
  answer.report.bound_bits = 1;
  decide::StepDecision decision;
  decision.posterior.steps = {0, 1};
  decision.posterior.best = 1;
  answer.report.decisions = {decision};
  const test::TemporaryFolder folder;
  RowsFile file(folder.path() / "rows.csv", few_shot_columns());
  for (int task = 0; task < 2; ++task) file.append({few_shot_row(0, draw, answer), few_shot_row(1, draw, answer)});
  const Report report = few_shot_report(file.table());
  EXPECT_EQ(report.summary["queries"], 4);
  EXPECT_EQ(report.summary["draws"], 2);
  const double eight = 1 / (1 + std::exp(-2.0)), map = 1 / (1 + std::exp(0.5));
  const double first[] = {0.4, 0.8, 0.9, map, eight};
  for (size_t m = 0; m < 5; ++m) {
    const Json& method = report.summary["methods"][m];
    const double p = first[m];
    EXPECT_EQ(method["accuracy"], 0.5) << m;
    EXPECT_NEAR(method["log_loss"].get<double>(), -(std::log(p) + std::log(1 - p)) / 2, 1e-12) << m;
    EXPECT_NEAR(method["squared_error"].get<double>(), (1 - p) * (1 - p) + p * p, 1e-12) << m;
    EXPECT_NEAR(method["calibration_error"].get<double>(), std::max(p, 1 - p) - 0.5, 1e-12) << m;
  }
  EXPECT_EQ(report.summary["bound"]["broken"], 4);  // log2(.6 / .2) > 1 bit
  EXPECT_NEAR(report.summary["bound"]["worst_bits"].get<double>(), std::log2(3.0), 1e-12);
  const Json& compared = report.summary["against_in_context"];
  EXPECT_NEAR(compared["log_loss_of_draws"][0]["difference"].get<double>(),
              (std::log(0.4) + std::log(0.6) - std::log(0.8) - std::log(0.2)) / 2, 1e-12);
  EXPECT_NE(report.text.find("| 1 | no, yes | 5 | 2 |"), std::string::npos) << report.text;
}

// The experiment's task on a tiny model, as its settings say.
TEST(FewShotReport, RowsHoldTheAnswersOfTheModel) {
  const auto model = Model::open(test::tiny_model("llama"));
  const FewShotDraw draw{{"the", "and"}, {{"red", "the"}, {"sea", "and"}}, {{"door", "and"}}, {0, 1}, {2}};
  FewShot few_shot(model, draw.examples, {.labels = draw.labels, .layers = 1});
  const FewShotAnswer answer = few_shot.answer("door");
  const test::TemporaryFolder folder;
  RowsFile file(folder.path() / "rows.csv", few_shot_columns());
  file.append({few_shot_row(0, draw, answer)});
  const Table& rows = file.table();
  EXPECT_EQ(rows.number(0, "in_context_true"), answer.classes[1].in_context);
  EXPECT_EQ(rows.number(0, "hone_true"), answer.classes[1].answer);
  EXPECT_EQ(rows.text(0, "hone_label"), answer.label);
  EXPECT_LE(rows.number(0, "worst_bits"), rows.number(0, "bound_bits"));
  EXPECT_EQ(few_shot_report(rows).summary["bound"]["broken"], 0);
}

}  // namespace
}  // namespace hone::lab::few_shot_lab_test
