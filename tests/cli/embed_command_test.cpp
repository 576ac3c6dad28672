// hone embed: where texts come from, what is written, and what is refused.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "hone/data.h"
#include "hone/encoder.h"
#include "tests/golden.h"
#include "tests/program.h"

namespace hone::test::embed_command_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class EmbedCommand : public ::testing::Test {
 protected:
  const std::string bert = (golden_directory() / "models" / "bert").string();
  const std::vector<std::string> texts = {"the cafe", "", "playing, a token"};

  std::string file(const std::string& name, const std::string& contents) const {
    return folder_.write(name, contents).string();
  }
  std::string out() const { return (folder_.path() / "out.npy").string(); }
  Result embed(std::vector<std::string> arguments, const std::string& input = {}) const {
    arguments.insert(arguments.begin(), "embed");
    arguments.insert(arguments.end(), {"-o", out()});
    return run_program(arguments, {.input = input});
  }
  void expect_vectors(const std::vector<std::string>& arguments, const std::vector<std::string>& of,
                      const EncoderOptions& options = {}, const std::string& input = {}) const {
    fs::remove(out());
    const Result result = embed(arguments, input);
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_TRUE(same_bits(read_npy(out()), TextEncoder::open(bert, options)->embed(of))) << arguments.back();
  }
  void expect_failure(const std::vector<std::string>& arguments, const std::string& words, int code = 1) const {
    fs::remove(out());
    const Result result = embed(arguments);
    EXPECT_EQ(result.code, code);
    EXPECT_NE((result.err + result.out).find(words), std::string::npos) << result.err << result.out;
    EXPECT_FALSE(fs::exists(out()));
  }

  TemporaryFolder folder_;
};

TEST_F(EmbedCommand, LinesJsonAndTables) {
  expect_vectors({bert, file("a.txt", "the cafe\r\n\nplaying, a token")}, texts);
  expect_vectors({bert, "-"}, texts, {}, "the cafe\n\nplaying, a token\n");
  const std::string jsonl = R"({"text": "the cafe"})"
                            "\n\n"
                            R"({"n": 1, "text": ""})"
                            "\n"
                            R"({"text": "playing, a token"})";
  expect_vectors({bert, file("a.jsonl", jsonl)}, texts);
  expect_vectors({bert, "-", "--format", "jsonl"}, texts, {}, jsonl);
  const std::string csv = "id,text\n1,the cafe\n2,\n3,\"playing, a token\"\n";
  expect_vectors({bert, file("a.csv", csv)}, texts);
  expect_vectors({bert, file("a.csv", csv), "--column", "id"}, {"1", "2", "3"});
  expect_vectors({bert, file("one.csv", "text\nthe cafe\n\"\"\n\n\"playing, a token\"\n")}, texts);
  expect_vectors({bert, file("a.tsv", "text\tid\nthe cafe\t1\n\t2\nplaying, a token\t3\n")}, texts);
  expect_vectors({bert, file("a.txt", "the cafe\n"), file("b.txt", "\nplaying, a token")}, texts);
}

TEST_F(EmbedCommand, Options) {
  const std::string lines = file("a.txt", "the cafe\n\nplaying, a token\n");
  expect_vectors({bert, lines, "--layer", "2", "--pooling", "mean", "--no-normalize"}, texts,
                 {.layer = 2, .pooling = Pooling::mean, .normalize = false});
  expect_vectors({bert, lines, "--precision", "int8", "--batch", "1"}, texts, {.precision = Precision::int8});
  expect_vectors({bert, lines, "--max-tokens", "3", "--normalize"}, texts, {.max_tokens = 3});
  const Result result = embed({bert, lines, "--json"});
  const json object = json::parse(result.out);
  EXPECT_EQ(object["texts"], 3);
  EXPECT_EQ(object["dimension"], 32);
  EXPECT_EQ(object["encoder"], "bert L3 cls unit");
  EXPECT_EQ(object["hash"], TextEncoder::open(bert)->hash());
  EXPECT_NE(embed({bert, lines}).out.find("3 vectors of 32 values"), std::string::npos);
  EXPECT_EQ(embed({bert, lines, "--quiet"}).out, "");
}

TEST_F(EmbedCommand, ALanguageModelsStates) {
  const std::string lines = file("a.txt", "the other thing\nto");
  ASSERT_EQ(embed({tiny_model("llama").string(), lines}).code, 0);
  const auto encoder = TextEncoder::open(tiny_model("llama"));
  EXPECT_TRUE(same_bits(read_npy(out()), encoder->embed(std::vector<std::string>{"the other thing", "to"})));
}

TEST_F(EmbedCommand, Refusals) {
  const std::string lines = file("a.txt", "a\n");
  expect_failure({bert, file("empty.txt", "")}, "no text");
  expect_failure({bert, (folder_.path() / "nowhere.txt").string()}, "nowhere.txt");
  expect_failure({(folder_.path() / "nowhere").string(), lines}, "nowhere");
  expect_failure({bert, file("a.csv", "id,words\n1,a\n")}, "there is no column 'text' but id, words");
  expect_failure({bert, file("a.csv", "id,text\n1\n")}, "line 2");
  expect_failure({bert, file("a.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}\n")}, "line 2");
  expect_failure({bert, lines, "--layer", "9"}, "layer 9");
  expect_failure({bert, lines, "--pooling", "max"}, "--pooling", 2);
  expect_failure({bert, lines, "--max-tokens", "500"}, "2 to 40");
  expect_failure({bert, lines, "--batch", "0"}, "--batch", 2);
  expect_failure({bert, lines, "--column", "words"}, "read by lines", 2);
  // Before anything is read.
  const std::string absent = (folder_.path() / "nowhere.txt").string();
  const Result result = run_program({"embed", bert, absent, "-o", (folder_.path() / "no/such/out.npy").string()});
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("out.npy"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace hone::test::embed_command_test
