// `hone classify` as its users meet it.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/files.h"
#include "tests/program.h"

namespace hone {
namespace {

using nlohmann::json;
using test::Result;
using test::run_program;
using Arguments = std::vector<std::string>;

class ClassifyCommand : public testing::Test {
 protected:
  const test::TemporaryFolder folder;

  // Two clusters, rows a little apart.
  static std::string table(size_t rows, const std::string& second = "sea") {
    std::string text = "a,b,kind\n";
    for (size_t i = 0; i < rows; ++i)
      text += fmt::format("{},{},{}\n", static_cast<double>(i % 2) + 0.01 * static_cast<double>(i), 0.5,
                          i % 2 ? second : "door");
    return text;
  }
  Result classify(const std::string& train, const std::string& test, Arguments more = {}) const {
    Arguments all = {"classify",
                     "--train",
                     folder.write("train.csv", train).string(),
                     "--test",
                     folder.write("test.csv", test).string(),
                     "--neighbours",
                     "5",
                     "--steps",
                     "10"};
    all.insert(all.end(), more.begin(), more.end());
    return run_program(all);
  }
  void refused(const std::string& train, const std::string& test, const std::string& words, Arguments more = {}) const {
    const Result result = classify(train, test, std::move(more));
    EXPECT_EQ(result.code, 1) << words;
    EXPECT_NE(result.err.find(words), std::string::npos) << result.err;
    EXPECT_EQ(result.out, "");
  }
};

TEST_F(ClassifyCommand, PrintsEveryWay) {
  const Result result = classify(table(40), table(10), {"--experts", "4"});
  ASSERT_EQ(result.code, 0) << result.err;
  for (const char* way : {"global", "majority vote", "distance-weighted vote", "local", "hone", "experts",
                          "local, own neighbourhood", "local, used globally", "no answer costs more than 4.32 bits"})
    EXPECT_NE(result.out.find(way), std::string::npos) << way << '\n' << result.out;
}

TEST_F(ClassifyCommand, JsonAndPredictions) {
  const std::string file = (folder.path() / "p.csv").string();
  const Result result = classify(table(40), table(10), {"--json", "--predictions", file, "--solver", "lbfgs"});
  ASSERT_EQ(result.code, 0) << result.err;
  const json object = json::parse(result.out);
  ASSERT_EQ(object["rows"].size(), 5U);
  for (const json& row : object["rows"]) {
    EXPECT_GE(row["accuracy"].get<double>(), 0.9) << row;
    EXPECT_GT(row["queries_per_s"].get<double>(), 0) << row;
    EXPECT_TRUE(row.contains("ece") && row.contains("log_loss_interval")) << row;
  }
  EXPECT_EQ(object["checkpoints"], json({0, 1, 2, 5, 10}));
  const std::string predictions = read_file(file);
  EXPECT_EQ(std::ranges::count(predictions, '\n'), 11);
  EXPECT_TRUE(predictions.starts_with("label,global,majority vote,distance-weighted vote,local,hone,\"p(door)\","))
      << predictions;
}

TEST_F(ClassifyCommand, BadInput) {
  refused(table(40), table(10, "sky"), "sky");
  refused(table(40, "door"), table(10, "door"), "class");
  refused(table(40), "a,b,kind\n1,2\n", "line 2");
  refused(table(40), "a,kind\n1,door\n", "1 features, the training points 2");
  refused(table(40), "", "test.csv");
  refused(table(40) + "nan,1,sea\n", table(10), "train.csv");
  refused(table(4), table(10), "neighbours is 5; give 1 to 4");
  refused("text,kind\nred,door\nblue,sea\n", "text,kind\nred,door\n", "--encoder");
  refused("text,kind\nred,door\nblue,sea\n", table(10), "holds texts, the other features");
  const Result usage = run_program({"classify", "--train", "a.csv", "--test", "b.csv", "--solver", "sgd"});
  EXPECT_EQ(usage.code, 2);
}

}  // namespace
}  // namespace hone
