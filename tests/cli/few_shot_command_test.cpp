// `hone fewshot` and `hone explain` as their users meet them.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "hone/fewshot.h"
#include "tests/golden.h"
#include "tests/program.h"

namespace hone::few_shot_command_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::expect_failure;
using test::object_of;
using test::Result;
using test::run_program;
using Arguments = std::vector<std::string>;

class FewShotCommand : public testing::Test {
 protected:
  const test::TemporaryFolder scratch;  // before what is written to it
  const std::string llama = test::tiny_model("llama").string();
  const std::string csv = write("a.csv",
                                "id,label,input\r\n1,door,\"red, \"\"and\"\" old\"\r\n2,sea,\"blue\nand deep\"\r\n"
                                "3,door,wood\r\n");

  std::string write(const std::string& name, const std::string& text) const {
    return scratch.write(name, text).string();
  }
  Arguments fewshot(const std::string& examples, const Arguments& more) const {
    Arguments all = {"fewshot", llama, "--examples", examples, "--layers", "1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  // One query, in the layers that `more` says.
  Arguments one_query(const Arguments& more) const {
    Arguments all = {"fewshot", llama, "--examples", csv, "--query", "q", "--json"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

void expect_keys(const json& object, const std::set<std::string>& keys) {
  std::set<std::string> found;
  for (const auto& [key, value] : object.items()) found.insert(key);
  EXPECT_EQ(found, keys);
}

const std::set<std::string> decision_keys = {"adapt",
                                             "base_hash",
                                             "blocks",
                                             "eigenvalues",
                                             "evidence",
                                             "examples",
                                             "filter",
                                             "floor_bound_bits",
                                             "lambda_star",
                                             "leave_one_out_losses",
                                             "map_certificate",
                                             "map_steps",
                                             "mixture_certificate",
                                             "noise_variance",
                                             "outputs",
                                             "outputs_along_steps",
                                             "posterior",
                                             "prior",
                                             "query_modes",
                                             "real_steps",
                                             "signal_boundary",
                                             "residual_modes",
                                             "residuals",
                                             "rho",
                                             "risk_adapted",
                                             "risk_base",
                                             "seconds",
                                             "signal_variance",
                                             "steps",
                                             "target_scale",
                                             "trusted",
                                             "trusted_steps",
                                             "weights"};

TEST_F(FewShotCommand, PrintsOneObjectForAllQueries) {
  const std::string queries = write("queries.txt", "old wood\n\n  \ndeep\r\n");
  const json object = object_of(fewshot(csv, {"--query", "red", "--query", "-", "--queries", queries, "--json"}),
                                {.input = "from stdin\nblue\n"});
  expect_keys(object, {"model", "base_hash", "precision", "task", "labels", "examples", "subspace", "steps", "seconds",
                       "answers"});
  EXPECT_EQ(object["labels"], (std::vector<std::string>{"door", "sea"}));
  EXPECT_EQ(object["examples"], 3);
  ASSERT_EQ(object["answers"].size(), 5U);
  EXPECT_EQ(object["answers"][1]["query"], "from stdin");
  EXPECT_EQ(object["answers"][4]["query"], "deep");
  for (const json& answer : object["answers"]) {
    expect_keys(answer, {"query", "label", "classes", "hone"});
    expect_keys(answer["hone"], decision_keys);
    double sum = 0;
    for (const json& one : answer["classes"]) {
      expect_keys(one, {"label", "probability", "in_context", "adapted"});
      sum += one["probability"].get<double>();
      EXPECT_LE(std::log2(one["in_context"].get<double>() / one["probability"].get<double>()),
                answer["hone"]["floor_bound_bits"].get<double>() + 1e-9);
    }
    EXPECT_NEAR(sum, 1, 1e-9);
    EXPECT_EQ(answer["hone"]["steps"].size(), 31U);
    EXPECT_EQ(answer["hone"]["blocks"].size(), 2U);
  }
}

// Three queries or more are read by tangents, unless every query's Bayes gap is asked for or blocks depend on queries.
TEST_F(FewShotCommand, ManyQueriesShareWhatTheyCan) {
  const Arguments queries = {"--query", "red", "--query", "old wood", "--query", "deep", "--json"};
  const auto with = [&](Arguments more) {
    more.insert(more.end(), queries.begin(), queries.end());
    return object_of(fewshot(csv, more))["answers"];
  };
  const json shared = with({}), each = with({"--bayes-gap"});
  const json by_query = with({"--subspace", "query-aware", "--budget", "1"});
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(shared[i]["hone"]["risk_adapted"].is_null());
    EXPECT_TRUE(each[i]["hone"]["risk_adapted"].is_number());
    EXPECT_TRUE(by_query[i]["hone"]["risk_base"].is_number());
    EXPECT_EQ(shared[i]["label"], each[i]["label"]);
    for (size_t c = 0; c < 2; ++c) {
      EXPECT_EQ(shared[i]["classes"][c]["in_context"], each[i]["classes"][c]["in_context"]);
      EXPECT_NEAR(shared[i]["classes"][c]["probability"].get<double>(),
                  each[i]["classes"][c]["probability"].get<double>(), 1e-4);
    }
  }
  const Result words = run_program(fewshot(csv, {"--query", "red", "--query", "old wood", "--query", "deep"}));
  EXPECT_EQ(words.code, 0) << words.err;
  EXPECT_EQ(words.out.find("nan"), std::string::npos) << words.out;
}

TEST_F(FewShotCommand, JsonLinesAndTablesAreTheSameExamples) {
  const std::string jsonl =
      write("a.jsonl",
            "{\"input\": \"red, \\\"and\\\" old\", \"label\": \"door\"}\n\n{\"input\": \"blue\\nand deep\", "
            "\"label\": \"sea\", \"more\": 1}\n{\"input\": \"wood\", \"label\": \"door\"}");
  const json a = object_of(fewshot(csv, {"--query", "q", "--json"}));
  const json b = object_of(fewshot(jsonl, {"--query", "q", "--json"}));
  EXPECT_EQ(a["answers"][0]["classes"], b["answers"][0]["classes"]);
  const std::string tsv =
      write("a.tsv", "input\tlabel\n\"red, \"\"and\"\" old\"\tdoor\n\"blue\nand deep\"\tsea\nwood\tdoor\n");
  const json c = object_of(fewshot(tsv, {"--query", "q", "--json"}));
  EXPECT_EQ(a["answers"][0]["classes"], c["answers"][0]["classes"]);
}

// Words reach the rule of their name: what the library chooses and trusts by it, which no two of them agree on here.
TEST_F(FewShotCommand, EveryRuleAndEveryWayToStep) {
  using Subspace = FewShotOptions::Subspace;
  using Steps = FewShotOptions::Steps;
  const auto model = Model::open(llama);
  const std::vector<LabelledText> examples = {
      {"red, \"and\" old", "door"}, {"blue\nand deep", "sea"}, {"wood", "door"}};
  const std::vector<std::pair<std::string, Subspace>> rules = {{"query-aware", Subspace::query_aware},
                                                               {"greedy", Subspace::greedy},
                                                               {"exact", Subspace::exact},
                                                               {"trace", Subspace::trace},
                                                               {"last-layer", Subspace::last_layer},
                                                               {"random", Subspace::random}};
  std::set<std::vector<bool>> choices;
  for (const auto& [word, subspace] : rules) {
    std::vector<bool> expected, chosen;
    for (const size_t budget : {2, 3}) {  // no two rules agree on both
      FewShot few_shot(model, examples, {.layers = 3, .subspace = subspace, .budget = budget});
      const FewShotAnswer answer = few_shot.answer("q");
      for (const BlockChoice& block : answer.report.blocks) expected.push_back(block.chosen);
      const json object =
          object_of(one_query({"--layers", "3", "--subspace", word, "--budget", std::to_string(budget)}));
      for (const json& block : object["answers"][0]["hone"]["blocks"]) chosen.push_back(block["chosen"]);
    }
    EXPECT_EQ(chosen, expected) << word;
    choices.insert(chosen);
  }
  EXPECT_EQ(choices.size(), rules.size());
  const std::vector<std::pair<std::string, Steps>> ways = {{"evidence", Steps::evidence},
                                                           {"profiled", Steps::profiled},
                                                           {"gibbs", Steps::gibbs},
                                                           {"loo", Steps::loo},
                                                           {"5", Steps::fixed}};
  std::set<std::vector<double>> all_trusted;
  for (const auto& [word, steps] : ways) {
    FewShot few_shot(model, examples, {.layers = 1, .steps = steps, .max_steps = 9, .fixed_steps = 5});
    const std::vector<double> expected = few_shot.answer("q").report.trusted;
    const json object = object_of(one_query({"--layers", "1", "--steps", word, "--max-steps", "9"}));
    const auto trusted = object["answers"][0]["hone"]["trusted"].get<std::vector<double>>();
    ASSERT_EQ(trusted.size(), 10U) << word;
    for (size_t t = 0; t < trusted.size(); ++t) EXPECT_NEAR(trusted[t], expected[t], 1e-6) << word << " " << t;
    all_trusted.insert(trusted);
  }
  EXPECT_EQ(all_trusted.size(), ways.size());
  const json pooled =
      object_of(fewshot(csv, {"--query", "q", "--json", "--steps", "pooled", "--earlier", csv, "--earlier", csv}));
  EXPECT_NE(pooled["answers"][0]["hone"]["prior"][0], pooled["answers"][0]["hone"]["prior"][30]);
  const json named = object_of(one_query({"--blocks", "L0.v.h1,L1.q"}));
  EXPECT_EQ(named["answers"][0]["hone"]["blocks"][1]["block"], "L1.q");
}

TEST_F(FewShotCommand, WordsForAReader) {
  const Result result = run_program(fewshot(csv, {"--query", "old wood", "--exact-update", "--descent"}));
  EXPECT_EQ(result.code, 0) << result.err;
  for (const char* part :
       {"old wood", "in-context", "of 2 blocks", "bits worse than in-context", "updated weights", "gradient descent"})
    EXPECT_NE(result.out.find(part), std::string::npos) << part << "\n" << result.out;
  // The promise is printed with two decimals, and never less than it is.
  const double bound = object_of(one_query({}))["answers"][0]["hone"]["floor_bound_bits"];
  const std::string before = "in-context whatever is true", at_most = "at most ";
  const size_t printed = result.out.rfind(at_most, result.out.find(before)) + at_most.size();
  EXPECT_GE(std::stod(result.out.substr(printed)), bound);
  EXPECT_LT(std::stod(result.out.substr(printed)), bound + 0.01);
  const Result quiet = run_program(fewshot(csv, {"--query", "old wood", "--quiet"}));
  EXPECT_EQ(std::count(quiet.out.begin(), quiet.out.end(), '\n'), 1) << quiet.out;
  const std::string numbers =
      write("n.jsonl", "{\"input\": \"a\", \"label\": 1}\n{\"input\": \"b\", \"label\": 2.5}\n");
  const json object = object_of(fewshot(numbers, {"--query", "c", "--regression", "--json"}));
  expect_keys(object["answers"][0],
              {"query", "label", "value", "in_context_value", "adapted_value", "deviation", "hone"});
}

TEST_F(FewShotCommand, ExplainDrawsEveryPart) {
  const Result result = run_program({"explain", llama, "--examples", csv, "--query", "old wood", "--layers", "2"});
  EXPECT_EQ(result.code, 0) << result.err;
  for (const char* part : {"leave-one-out residuals", "spectrum", "fitted  Bayes", "weight in the answer, p(",
                           "predicts", "T_MAP", "blocks", "L1", "v0", "Adapted predictions"})
    EXPECT_NE(result.out.find(part), std::string::npos) << part << "\n" << result.out;
  const json object = object_of({"explain", llama, "--examples", csv, "--query", "old wood", "--json"});
  expect_keys(object, {"model", "query", "label", "classes", "hone", "sentence"});
}

TEST_F(FewShotCommand, ExplainWritesFiguresWhereGnuplotIs) {
  const fs::path figures = scratch.path() / "fig ' ures";
  const Result result =
      run_program({"explain", llama, "--examples", csv, "--query", "old wood", "--svg", figures.string()});
  if (result.code == 1 && result.err.find("gnuplot-nox") != std::string::npos) GTEST_SKIP() << result.err;
  EXPECT_EQ(result.code, 0) << result.err;
  for (const char* name : {"residuals", "spectrum", "evidence", "filter", "blocks", "prediction"}) {
    const std::string svg = read_file(figures / (std::string(name) + ".svg"));
    EXPECT_NE(svg.find("</svg>"), std::string::npos) << name;
    EXPECT_GT(svg.size(), 2000U) << name;
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(figures), {}), 6);
}

TEST_F(FewShotCommand, AnAnswerIsPrintedWhateverBecomesOfItsFigures) {
  const std::vector<std::string> explain = {"explain", llama, "--examples", csv, "--query", "old wood", "--svg"};
  const auto with = [&](const std::string& folder) {
    std::vector<std::string> arguments = explain;
    arguments.push_back(folder);
    return arguments;
  };
  expect_failure(with(csv + "/figures"), "cannot make the folder");
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", scratch.path().c_str(), 1);
  const Result without = run_program(with((scratch.path() / "figures").string()));
  ::setenv("PATH", path.c_str(), 1);
  EXPECT_EQ(without.code, 1);
  EXPECT_NE(without.err.find("gnuplot-nox"), std::string::npos) << without.err;
  EXPECT_NE(without.out.find("dapt"), std::string::npos) << without.out;
  EXPECT_TRUE(fs::is_empty(scratch.path() / "figures"));
}

TEST_F(FewShotCommand, SaysWhatIsWrongWithExamples) {
  const auto refuse = [&](const std::string& name, const std::string& text, const std::string& message) {
    expect_failure(fewshot(write(name, text), {"--query", "q"}), message);
  };
  refuse("e.csv", "", "e.csv': there are no examples");
  refuse("e.csv", "input,label\n", "e.csv': there are no examples");
  refuse("e.csv", "input,class\na,b\n", "line 1: the header has no column 'label'");
  refuse("e.csv", "input,label\na,b\nc\n", "line 3: 1 fields under a header of 2");
  refuse("e.csv", "input,label\n\"a,b\n", "line 2: a quoted field does not end");
  refuse("e.csv", "input,label\n\"a\"b,c\n", "quotes inside a field are doubled");
  refuse("e.csv", "input,label\na,x\nb,x\n", "e.csv': every example has the label 'x'");
  refuse("e.jsonl", "{\"input\": \"a\", \"label\": \"b\"}\n{", "line 2: not a JSON object");
  refuse("e.jsonl", "{\"input\": 1, \"label\": \"b\"}\n", "line 1: no \"input\"");
  refuse("e.jsonl", "{\"input\": \"a\"}\n", "line 1: no \"label\"");
  expect_failure(fewshot((scratch.path() / "absent").string(), {"--query", "q"}), "absent");
  expect_failure(fewshot(csv, {}), "--query or --queries is required", 2);
  expect_failure(fewshot(csv, {"--queries", write("none.txt", "")}), "there is no query");
  expect_failure(fewshot(csv, {"--query", ""}), "--query is empty");
  expect_failure(one_query({"--blocks", "L0.x"}), "names no block");
  expect_failure(one_query({"--blocks", "L9.v"}), "does not exist");
  expect_failure(fewshot(csv, {"--query", "q", "--budget", "1"}), "needs a rule");
  expect_failure(fewshot(csv, {"--query", "q", "--c", "1"}), "not between 0 and 1");
  expect_failure(fewshot(csv, {"--query", "q", "--labels", "door,sea,door"}), "hone: label 'door' is given twice");
  expect_failure(fewshot(csv, {"--query", "q", "--labels", "door"}), "hone: 'door' is the only label that is named");
  expect_failure(fewshot(csv, {"--query", "q", "--labels", "1,door", "--regression"}), "hone: label 'door'");
  expect_failure(fewshot(csv, {"--query", std::string(3000, 'x')}), "query 1 ('xxxx");
  expect_failure(fewshot(csv, {"--queries", write("long.txt", "short\n" + std::string(3000, 'y'))}), "query 2 ('yyyy");
  expect_failure(fewshot(csv, {"--query", "q", "--labels", "door,hill"}), "example 2 has the label 'sea'");
  for (const char* command : {"fewshot", "explain"})
    expect_failure({command, llama, "--examples", csv, "--query", ""}, "--query is empty");
  const std::string none = write("none.csv", "input,label\n");
  expect_failure(fewshot(csv, {"--query", "q", "--steps", "pooled", "--earlier", none}), "none.csv");
}

// An earlier prompt may lack labels that are named.
TEST_F(FewShotCommand, EarlierPromptsHaveTheNamedLabels) {
  const std::string one = write("one.csv", "input,label\nold wood,door\nnew wood,door\n");
  const Arguments pooled = {"--query", "q", "--json", "--steps", "pooled", "--earlier", one};
  expect_failure(fewshot(csv, pooled), "one.csv");
  Arguments named = pooled;
  named.insert(named.end(), {"--labels", "door,sea"});
  const json object = object_of(fewshot(csv, named));
  EXPECT_EQ(object["answers"][0]["hone"]["prior"].size(), 31U);
}

// A head's column is its own, whatever other heads of its layer adapt.
TEST_F(FewShotCommand, BlocksStandInTheirColumns) {
  const Result result =
      run_program({"explain", llama, "--examples", csv, "--query", "old wood", "--blocks", "L0.v.h1,L1.v.h0,L1.q"});
  EXPECT_EQ(result.code, 0) << result.err;
  const std::string map = result.out.substr(result.out.find("blocks:"));
  std::vector<std::string> lines;
  for (size_t at = map.find('\n') + 1; lines.size() < 3; at = map.find('\n', at) + 1)
    lines.push_back(map.substr(at, map.find('\n', at) - at));
  EXPECT_LT(lines[0].find("q"), lines[0].find("v0")) << map;
  EXPECT_LT(lines[0].find("v0"), lines[0].find("v1")) << map;
  EXPECT_EQ(std::ranges::count(lines[1], '['), 2) << map;  // L1: q, v0
  EXPECT_EQ(std::ranges::count(lines[2], '['), 1) << map;  // L0: v1
  EXPECT_EQ(lines[2].find('['), lines[0].find("v1") - 1) << map;
}

// Before the model or the examples are read.
TEST_F(FewShotCommand, SaysWhatIsWrongWithOptions) {
  for (const std::string command : {"fewshot", "explain"}) {
    const auto refuse = [&](const Arguments& more, const std::string& message) {
      Arguments all = {command, "absent.gguf", "--examples", "absent.csv", "--query", "q"};
      all.insert(all.end(), more.begin(), more.end());
      expect_failure(all, message, 2);
    };
    refuse({"--steps", "many"}, "--steps");
    refuse({"--subspace", "nonsense"}, "--subspace");
    refuse({"--steps", "pooled"}, "--steps pooled and --earlier FILE need each other");
    refuse({"--earlier", csv}, "--steps pooled and --earlier FILE need each other");
    refuse({"--layers", "1", "--blocks", "L1.v.h0"}, "--layers excludes --blocks with names");
    for (const std::string steps : {"100001", "1000000000000", "9000000000000000000"}) {
      refuse({"--max-steps", steps}, "--max-steps");
      refuse({"--max-steps", steps, "--steps", "pooled", "--earlier", csv}, "--max-steps");
      refuse({"--steps", steps}, "at most 100000");
    }
  }
}

}  // namespace
}  // namespace hone::few_shot_command_test
