// The program as its users meet it: what every subcommand prints, its exit codes, and what it says when it cannot.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "tests/gguf_writer.h"
#include "tests/golden.h"
#include "tests/program.h"

namespace hone::command_line_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Result;
using test::run_program;
using Arguments = std::vector<std::string>;

const Arguments subcommands = {"model", "tokenize", "score",   "index",  "search",
                               "eval",  "complete", "fewshot", "explain"};
const std::string usual_prompt = "word1 of file 3 is here. word8 of";

std::string golden(const std::string& name) { return (test::golden_directory() / "models" / name).string(); }

std::string sentences(int file, int count) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += "word" + std::to_string(i * 7 % 13) + " of file " + std::to_string(file) + " is here. ";
  return text;
}

// One object on one line, nothing on stderr.
json object_of(const Result& result) {
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out.find('\n'), result.out.size() - 1) << result.out;
  json object = json::parse(result.out, nullptr, false);
  EXPECT_TRUE(object.is_object()) << result.out;
  return object;
}

void expect_keys(const json& object, const std::set<std::string>& keys) {
  for (const std::string& key : keys) EXPECT_TRUE(object.contains(key)) << key << " is missing in " << object;
}

class CommandLine : public testing::Test {
 protected:
  const std::string llama = golden("llama.gguf");

  std::string place(const std::string& name) const { return (scratch.path() / name).string(); }
  std::string write(const std::string& name, const std::string& text) const {
    return scratch.write(name, text).string();
  }
  std::string documents() const {
    for (int i = 0; i < 6; ++i) write("docs/f" + std::to_string(i), sentences(i, 100));
    return place("docs");
  }
  std::string store(const std::string& model = "llama.gguf") const {
    const Result result =
        run_program({"index", golden(model), documents(), "-o", place("store"), "--chunk-tokens", "64"});
    EXPECT_EQ(result.code, 0) << result.err;
    return place("store");
  }
  // Fails with exit code 1 and says each of `words` on stderr, nothing on stdout.
  void expect_failure(const Arguments& arguments, const std::vector<std::string>& words,
                      const test::Surroundings& surroundings = {}) const {
    const Result result = run_program(arguments, surroundings);
    EXPECT_EQ(result.code, 1) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(result.err.starts_with("hone: ") && result.err.ends_with("\n")) << result.err;
    for (const std::string& word : words) EXPECT_NE(result.err.find(word), std::string::npos) << result.err;
  }

  test::TemporaryFolder scratch;
};

TEST_F(CommandLine, HelpOfEverySubcommand) {
  EXPECT_EQ(run_program({"--help"}).code, 0);
  EXPECT_EQ(run_program({"model", "get", "--help"}).code, 0);
  for (const std::string& subcommand : subcommands) {
    const Result result = run_program({subcommand, "--help"});
    EXPECT_EQ(result.code, 0) << subcommand;
    EXPECT_NE(result.out.find("--json"), std::string::npos) << subcommand;
    EXPECT_EQ(result.err, "") << subcommand;
  }
}

TEST_F(CommandLine, Version) {
  const Result result = run_program({"--version"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '.'), 2) << result.out;
}

TEST_F(CommandLine, StartsAnewSoThatThreadsWaitBriefly) {
  std::string text;
  while (text.size() < 200000) text += std::string(usual_prompt) + "\n";
  const std::string file = scratch.write("long.txt", text).string();
  const std::vector<const char*> variables = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"};
  std::vector<std::optional<std::string>> before;
  for (const char* variable : variables) {
    const char* value = std::getenv(variable);
    before.push_back(value ? std::optional<std::string>(value) : std::nullopt);
    ::unsetenv(variable);
  }
  test::Program program({"score", llama, file});
  program.wait_until_it_catches_interrupts();
  EXPECT_NE(program.environment().find("GOMP_SPINCOUNT="), std::string::npos);
  program.interrupt();
  EXPECT_EQ(program.wait().code, 1);
  EXPECT_EQ(run_program({"tokenize", llama}, {.input = usual_prompt}).code, 0);
  EXPECT_EQ(run_program({"nonsense"}).code, 2);
  for (size_t v = 0; v < variables.size(); ++v)
    if (before[v]) ::setenv(variables[v], before[v]->c_str(), 1);
}

TEST_F(CommandLine, BadUsageIsExitCodeTwo) {
  std::vector<Arguments> all = {{},
                                {"nonsense"},
                                {"model"},
                                {"model", "get", "nonsense"},
                                {"complete", llama, usual_prompt, "--precision", "int4"},
                                {"complete", llama, usual_prompt, "--template", "nonsense"},
                                {"complete", llama, usual_prompt, "--max-tokens", "many"},
                                {"eval", llama, "--store", "s", "f", "--protocol", "nonsense"}};
  for (const std::string& subcommand : subcommands) all.push_back({subcommand, "--nonsense"});
  for (const Arguments& arguments : all) {
    const Result result = run_program(arguments);
    EXPECT_EQ(result.code, 2) << json(arguments);
    EXPECT_EQ(result.out, "") << json(arguments);
    EXPECT_NE(result.err.find("--help"), std::string::npos) << result.err;
  }
}

TEST_F(CommandLine, OptionsThatCouldNotMatterAreRefused) {
  const std::vector<std::pair<Arguments, std::string>> all = {
      {{"complete", llama, "p", "--neighbours", "3"}, "without --store"},
      {{"complete", llama, "p", "--retrieval", "vectors"}, "without --store"},
      {{"complete", llama, "p", "--floor", "0.1"}, "without --store"},
      {{"complete", llama, "p", "--gradient-budget", "1MiB"}, "without --store"},
      {{"complete", llama, "p", "--store", "s", "--encoder", "e"}, "--encoder requires --retrieval"},
      {{"eval", llama, "f", "--store", "s", "--encoder", "e"}, "--encoder requires --retrieval"},
      {{"search", "s", "word", "--encoder", "e"}, "--encoder requires --retrieval"},
      {{"search", "s", "word", "--model", llama}, "--model requires --retrieval"},
      {{"eval", llama, "f", "--store", "s", "--no-published", "--published-rank", "2"}, "--no-published"},
      {{"eval", llama, "f", "--store", "s", "--protocol", "complete", "--published-rate", "1"}, "no such row"},
      {{"eval", llama, "f", "--store", "s", "--protocol", "complete", "--no-published"}, "no such row"},
      {{"eval", llama, "f", "--store", "s", "--context-steps", "1e-4", "--context-neighbours", "0"},
       "excludes --context-neighbours 0"},
      {{"complete", llama, "p", "--store", "s", "--context-neighbours", "0", "--context-steps", "1e-4"},
       "excludes --context-neighbours 0"},
      {{"eval", llama, "f", "--store", "s", "--neighbour-steps", "1e-4", "--neighbours", "0"},
       "exclude --neighbours 0"},
      {{"complete", llama, "p", "--store", "s", "--neighbours", "0", "--context-steps", "1e-4"},
       "exclude --neighbours 0"},
      {{"eval", llama, "f", "--store", "s", "--protocol", "score", "--prompt-steps", "1e-4"},
       "excludes --protocol score"},
      {{"score", llama, "f", "--second-halves", "--stride", "9"}, "--stride"},
      {{"lab", "run", "gp-benchmark", "--precision", "int8"}, "--model"},
      {{"complete", llama, "p", "--top-k", "3"}, "require --temperature"},
      {{"complete", llama, "p", "--seed", "3", "--temperature", "0"}, "require --temperature"},
      {{"eval", llama, "f", "--store", "s", "--floor", "0.1"}, "require --protocol complete"},
      {{"eval", llama, "f", "--store", "s", "--protocol", "score", "--learn-from-answer"}, "--protocol complete"}};
  for (const auto& [arguments, complaint] : all) {
    const Result result = run_program(arguments);
    EXPECT_EQ(result.code, 2) << json(arguments);
    EXPECT_TRUE(result.err.find(complaint) != std::string::npos) << result.err;
  }
}

TEST_F(CommandLine, NoFileNameCommandsATerminal) {
  const std::string texts = place("texts"), where = place("named");
  write("texts/a\x1b]0;x\x07\xc2\x9b.txt", sentences(3, 90));
  write("texts/\x1b[2J.txt", "");
  const Result indexed = run_program({"index", llama, texts, "-o", where}),
               found = run_program({"search", where, "word1"});
  EXPECT_EQ(indexed.code, 0) << indexed.err;
  EXPECT_NE(found.out.find("texts/a ]0;x  .txt"), std::string::npos) << found.out;
  for (const std::string& text : {indexed.out, indexed.err, found.out})
    EXPECT_EQ(text.find_first_of("\x1b\x07"), std::string::npos) << text;
}

TEST_F(CommandLine, NoModelCommandsATerminal) {
  test::GgufWriter writer;
  writer.add("general.architecture", "\x1b]0;x\x07" + std::string(1 << 20, 'a'));
  const Result result = run_program({"score", write("evil.gguf", writer.finish()), write("text", "a text")});
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("architecture"), std::string::npos) << result.err;
  EXPECT_EQ(result.err.find_first_of("\x1b\x07"), std::string::npos) << result.err;
  EXPECT_LT(result.err.size(), 20000U);
}

TEST_F(CommandLine, StepSizesStandBetweenCommas) {
  const std::string text = write("text", sentences(1, 90)), where = store();
  const json evaluation =
      object_of(run_program({"eval", llama, "--store", where, "--no-published", "--prefix", "32", "--continuation",
                             "32", "--json", "--context-neighbours", "0", "--neighbour-steps", "1e-4,3e-4", text}));
  EXPECT_EQ(evaluation["windows"], 1);
  EXPECT_EQ(run_program({"eval", llama, "--store", where, "--neighbour-steps", "1e-4,-1", text}).code, 2);
  const Result diverged = run_program({"eval", llama, "--store", where, "--prefix", "32", "--continuation", "32",
                                       "--offset", "60", "--published-rate", "1e30", text});
  EXPECT_EQ(diverged.code, 1);
  EXPECT_NE(diverged.err.find("lower --published-rate"), std::string::npos) << diverged.err;
}

// Each shows in what was decided, or in what was evaluated.
TEST_F(CommandLine, OptionsOfTheMixtureArrive) {
  const std::string where = store();
  const auto decided = [&](const Arguments& more) {
    Arguments all = {"complete", llama, usual_prompt, "--store", where, "-n", "1", "--block-tokens", "8", "--json"};
    all.insert(all.end(), more.begin(), more.end());
    return object_of(run_program(all))["hone"];
  };
  const auto answering = [](const json& decision) {
    return std::ranges::count_if(decision["experts"], [](const json& expert) { return expert["weight"] > 0; });
  };
  // Of the prompt's 23 tokens the last 8, or all that have a block before them.
  const json plain = decided({});
  EXPECT_EQ(plain["evidence_tokens"], 8);
  EXPECT_EQ(decided({"--judged-blocks", "2"})["evidence_tokens"], 15);
  EXPECT_EQ(decided({"--judged-blocks", "0"})["evidence_tokens"], 0);
  // Bayes loses what its prior gives to others than the base, a fixed share more with every token.
  EXPECT_GT(plain["bound_bits"], 2);
  EXPECT_EQ(decided({"--sharing", "fixed-share"})["bound_bits"], plain["bound_bits"]);
  EXPECT_NEAR(decided({"--sharing", "bayes"})["bound_bits"], -std::log2(0.4), 1e-9);
  EXPECT_GT(answering(plain), 2);
  EXPECT_EQ(answering(decided({"--answering-experts", "1"})), 2);
  std::vector<std::string> names;
  const json stepped = decided({"--prompt-steps", "2e-4", "--context-steps", "5e-4,6e-4"});
  for (const json& expert : stepped["experts"]) names.push_back(expert["name"]);
  EXPECT_EQ(names, (std::vector<std::string>{"base", "prompt 0.0002", "neighbours 0.0001", "neighbours 0.0003",
                                             "neighbours 0.0006", "context + neighbours 0.0005",
                                             "context + neighbours 0.0006", "context"}));

  const std::string held = write("held", sentences(9, 80));
  // A method's settings and bits.
  const auto evaluated = [&](const std::string& method, const Arguments& more) {
    Arguments all = {"eval",     llama, "--store",        where, held,        "--json", "--offset", "20",
                     "--prefix", "48",  "--continuation", "24",  "--windows", "1"};
    all.insert(all.end(), more.begin(), more.end());
    const json evaluation = object_of(run_program(all));
    for (const json& row : evaluation["tables"][0]["rows"])
      if (row["name"] == method) return row;
    return json();
  };
  const Arguments of_steps = {"--no-published", "--context-neighbours", "1",   "--sharing", "bayes", "--prompt-steps",
                              "2e-4",           "--context-steps",      "5e-4"};
  EXPECT_EQ(evaluated("mixture", of_steps)["settings"], "base + 4 steps, Bayes");
  EXPECT_EQ(evaluated("mixture-with-context", of_steps)["settings"], "all 7 experts, Bayes");
  const auto completed = [&](const Arguments& more) {
    Arguments all = {"--protocol", "complete", "--block-tokens", "8"};
    all.insert(all.end(), more.begin(), more.end());
    return evaluated("complete", all)["bits"];
  };
  EXPECT_NE(completed({}), completed({"--judged-blocks", "0"}));
  EXPECT_NE(completed({}), completed({"--answering-experts", "1"}));
}

TEST_F(CommandLine, NumbersThatAreNoneOrOutOfReach) {
  const std::vector<std::pair<Arguments, std::string>> all = {
      {{"score", llama, "f", "--window", "-3"}, "--window: -3 is below 0"},
      {{"score", llama, "f", "--window", " -3"}, "--window:  -3 is below 0"},
      {{"lab", "run", "certificate", "--seed", "-1"}, "--seed: -1 is below 0"},
      {{"complete", llama, "p", "--temperature", "nan"}, "--temperature: nan is not a number"},
      {{"classify", "--train", "a", "--test", "b", "--ridge", "1", "--ridge", "nan"}, "--ridge: nan is not a number"},
      {{"classify", "--train", "a", "--test", "b", "--ridge", "-1"}, "--ridge: -1 is not 0 or a number above"},
      {{"classify", "--train", "a", "--test", "b", "--learning-rate", "0"},
       "--learning-rate: 0 is not a number above 0"},
      {{"classify", "--train", "a", "--test", "b", "--learning-rate", "inf"}, "inf is not a number above 0"},
      {{"classify", "--train", "a", "--test", "b", "--floor", "nan"}, "--floor: nan is not a number"},
      {{"complete", llama, "p", "--store", "s", "--neighbour-steps", "1e-12"},
       "--neighbour-steps: 1e-12 is not from 1e-09 to 1"},
      {{"score", llama, "f", "--threads", "100000"}, "--threads: 100000 is not from 1 to 1024"}};
  for (const auto& [arguments, complaint] : all) {
    const Result result = run_program(arguments);
    EXPECT_EQ(result.code, 2) << json(arguments);
    EXPECT_TRUE(result.err.find(complaint) != std::string::npos) << result.err;
  }
}

TEST_F(CommandLine, ModelDescribesAFile) {
  const json object = object_of(run_program({"model", llama, "--json"}));
  expect_keys(object, {"file", "bytes", "name", "architecture", "licence", "parameters", "layers", "width", "ffn_width",
                       "heads", "kv_heads", "context", "vocabulary", "tokenizer", "pre_tokenizer", "chat_template",
                       "types", "assumed"});
  expect_keys(object, {"gguf_version", "head_width", "rope_base", "sliding_window", "sliding_window_pattern",
                       "rope_local_base"});
  EXPECT_EQ(object.size(), 24u) << "docs/json.md lists every key";
  EXPECT_EQ(object["architecture"], "llama");
  EXPECT_EQ(object["bytes"], fs::file_size(llama));
  const json gemma = object_of(run_program({"model", golden("gemma3.gguf"), "--json"}));
  expect_keys(gemma["assumed"], {"sliding_window_pattern", "rope_local_base"});
  const Result text = run_program({"model", golden("gemma3.gguf")});
  EXPECT_NE(text.out.find("assumed"), std::string::npos) << text.out;
  // A key that is not there is taken as said.
  std::string bytes = read_file(llama);
  for (const std::string key : {"rope.freq_base", "head_count_kv"}) bytes.replace(bytes.find(key), 4, "gone");
  const json bare = object_of(run_program({"model", write("bare.gguf", bytes), "--json"}));
  EXPECT_EQ(bare["assumed"], (json{{"kv_heads", bare["heads"]}, {"rope_base", 1e4}}));
}

TEST_F(CommandLine, TokenizePrintsIds) {
  const Result text = run_program({"tokenize", llama}, {.input = usual_prompt});
  EXPECT_EQ(text.code, 0);
  const json object = object_of(run_program({"tokenize", llama, "--json"}, {.input = usual_prompt}));
  std::string line;
  for (const json& id : object["ids"]) line += (line.empty() ? "" : " ") + id.dump();
  EXPECT_EQ(text.out, line + "\n");
  EXPECT_EQ(object["tokens"], object["ids"].size());
  const std::string special = "<|im_end|>";
  EXPECT_EQ(object_of(run_program({"tokenize", llama, "--special", "--json"}, {.input = special}))["tokens"], 1);
  EXPECT_GT(object_of(run_program({"tokenize", llama, "--json"}, {.input = special}))["tokens"], 1);
}

TEST_F(CommandLine, TokenizeTakesBytesThatAreNotUtf8) {
  const std::string bytes = {'a', '\xff', '\xfe', 'b', '\xc3'};
  for (const char* model : {"llama.gguf", "qwen2.gguf", "gemma3.gguf"})
    EXPECT_EQ(object_of(run_program({"tokenize", golden(model), "--json"}, {.input = bytes}))["tokens"], 5) << model;
}

TEST_F(CommandLine, ScorePrintsBitsPerByte) {
  const std::string file = write("text", sentences(1, 60));
  const json object = object_of(run_program({"score", llama, file, "--json"}));
  expect_keys(object, {"model", "base_hash", "precision", "window", "stride", "second_halves", "tokens", "bytes",
                       "bits", "bpb", "perplexity"});
  EXPECT_DOUBLE_EQ(object["bpb"].get<double>(), object["bits"].get<double>() / object["bytes"].get<double>());
  EXPECT_EQ(object["precision"], "fp32");
  EXPECT_NE(run_program({"score", llama, file}).out.find("bits per byte"), std::string::npos);
  const json halves = object_of(run_program({"score", llama, file, "--json", "--second-halves", "--window", "64"}));
  EXPECT_EQ(halves["second_halves"], true);
  EXPECT_EQ(halves["tokens"].get<int>() % 31, 0);
}

TEST_F(CommandLine, IndexReportsWhatItDid) {
  const Arguments command = {"index", llama, documents(), "-o", place("store"), "--json"};
  const json first = object_of(run_program(command));
  expect_keys(first, {"store", "model", "base_hash", "files", "indexed", "unchanged", "removed", "chunks_added",
                      "chunks_duplicate", "chunks", "gradients_computed", "skipped"});
  EXPECT_EQ(first["indexed"], 6);
  EXPECT_EQ(first["skipped"], json::array());
  fs::remove(place("docs/f0"));
  write("docs/binary", std::string(100, '\0'));
  const json second = object_of(run_program(command));
  EXPECT_EQ(second["indexed"], 0);
  EXPECT_EQ(second["unchanged"], 5);
  EXPECT_EQ(second["removed"], 1);
  ASSERT_EQ(second["skipped"].size(), 1u);
  EXPECT_NE(second["skipped"][0]["reason"].get<std::string>().find("binary"), std::string::npos);
  Arguments with_gradients = command;
  with_gradients.push_back("--gradients");
  EXPECT_GT(object_of(run_program(with_gradients))["gradients_computed"], 0);
  const Result quiet = run_program({"index", llama, place("docs"), "-o", place("store"), "--quiet"});
  EXPECT_EQ(quiet.code, 0);
  EXPECT_EQ(quiet.out + quiet.err, "");
}

TEST_F(CommandLine, SearchShowsNeighbours) {
  const std::string where = store();
  const json object = object_of(run_program({"search", where, "word1 of file 3", "-k", "2", "--json"}));
  ASSERT_EQ(object["neighbours"].size(), 2u);
  expect_keys(object["neighbours"][0], {"chunk", "score", "path", "ordinal", "hash", "text"});
  EXPECT_TRUE(object["neighbours"][0]["path"].get<std::string>().ends_with("f3"));
  EXPECT_NE(run_program({"search", where, "word1 of file 3"}).out.find("f3"), std::string::npos);
  const Result nothing = run_program({"search", where, "zebra"});
  EXPECT_EQ(nothing.code, 0);
  EXPECT_EQ(nothing.out, "");
  EXPECT_NE(nothing.err.find(where), std::string::npos);
}

TEST_F(CommandLine, EvalComparesTheMethods) {
  const std::string where = store(), file = write("other", sentences(9, 80));
  const std::string short_file = write("short", "too short");
  Arguments command = {"eval",
                       llama,
                       "--store",
                       where,
                       file,
                       short_file,
                       "--offset",
                       "20",
                       "--prefix",
                       "48",
                       "--continuation",
                       "24",
                       "--windows",
                       "2",
                       "--context-neighbours",
                       "1"};
  EXPECT_NE(run_program(command).out.find("mixture-with-context"), std::string::npos);
  command.push_back("--json");
  for (const char* protocol : {"continue", "score", "complete"}) {
    SCOPED_TRACE(protocol);
    Arguments with_protocol = command;
    with_protocol.insert(with_protocol.end(), {"--protocol", protocol});
    const json object = object_of(run_program(with_protocol));
    expect_keys(object, {"protocol", "windows", "tokens", "tables", "peak_rss_mb", "base_hash", "skipped"});
    EXPECT_EQ(object["protocol"], protocol);
    EXPECT_EQ(object["windows"], 2);
    EXPECT_EQ(object["skipped"].size(), 1u);
    ASSERT_EQ(object["tables"].size(), 2u);
    for (const json& table : object["tables"]) {
      expect_keys(table, {"neighbours", "removed", "without_neighbours", "without_context", "rows"});
      for (const json& row : table["rows"])
        expect_keys(row, {"name", "settings", "bpb", "gain", "gain_ci", "gain_median", "gain_corpus", "worse",
                          "harm_bits_max", "bound_bits", "seconds"});
      EXPECT_EQ(table["rows"][0]["name"], "base");
      EXPECT_EQ(table["rows"][0]["gain"], 0);
    }
  }
}

TEST_F(CommandLine, CompleteAnswersAndReports) {
  const std::string where = store();
  const Arguments command = {"complete", llama, "--store", where, usual_prompt, "-n", "8", "--context-neighbours", "1"};
  Arguments as_json = command;
  as_json.insert(as_json.end(), {"--json", "--base"});
  const json object = object_of(run_program(as_json));
  expect_keys(object, {"text", "tokens", "stopped", "seconds_to_first_token", "tokens_per_second", "peak_rss_mb",
                       "hone", "base"});
  EXPECT_GT(object["peak_rss_mb"], 1);
  expect_keys(object["hone"],
              {"protocol", "neighbours", "experts", "evidence_tokens", "evidence_base_bits", "evidence_mixture_bits",
               "bound_bits", "answer_bound_bits", "floor", "gradients_computed", "seconds", "note", "base_hash"});
  expect_keys(object["base"], {"text", "tokens", "seconds_to_first_token", "tokens_per_second"});
  EXPECT_LE(object["tokens"].size(), 8u);
  EXPECT_EQ(object["hone"]["neighbours"][0]["in_context"], true);
  double weights = 0;
  for (const json& expert : object["hone"]["experts"]) weights += expert["weight"].get<double>();
  EXPECT_NEAR(weights, 1, 1e-9);

  Arguments with_base = command;
  with_base.push_back("--base");
  const Result text = run_program(with_base);
  EXPECT_EQ(text.code, 0);
  EXPECT_NE(text.out.find("the base's answer"), std::string::npos);
  for (const char* part : {"neighbour", "weight", "bound: every token", "first token"})
    EXPECT_NE(text.err.find(part), std::string::npos) << part;
  Arguments hot = command;
  hot.insert(hot.end(), {"--temperature", "1"});
  EXPECT_NE(run_program(hot).err.find("bound: before --temperature, --top-k and --top-p every token"),
            std::string::npos);
  Arguments quiet = command;
  quiet.push_back("--quiet");
  EXPECT_EQ(run_program(quiet).err, "");
}

TEST_F(CommandLine, CompleteReadsThePromptFromStandardInput) {
  const json direct = object_of(run_program({"complete", llama, usual_prompt, "--json"}));
  const json piped = object_of(run_program({"complete", llama, "-", "--json"}, {.input = usual_prompt}));
  EXPECT_EQ(direct["tokens"], piped["tokens"]);
}

TEST_F(CommandLine, CompleteEndsBeforeAStopString) {
  const std::string answer = object_of(run_program({"complete", llama, usual_prompt, "--json"}))["text"];
  const std::string stop = answer.substr(2, 3);
  for (const char c : stop) ASSERT_TRUE(c >= 0x20 && c < 0x7F) << answer;
  const json object =
      object_of(run_program({"complete", llama, usual_prompt, "--json", "--stop", "nowhere", "--stop", stop}));
  EXPECT_EQ(object["stopped"], true);
  EXPECT_EQ(object["text"], answer.substr(0, answer.find(stop)));
}

TEST_F(CommandLine, ChatTemplateIsRecognisedOrNamed) {
  for (const char* model : {"llama.gguf", "qwen2.gguf", "gemma3.gguf"})
    object_of(run_program({"complete", golden(model), "word", "--chat", "-n", "2", "--json"}));
  std::string bytes = read_file(llama);
  const std::string mark = "<|im_start|>", other = "<|zz_start|>";
  for (size_t at = bytes.find(mark); at != std::string::npos; at = bytes.find(mark))
    bytes.replace(at, mark.size(), other);
  const std::string model = write("other.gguf", bytes);
  expect_failure({"complete", model, "word", "--chat"}, {model, "--template"});
  EXPECT_EQ(run_program({"complete", model, "word", "--template", "chatml", "-n", "2"}).code, 0);
}

TEST_F(CommandLine, OnlyChatMlHasADefaultSystemMessage) {
  std::string bytes = read_file(llama);
  const std::string message = "<|im_start|>system\nBe brief.<|im_end|>\n";
  bytes.replace(bytes.find("{% for message"), message.size(), message);
  const std::string with_message = write("message.gguf", bytes);
  // It says how many tokens the prompt has.
  const auto refusal = [](const std::string& model, const std::string& chat_template) {
    const Result result = run_program({"complete", model, "word", "--template", chat_template, "-n", "1000"});
    EXPECT_EQ(result.code, 1);
    EXPECT_NE(result.err.find("a prompt of"), std::string::npos) << result.err;
    return result.err;
  };
  EXPECT_NE(refusal(with_message, "chatml"), refusal(llama, "chatml"));
  for (const char* other : {"gemma", "llama3"}) EXPECT_EQ(refusal(with_message, other), refusal(llama, other)) << other;
}

TEST_F(CommandLine, ModelsThatAreNone) {
  const std::string text = write("text", sentences(0, 5)), bytes = read_file(llama);
  const std::string not_a_model = write("not.gguf", "this is a text"), empty = write("empty.gguf", "");
  const std::string cut = write("cut.gguf", bytes.substr(0, bytes.size() / 2)), folder = scratch.path().string();
  for (const std::string& model : {place("missing.gguf"), not_a_model, empty, cut, folder}) {
    for (const Arguments& arguments : {Arguments{"model", model},
                                       {"tokenize", model},
                                       {"score", model, text},
                                       {"complete", model, "word"},
                                       {"index", model, text, "-o", place("new")},
                                       {"eval", model, text, "--store", place("new")}})
      expect_failure(arguments, {"'" + model + "'"});
  }
  EXPECT_FALSE(fs::exists(place("new")));
}

// Sound files of models that hone does not run, or that say what cannot be.
TEST_F(CommandLine, ModelsOfAnotherKind) {
  const std::string text = write("text", sentences(0, 5)), bytes = read_file(llama);
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string other = bytes;
    const size_t at = other.find(from);
    EXPECT_NE(at, std::string::npos);
    other.replace(at + from.size() - to.size(), to.size(), to);
    return write("other.gguf", other);
  };
  using namespace std::string_literals;
  const std::string architecture = "general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama"s;
  const std::string model = changed(architecture, "mamba");
  for (const Arguments& arguments : {Arguments{"score", model, text},
                                     {"complete", model, "word"},
                                     {"index", model, text, "-o", place("new")},
                                     {"eval", model, text, "--store", place("new")}})
    expect_failure(arguments, {model, "mamba", "llama, qwen2, gemma3", "hone model get"});
  const std::string layers = changed("llama.block_count\x04\0\0\0\x03\0\0\0"s, "\x04\0\0\0"s);
  expect_failure({"complete", layers, "word"}, {layers, "blk.3.", "get the file again"});
  EXPECT_FALSE(fs::exists(place("new")));
}

TEST_F(CommandLine, TextsThatAreNone) {
  const std::string empty = write("empty", ""), missing = place("missing"), folder = documents();
  for (const std::string& file : {empty, missing, folder}) expect_failure({"score", llama, file}, {"'" + file + "'"});
  const std::string where = store();
  for (const std::string& file : {missing, folder})
    expect_failure({"eval", llama, "--store", where, file}, {"'" + file + "'"});
  expect_failure({"eval", llama, "--store", where, empty}, {"tokens", "--offset"});
  expect_failure({"complete", llama, ""}, {"prompt is empty"});
  expect_failure({"complete", llama, "-"}, {"prompt is empty"});
  expect_failure({"score", llama, write("text", "some words"), "--window", "513"}, {"window", "512"});
}

TEST_F(CommandLine, PathsThatCannotBeIndexed) {
  fs::create_directory(place("nothing"));
  const std::string binary = write("binary", std::string("\0\1\2", 3) + sentences(1, 3)), empty = write("empty", "");
  for (const std::string& path : {place("nothing"), binary, empty, place("missing")})
    expect_failure({"index", llama, path, "-o", place("store")}, {"'" + path + "'"});
  expect_failure({"index", llama, documents(), "-o", binary}, {"'" + binary + "'"});
  expect_failure({"index", llama, documents(), "-o", place("new"), "--first-layer", "3"}, {"--first-layer", "0 to 2"});
  expect_failure({"index", llama, place("absent"), "-o", place("new")}, {"'" + place("absent") + "'"});
  EXPECT_FALSE(fs::exists(place("new")));
}

// Nothing that was stored is lost when there is nothing to add.
TEST_F(CommandLine, EmptyFolders) {
  const std::string where = store(), nothing = place("nothing"), text = write("text", sentences(1, 90));
  fs::create_directory(nothing);
  const Result before = run_program({"search", where, "word1 of file 3", "--json"});
  expect_failure({"index", llama, nothing, "-o", where}, {"'" + nothing + "'", "name a file or a folder"});
  EXPECT_EQ(run_program({"search", where, "word1 of file 3", "--json"}).out, before.out);
  expect_failure({"search", nothing, "word"}, {"'" + nothing + "'", "hone index"});
  expect_failure({"search", where, ""}, {"TEXT is empty"});
  expect_failure({"complete", llama, "word", "--store", nothing}, {"'" + nothing + "'", "hone index"});
  expect_failure({"eval", llama, text, "--store", nothing}, {"'" + nothing + "'", "hone index"});
  expect_failure({"eval", llama, nothing, "--store", where}, {"'" + nothing + "'", "give the path of a file"});
  expect_failure({"score", llama, nothing}, {"'" + nothing + "'", "give the path of a file"});
  expect_failure({"model", nothing}, {"'" + nothing + "'", "hone model get"});
  EXPECT_TRUE(fs::is_empty(nothing));
  EXPECT_EQ(run_program({"index", llama, documents(), "-o", nothing, "--chunk-tokens", "64"}).code, 0);
  EXPECT_EQ(run_program({"search", nothing, "word1 of file 3"}).code, 0);
}

// As texts they are bytes like others; as a corpus they are left out.
TEST_F(CommandLine, BinaryFiles) {
  std::string bytes;
  for (int i = 0; i < 3000; ++i) bytes += static_cast<char>(i * i % 251);
  const std::string where = store(), file = write("binary", bytes), beside = write("docs/binary", bytes);
  EXPECT_GT(object_of(run_program({"score", llama, file, "--json"}))["bits"], 0);
  EXPECT_GT(object_of(run_program({"tokenize", llama, "--json"}, {.input = bytes}))["tokens"], 0);
  const json evaluation = object_of(run_program({"eval", llama, "--store", where, file, "--json", "--prefix", "64",
                                                 "--continuation", "64", "--context-neighbours", "1"}));
  for (const json& row : evaluation["tables"][0]["rows"]) EXPECT_TRUE(row["bpb"].is_number()) << row;
  object_of(run_program({"complete", llama, "-", "--store", where, "-n", "4", "--json", "--context-neighbours", "0"},
                        {.input = bytes.substr(0, 200)}));
  EXPECT_EQ(run_program({"search", where, bytes.substr(1, 200)}).code, 0);
  const json report =
      object_of(run_program({"index", llama, place("docs"), "-o", where, "--chunk-tokens", "64", "--json"}));
  EXPECT_EQ(report["unchanged"], 6);
  ASSERT_EQ(report["skipped"].size(), 1u);
  EXPECT_EQ(report["skipped"][0]["path"], beside);
  expect_failure({"index", llama, file, "-o", where}, {"'" + file + "'", "binary", "name a file or a folder"});
  expect_failure({"complete", file, "word"}, {"'" + file + "'", "GGUF", "hone model get"});
  expect_failure({"complete", llama, "word", "--store", file}, {"'" + file + "'", "hone index"});
}

TEST_F(CommandLine, UnreadableFiles) {
  if (::geteuid() == 0) GTEST_SKIP() << "root reads everything";
  const std::string file = write("text", "words"), model = write("model.gguf", read_file(llama));
  for (const std::string& path : {file, model}) fs::permissions(path, fs::perms::none);
  expect_failure({"score", llama, file}, {"'" + file + "'", "Permission denied"});
  expect_failure({"model", model}, {"'" + model + "'", "Permission denied"});
  expect_failure({"index", llama, file, "-o", place("store")}, {"'" + file + "'"});
}

TEST_F(CommandLine, StoresThatAreNone) {
  const std::string text = write("text", "words"), missing = place("missing");
  for (const std::string& where : {missing, text})
    for (const Arguments& arguments : {Arguments{"search", where, "word"},
                                       {"complete", llama, "word", "--store", where},
                                       {"eval", llama, text, "--store", where}})
      expect_failure(arguments, {"'" + where + "'", "hone index"});
}

TEST_F(CommandLine, StoreOfAnotherModel) {
  const std::string where = store("qwen2.gguf"), text = write("text", sentences(1, 90));
  for (const Arguments& arguments : {Arguments{"complete", llama, "word", "--store", where},
                                     {"eval", llama, text, "--store", where},
                                     {"index", llama, text, "-o", where}})
    expect_failure(arguments, {"'" + where + "'", "Tiny qwen2", "Tiny llama"});
}

TEST_F(CommandLine, TextsLongerThanTheContext) {
  const std::string prompt = sentences(1, 100), where = store(), file = write("text", sentences(1, 200));
  expect_failure({"complete", llama, prompt}, {"context", "512", "shorten the prompt"});
  expect_failure({"complete", llama, prompt, "--store", where}, {"context", "512", "shorten the prompt"});
  expect_failure({"complete", llama, "-"}, {"context", "512", "shorten the prompt"}, {.input = prompt});
  expect_failure({"complete", llama, "word", "-n", "512"}, {"context", "512", "--max-tokens"});
  expect_failure({"eval", llama, "--store", where, file, "--prefix", "400", "--continuation", "113"},
                 {"context", "512", "--prefix", "--continuation"});
  expect_failure({"index", llama, file, "-o", place("new"), "--chunk-tokens", "257"},
                 {"--chunk-tokens", "context of 512", "at most 256"});
  EXPECT_FALSE(fs::exists(place("new")));
  EXPECT_EQ(run_program({"index", llama, file, "-o", place("new"), "--chunk-tokens", "256", "--gradients"}).code, 0);
}

}  // namespace
}  // namespace hone::command_line_test
