// hone sae: training that goes on, evaluation, the page, and what is refused.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/random.h"
#include "hone/data.h"
#include "tests/golden.h"
#include "tests/program.h"

namespace hone::test::sae_command_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class SaeCommand : public ::testing::Test {
 protected:
  SaeCommand() {
    Matrix x(200, 6);
    RandomStream(1, "x").normals({x.data(), x.size()}, 1);
    write_npy(data(), x);
  }
  std::string data() const { return (folder_.path() / "x.npy").string(); }
  std::string out(const std::string& name) const { return (folder_.path() / name).string(); }
  std::vector<std::string> train(const std::string& name, const std::string& steps) const {
    return {"sae", "train",   data(), "-o",      out(name), "-k",          "2", "--initial-active",
            "4",   "--batch", "50",   "--steps", steps,     "--annealing", "5", "--warmup",
            "3",   "--json"};
  }
  json object(const std::vector<std::string>& arguments) const {
    const Result result = run_program(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return result.code == 0 ? json::parse(result.out) : json();
  }
  void expect_failure(const std::vector<std::string>& arguments, const std::string& words, int code = 1) const {
    const Result result = run_program(arguments);
    EXPECT_EQ(result.code, code);
    EXPECT_NE((result.err + result.out).find(words), std::string::npos) << result.err << result.out;
  }

  // What a run's checkpoint says of it.
  json settings(const std::string& name) const {
    return json::parse(SafeTensors::open(out(name) + "/checkpoint.safetensors").metadata().at("hone.sae_training"));
  }

  TemporaryFolder folder_;
};

TEST_F(SaeCommand, TrainsGoesOnAndEvaluates) {
  const json whole = object(train("whole", "20"));
  EXPECT_EQ(whole.at("config").at("features"), 48);
  EXPECT_EQ(whole.at("resumed"), 0);
  EXPECT_GT(whole.at("evaluation").at("explained_variance"), 0.0);
  object(train("part", "7"));
  EXPECT_EQ(object(train("part", "20")).at("resumed"), 7);
  for (const char* file : {"sae_weights.safetensors", "cfg.json", "checkpoint.safetensors"})
    EXPECT_EQ(read_file(out("part") + "/" + file), read_file(out("whole") + "/" + file)) << file;

  const json evaluation = object({"sae", "eval", out("whole"), data(), "--json"}).at("evaluation");
  EXPECT_EQ(evaluation.at("rows"), 200);
  EXPECT_NEAR(evaluation.at("explained_variance"), whole.at("evaluation").at("explained_variance"), 1e-5);
  EXPECT_LE(evaluation.at("l0"), 2.0);
}

TEST_F(SaeCommand, FewFeaturesStartWithAll) {
  object({"sae", "train", data(), "-o", out("few"), "-k", "2", "--batch", "50", "--steps", "1", "--json"});
  EXPECT_EQ(settings("few").at("initial_active"), 48);
}

TEST_F(SaeCommand, ManyActiveFeaturesStartWithAsMany) {
  object({"sae", "train", data(), "-o", out("many"), "--features", "256", "-k", "200", "--batch", "50", "--steps", "1",
          "--json"});
  EXPECT_EQ(settings("many").at("initial_active"), 200);
}

TEST_F(SaeCommand, AShortRunEndsAtTheActiveFeaturesAskedFor) {
  const auto short_run = [&](const std::string& steps, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {
        "sae", "train",   data(), "-o",      out("short"), "-k",    "2", "--initial-active",
        "4",   "--batch", "50",   "--steps", steps,        "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  EXPECT_EQ(object(short_run("200")).at("curve").back().at("active"), 2);
  EXPECT_EQ(settings("short").at("annealing_steps"), 100);
  EXPECT_EQ(settings("short").at("warmup_steps"), 50);
  // More steps of the same run.
  EXPECT_EQ(object(short_run("300")).at("resumed"), 200);
  EXPECT_EQ(settings("short").at("annealing_steps"), 100);
  EXPECT_EQ(settings("short").at("warmup_steps"), 50);
  EXPECT_EQ(object(short_run("300", {"--annealing", "100", "--warmup", "50"})).at("resumed"), 300);
  expect_failure(short_run("300", {"--annealing", "150"}), "other options");
  expect_failure(short_run("300", {"--warmup", "75"}), "other options");
}

TEST_F(SaeCommand, WritesThePage) {
  object(train("sae", "5"));
  std::string lines;
  for (size_t i = 0; i < 200; ++i) lines += i == 50 ? "\r\n" : "text & " + std::to_string(i) + "\r\n";
  const std::string shown = folder_.write("lines.txt", lines).string();
  const json page = object({"sae", "report", out("sae"), data(), "-o", out("page.html"), "--lines", shown, "--json"});
  EXPECT_EQ(page.at("page"), out("page.html"));
  EXPECT_NE(read_file(out("page.html")).find("text &amp; 1"), std::string::npos);
  EXPECT_EQ(read_file(out("page.html")).find('\r'), std::string::npos);
  object({"sae", "report", out("sae") + "/", data(), "-o", out("page.html"), "--json"});
  EXPECT_NE(read_file(out("page.html")).find("<title>sae</title>"), std::string::npos);
  expect_failure({"sae", "report", out("sae"), data(), "--lines", folder_.write("few.txt", "a\nb\n").string()},
                 "shows 2 rows");
}

TEST_F(SaeCommand, ReadsAModelsLayer) {
  const std::string model = tiny_model("llama").string();
  const std::string text =
      folder_.write("text.txt", read_file(golden_directory() / "text.txt").substr(0, 3000)).string();
  const std::vector<std::string> source = {"--model", model, "--layer", "1", "--text", text, "--window", "32"};
  const auto with_source = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), source.begin(), source.end());
    return arguments;
  };
  object(with_source({"sae", "train", "-o", out("lm"), "--features", "96", "-k", "4", "--initial-active", "8",
                      "--batch", "64", "--steps", "10", "--json"}));
  const json evaluation = object(with_source({"sae", "eval", out("lm"), "--json"}));
  EXPECT_GT(evaluation.at("downstream").at("tokens"), 100);
  EXPECT_TRUE(evaluation.at("downstream").contains("recovered"));
  const json first = object(with_source({"sae", "eval", out("lm"), "--json", "--rows", "64"}));
  EXPECT_EQ(first.at("evaluation").at("rows"), 64);
  EXPECT_LT(first.at("downstream").at("tokens"), 65);
  object(with_source({"sae", "report", out("lm"), "-o", out("lm.html"), "--json"}));
  EXPECT_NE(read_file(out("lm.html")).find("more likely"), std::string::npos);
}

TEST_F(SaeCommand, RefusesWhatCannotBe) {
  object(train("sae", "5"));
  auto other = train("sae", "5");
  other.insert(other.end(), {"--dropout", "0.25"});
  expect_failure(other, "other options");
  expect_failure(train("sae", "4"), "has done 5 steps");
  auto weighed = train("weighed", "5");
  weighed.insert(weighed.end(), {"--revival", "auxiliary-k", "--auxiliary-weight=-1"});
  expect_failure(weighed, "auxiliary weight: -1");
  expect_failure({"sae", "train", data(), "-o", out("a"), "--features", "8", "-k", "9"}, "k: 9");
  expect_failure({"sae", "train", data(), "-o", out("a"), "-k", "2", "--initial-active", "128"}, "initial k: 128");
  expect_failure({"sae", "train", "-o", out("a"), "--model", "m", "--text", "t"}, "--layer", 2);
  EXPECT_FALSE(std::filesystem::exists(out("a")));
  expect_failure({"sae", "train", "-o", out("a")}, "DATA", 2);
  expect_failure({"sae", "train", "-o", out("a"), "--model", "m", "--layer", "1"}, "--store or --text", 2);
  expect_failure({"sae", "train", out("absent.npy"), "-o", out("a")}, "absent.npy");
  expect_failure({"sae", "eval", out("nowhere"), data()}, "cfg.json");
  for (const char* share : {"-5", "7"})
    expect_failure({"sae", "eval", out("sae"), data(), std::string("--dead-below=") + share}, "dead");
  // Before anything is read.
  expect_failure({"sae", "train", out("absent.npy"), "-o", data() + "/sae"}, "cannot make the folder");
  expect_failure({"sae", "report", out("absent"), data(), "-o", out("no/page.html")}, "page.html");
  expect_failure({"sae", "train", data()}, "--output", 2);
  expect_failure({"sae", "train", "-o", out("a"), "--model", "m", "--layer", "1", "--store", "s", "--window", "9"},
                 "--text", 2);
  auto ignored = train("ignored", "5");
  ignored.insert(ignored.end(), {"--auxiliary-weight", "1"});
  expect_failure(ignored, "require --revival auxiliary-k", 2);
  expect_failure({"sae"}, "subcommand", 2);
}

}  // namespace
}  // namespace hone::test::sae_command_test
