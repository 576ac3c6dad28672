// hone lab as its users meet it: what it prints, its exit codes, a run that is killed and goes on.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/program.h"

namespace hone::lab_command_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::expect_failure;
using test::Result;
using test::run_program;
using Arguments = std::vector<std::string>;

class LabCommand : public testing::Test {
 protected:
  std::string place(const std::string& name) const { return (scratch.path() / name).string(); }

  test::TemporaryFolder scratch;
};

TEST_F(LabCommand, ListsExperiments) {
  const Result text = run_program({"lab", "list"});
  EXPECT_EQ(text.code, 0);
  for (const char* name : {"gp-benchmark", "certificate"}) EXPECT_NE(text.out.find(name), std::string::npos);
  const json object = json::parse(run_program({"lab", "list", "--json"}).out);
  ASSERT_GE(object["experiments"].size(), 2);
  for (const json& experiment : object["experiments"])
    for (const char* key : {"name", "about", "needs_model", "set"}) EXPECT_TRUE(experiment.contains(key)) << key;
  EXPECT_NE(text.out.find("--set tasks=N, --set descent_tasks=N"), std::string::npos) << text.out;
}

TEST_F(LabCommand, BadUsage) {
  EXPECT_EQ(run_program({"lab", "run", "--help"}).code, 0);
  expect_failure({"lab"}, "--help", 2);
  expect_failure({"lab", "run"}, "NAME", 2);
  expect_failure({"lab", "run", "nonsense", "-o", place("run")}, "gp-benchmark", 2);
  expect_failure({"lab", "run", "certificate", "--quick", "--full"}, "--full", 2);
  expect_failure({"lab", "run", "certificate", "--seed", "many"}, "--seed", 2);
  expect_failure({"lab", "run", "certificate", "--model", "some.gguf", "-o", place("run")}, "uses no model");
  for (const char* number : {"tasks", "tasks=", "=3", "tasks=-1", "tasks=1.5", "tasks=99999999999999999999"})
    expect_failure({"lab", "run", "certificate", "--set", number, "-o", place("run")}, "whole number", 2);
  expect_failure({"lab", "run", "certificate", "--set", "tasks=3", "-o", place("run")}, "no number 'tasks' to set");
  EXPECT_FALSE(fs::exists(place("run")));
  const std::string file = scratch.write("file", "x").string();
  expect_failure({"lab", "run", "certificate", "--quick", "-o", file}, "cannot make the folder '" + file + "'");
  expect_failure({"lab", "run", "certificate", "--model", "some.gguf", "-o", file + "/run"}, "cannot make the folder");
}

TEST_F(LabCommand, AKilledRunGoesOnAndEndsAsAnother) {
  const Arguments command = {"lab", "run", "certificate", "--quick", "--seed", "3", "-o", place("run")};
  {
    const test::Program program(command);  // killed when it leaves this block
    const auto rows = [&] { return fs::exists(place("run/rows.csv")) ? fs::file_size(place("run/rows.csv")) : 0; };
    for (int i = 0; i < 60000 && rows() < 500; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_GE(rows(), 500);
  }
  const Result result =
      run_program({"lab", "run", "certificate", "--quick", "--seed", "3", "-o", place("run"), "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const json object = json::parse(result.out);
  for (const char* key :
       {"folder", "config", "tasks", "resumed", "findings", "results", "files", "warnings", "seconds"})
    EXPECT_TRUE(object.contains(key)) << key;
  EXPECT_GT(object["resumed"], 0);
  EXPECT_EQ(object["config"]["seed"], 3);
  for (const json& file : object["files"]) EXPECT_TRUE(fs::exists(file.get<std::string>())) << file;

  const Result other = run_program({"lab", "run", "certificate", "--quick", "--seed", "3", "-o", place("other")});
  ASSERT_EQ(other.code, 0) << other.err;
  for (const char* word : {"ours:", "published:", "report.md"}) EXPECT_NE(other.out.find(word), std::string::npos);
  for (const char* name : {"config.json", "rows.csv", "summary.json", "report.md"})
    EXPECT_EQ(read_file(place("run/") + name), read_file(place("other/") + name)) << name;
  expect_failure({"lab", "run", "certificate", "--quick", "-o", place("run")}, "seed 3, not 0");
}

}  // namespace
}  // namespace hone::lab_command_test
