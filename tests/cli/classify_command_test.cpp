// hone classify as its users meet it: where rows come from, what is printed and written, and what is refused.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/random.h"
#include "hone/data.h"
#include "tests/golden.h"
#include "tests/program.h"

namespace hone::classify_command_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::expect_failure;
using test::object_of;
using test::Result;
using test::run_program;
using Arguments = std::vector<std::string>;

std::set<std::string> keys(const json& object) {
  std::set<std::string> found;
  for (const auto& [key, value] : object.items()) found.insert(key);
  return found;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t from = 0; from < text.size();) {
    const size_t end = text.find('\n', from);
    lines.push_back(text.substr(from, end - from));
    from = end + 1;
  }
  return lines;
}

class ClassifyCommand : public testing::Test {
 protected:
  const test::TemporaryFolder scratch;  // before what is written to it
  const std::string train = write("train.csv", table(1, 90)), test = write("test.csv", table(2, 30));
  const std::string bert = (test::golden_directory() / "models" / "bert").string();

  // Three kinds of points around centres of their own.
  static std::string table(uint64_t seed, size_t rows) {
    RandomStream random(seed, "points");
    std::string text = "a,b,kind\n";
    for (size_t i = 0; i < rows; ++i)
      text += fmt::format("{:.4f},{:.4f},{}\n", random.normal() + (i % 3 == 0 ? 2 : 0),
                          random.normal() + (i % 3 == 1 ? 2 : 0), std::array{"red", "\"gr,een\"", "blue"}[i % 3]);
    return text;
  }
  std::string write(const std::string& name, const std::string& text) const {
    return scratch.write(name, text).string();
  }
  std::string place(const std::string& name) const { return (scratch.path() / name).string(); }
  Arguments command(const std::string& from, const std::string& to, const Arguments& more) const {
    Arguments all = {"classify", "--train", from, "--test", to};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Arguments small(const Arguments& more = {}) const {
    Arguments all = {"--neighbours", "10", "--steps", "5", "--ridge", "0.001"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

TEST_F(ClassifyCommand, Json) {
  const json object = object_of(command(train, test, small({"--experts", "4", "--json"})));
  EXPECT_EQ(keys(object),
            (std::set<std::string>{"rows", "locality", "votes", "queries", "ignored", "bound_bits", "checkpoints",
                                   "prior", "trust", "pseudo_queries", "ridge", "fit_seconds"}));
  std::vector<std::string> names;
  for (const json& row : object["rows"]) {
    names.push_back(row["name"]);
    EXPECT_EQ(keys(row),
              (std::set<std::string>{"name", "accuracy", "accuracy_interval", "log_loss", "log_loss_interval", "ece",
                                     "accuracy_gain", "log_loss_gain", "worst_bits", "queries_per_s"}));
    EXPECT_GT(row["accuracy"], 0.5) << row["name"];
    EXPECT_LE(row["accuracy_interval"][0], row["accuracy"]);
    EXPECT_GE(row["accuracy_interval"][1], row["accuracy"]);
    EXPECT_GT(row["queries_per_s"], 0);
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{"global", "majority vote", "distance-weighted vote", "majority vote, local k",
                                      "distance-weighted vote, local k", "local", "hone", "experts"}));
  for (const char* where : {"own_neighbourhood", "used_globally"}) {
    const json& row = object["locality"][where];
    EXPECT_LE(row["accuracy_interval"][0], row["accuracy"]);
    EXPECT_GE(row["accuracy_interval"][1], row["accuracy"]);
    EXPECT_LE(row["log_loss_interval"][0], row["log_loss"]);
  }
  EXPECT_GE(object["votes"]["majority"], 1);
  EXPECT_GE(object["votes"]["by_distance"], 1);
  EXPECT_EQ(object["queries"], 30);
  EXPECT_EQ(object["ignored"], 0);
  EXPECT_LE(object["rows"][6]["worst_bits"].get<double>(), object["bound_bits"].get<double>() + 1e-4);
}

TEST_F(ClassifyCommand, TheTableSaysWhatJsonSays) {
  const Result text = run_program(command(train, test, small()));
  EXPECT_EQ(text.code, 0) << text.err;
  for (const char* words : {"global", "majority vote", "distance-weighted vote", "local, own neighbourhood",
                            "local, used globally", "minus global, paired", "no answer costs more than 4.33 bits"})
    EXPECT_NE(text.out.find(words), std::string::npos) << words << "\n" << text.out;
  const json object = object_of(command(train, test, small({"--json"})));
  EXPECT_NE(text.out.find(fmt::format("{:.2f} [", 100 * object["rows"][6]["accuracy"].get<double>())),
            std::string::npos);
}

TEST_F(ClassifyCommand, EveryOptionChangesWhatItSays) {
  const json plain = object_of(command(train, test, small({"--json"})));
  const auto losses = [](const json& object) {
    std::map<std::string, double> result;
    for (const json& row : object["rows"]) result[row["name"]] = row["log_loss"];
    return result;
  };
  const auto changed = [&](const Arguments& more, const std::string& name) {
    Arguments all = {"--json"};
    all.insert(all.end(), more.begin(), more.end());
    return std::fabs(losses(object_of(command(train, test, small(all))))[name] - losses(plain)[name]);
  };
  EXPECT_GT(changed({"--learning-rate", "0.1"}, "local"), 1e-4);
  EXPECT_GT(changed({"--solver", "lbfgs"}, "local"), 1e-4);
  EXPECT_GT(changed({"--sift", "40"}, "local"), 1e-4);
  EXPECT_GT(changed({"--sift", "40", "--sift-noise", "5"}, "local"), 1e-4);
  EXPECT_GT(changed({"--metric", "cosine"}, "local"), 1e-4);
  EXPECT_GT(changed({"--head", "adam"}, "global"), 1e-4);
  EXPECT_EQ(changed({"--votes", fmt::format("{}", plain["votes"]["majority"].get<int>())}, "majority vote"), 0);
  EXPECT_GT(changed({"--votes", "9"}, "majority vote"), 1e-4);
  EXPECT_LT(changed({"--index", "hnsw"}, "local"), 1e-3);
  EXPECT_LT(changed({"--index", "ivf"}, "local"), 0.1);
  EXPECT_GT(changed({"--index", "ivf", "--recall", "0.05"}, "local"), 1e-4);
  EXPECT_EQ(changed({"--index", "ivf", "--lists", "1"}, "local"), 0);  // of one list every row is looked at
  EXPECT_EQ(changed({"--threads", "1"}, "hone"), 0);
  const auto by_lbfgs = [&](const char* ridge) {
    return losses(
        object_of(command(train, test, small({"--json", "--solver", "lbfgs", "--local-ridge", ridge}))))["local"];
  };
  EXPECT_GT(std::fabs(by_lbfgs("1") - by_lbfgs("0.001")), 1e-4);
  EXPECT_NE(object_of(command(train, test, small({"--json", "--locality", "3"})))["locality"], plain["locality"]);
  EXPECT_NEAR(object_of(command(train, test, small({"--json", "--floor", "0.5"})))["bound_bits"], 1, 1e-9);
}

TEST_F(ClassifyCommand, Predictions) {
  const std::string file = place("answers.csv");
  object_of(command(train, test, small({"--json", "--predictions", file})));
  const std::vector<std::string> lines = lines_of(read_file(file));
  ASSERT_EQ(lines.size(), 31u);
  EXPECT_EQ(
      lines[0],
      "row,label,global,majority vote,distance-weighted vote,\"majority vote, local k\",\"distance-weighted vote, "
      "local k\",local,hone,\"p(blue)\",\"p(gr,een)\",\"p(red)\"");
  EXPECT_TRUE(lines[1].starts_with("0,\"red\",\"")) << lines[1];
  EXPECT_TRUE(lines[2].starts_with("1,\"gr,een\",\"")) << lines[2];
  EXPECT_TRUE(lines[30].starts_with("29,\"blue\",\"")) << lines[30];
  expect_failure(command(train, test, small({"--predictions", place("no/such.csv")})), "no/such.csv");
  // Before anything is read.
  const std::string absent = place("absent.csv");
  expect_failure(command(absent, test, small({"--predictions", place("no/such.csv")})), "cannot write");
  expect_failure(command(absent, test, small({"--predictions", scratch.path().string()})), "is a folder");
  expect_failure(command(absent, test, small({"--experts", "3", "--save-experts", train + "/x"})), "cannot write");
  const std::string before = read_file(file);
  expect_failure(command(absent, test, small({"--predictions", file})), "absent.csv");
  EXPECT_EQ(read_file(file), before);
  expect_failure(command(absent, test, small({"--predictions", place("new.csv")})), "absent.csv");
  EXPECT_FALSE(fs::exists(place("new.csv")));
}

TEST_F(ClassifyCommand, ALabelThatWasNeverSeen) {
  const std::string unseen = write("unseen.csv", "a,b,kind\n1,2,red\n3,4,violet\n0,1,blue\n5,6,violet\n");
  expect_failure(command(train, unseen, small()), "row 1 has the label 'violet', which no training row has");
  expect_failure(command(train, unseen, small()), "--ignore-unseen leaves them out");
  const std::string file = place("answers.csv");
  const json object = object_of(command(train, unseen, small({"--ignore-unseen", "--json", "--predictions", file})));
  EXPECT_EQ(object["queries"], 2);
  EXPECT_EQ(object["ignored"], 2);
  EXPECT_TRUE(lines_of(read_file(file)).at(2).starts_with("2,\"blue\""));
  const Result text = run_program(command(train, unseen, small({"--ignore-unseen"})));
  EXPECT_NE(text.out.find("2 test rows were left out"), std::string::npos) << text.out;
  expect_failure(command(train, write("all.csv", "a,b,kind\n3,4,violet\n"), small({"--ignore-unseen"})),
                 "no row has a label of");
}

TEST_F(ClassifyCommand, DataThatCannotBeUsed) {
  expect_failure(command(write("one.csv", "a,b,kind\n1,2,x\n3,4,x\n"), test, small()), "every row has the label 'x'");
  expect_failure(command(train, write("wide.csv", "a,b,c,kind\n1,2,3,red\n"), small()),
                 "has 3 features, '" + train + "' has 2");
  expect_failure(command(train, test, {"--neighbours", "91"}), "neighbours is 91; give 1 to 90");
  expect_failure(command(train, test, {"--votes", "91"}), "votes is 91");
  expect_failure(command(train, test, small({"--sift", "5"})), "SIFT pool is 5");
  expect_failure(command(train, test, small({"--experts", "91"})), "91 experts for 90");
  expect_failure(command(train, write("nan.csv", "a,b,kind\n1,nan,red\n"), small()), "column 'b' holds 'nan'");
  expect_failure(command(train, write("empty.csv", ""), small()), "the file is empty");
  expect_failure(command(train, write("ragged.csv", "a,b,kind\n1,2,red\n3,blue\n"), small()),
                 "line 3: 2 fields under a header of 3");
  const std::string arrays = (test::golden_directory() / "arrays").string();
  expect_failure(command(arrays + "/object.npy", test, small({"--train-labels", arrays + "/text.npy"})),
                 "Python objects");
  expect_failure(command(place("absent.csv"), test, small()), "absent.csv");
  expect_failure(command(train, test, small({"--label-column", "colour"})), "no column 'colour'");
  expect_failure(command(train, test, small({"--encoder", bert})), "--encoder is for texts");
}

TEST_F(ClassifyCommand, BadUsage) {
  EXPECT_EQ(run_program({"classify", "--help"}).code, 0);
  expect_failure({"classify", "--train", train}, "--test", 2);
  expect_failure(command(train, test, {"--neighbours", "0"}), "--neighbours", 2);
  expect_failure(command(train, test, {"--solver", "newton"}), "--solver", 2);
  expect_failure(command(train, test, {"--index", "tree"}), "--index", 2);
  expect_failure(command(train, test, {"--floor", "0"}), "--floor", 2);
  expect_failure(command(train, test, {"--save-experts", "x"}), "--experts", 2);
  expect_failure(command(train, test, {"--sift-noise", "1"}), "--sift", 2);
  expect_failure(command(train, test, {"--precision", "int8"}), "--encoder", 2);
  for (const char* option : {"--layer=1", "--pooling=mean", "--no-normalize", "--max-tokens=9"})
    expect_failure(command(train, test, {option}), "requires --encoder", 2);
  expect_failure(command(train, test, {"--solver", "lbfgs", "--learning-rate", "0.1"}), "--learning-rate", 2);
  expect_failure(command(train, test, {"--local-ridge", "0.1"}), "--solver lbfgs", 2);
  expect_failure(command(train, test, {"--recall", "0.9"}), "--index ivf or hnsw", 2);
  expect_failure(command(train, test, {"--lists", "9"}), "--index ivf", 2);
  expect_failure(command(train, test, {"--index", "ivf", "--links", "9"}), "--index hnsw", 2);
  expect_failure(command(train, test, {"--index", "hnsw", "--links", "300"}), "links: 300", 1);
  expect_failure(command(train, test, {"--index", "ivf", "--recall", "0"}), "--recall", 2);
  expect_failure(command(train, test, {"--locality", "0"}), "--locality", 2);
  expect_failure(command(train, test, {"--experts", "2", "--experts-file", "x"}), "--experts", 2);
}

TEST_F(ClassifyCommand, ExpertsAreKept) {
  const std::string file = place("experts.safetensors");
  const json fitted = object_of(command(train, test, small({"--experts", "4", "--save-experts", file, "--json"})));
  const json kept = object_of(command(train, test, small({"--experts-file", file, "--json"})));
  ASSERT_EQ(kept["rows"].size(), 8u);
  EXPECT_EQ(kept["rows"][7]["name"], "experts");
  EXPECT_EQ(kept["rows"][7]["log_loss"], fitted["rows"][7]["log_loss"]);
  const std::string others = write("others.csv", "a,b,kind\n1,2,x\n3,4,y\n5,6,z\n0,1,x\n");
  expect_failure(command(others, others, {"--neighbours", "2", "--votes", "2", "--experts-file", file}),
                 "know other labels");
  expect_failure(command(train, test, small({"--experts-file", train})), train);
  expect_failure(command(train, test, small({"--experts-file", place("absent")})), "absent");
}

TEST_F(ClassifyCommand, ArraysWithLabelsBeside) {
  const LabelledData data = read_labelled(train);
  write_npy(place("x.npy"), data.x);
  std::string labels;
  for (const int y : data.y) labels += data.labels[static_cast<size_t>(y)] + "\n";
  const std::string names = write("labels", labels);
  const json object = object_of(command(place("x.npy"), test, small({"--train-labels", names, "--json"})));
  const json from_table = object_of(command(train, test, small({"--json"})));
  EXPECT_NEAR(object["rows"][6]["log_loss"], from_table["rows"][6]["log_loss"], 1e-9);
  expect_failure(command(place("x.npy"), test, small()), "it holds no labels");
  expect_failure(command(place("x.npy"), test, small({"--train-labels", write("few", "red\nblue\n")})),
                 "90 rows of features but 2 labels");
}

// Tables without a header, with the label first, and beside a file that is none.
TEST_F(ClassifyCommand, TablesOfOtherLayouts) {
  const auto loss = [&](const std::string& from, const std::string& to, const Arguments& more) {
    Arguments all = {"--json"};
    all.insert(all.end(), more.begin(), more.end());
    return object_of(command(from, to, small(all)))["rows"][6]["log_loss"].get<double>();
  };
  const auto without_header = [&](const std::string& file) {
    const std::string text = read_file(file);
    return write("bare_" + fs::path(file).filename().string(), text.substr(text.find('\n') + 1));
  };
  const auto as_arrays = [&](const std::string& file) {
    const LabelledData data = read_labelled(file);
    std::vector<std::string> names;
    for (const int y : data.y) names.push_back(data.labels[static_cast<size_t>(y)]);
    const std::string path = place(fs::path(file).stem().string() + ".npz");
    write_npz(path, std::vector<NpzArray>{{"X", data.x.view()}, {"y", names}});
    return path;
  };
  const auto label_first = [&](const std::string& file) {
    std::string text;
    for (const std::string& line : lines_of(read_file(file))) {
      const size_t label = line.find(',', line.find(',') + 1) + 1;
      text += line.substr(label) + "," + line.substr(0, label - 1) + "\n";
    }
    return write("first_" + fs::path(file).filename().string(), text);
  };
  const double plain = loss(train, test, {});
  const std::string bare = without_header(train), bare_test = without_header(test);
  EXPECT_NEAR(loss(bare, bare_test, {"--no-header"}), plain, 1e-9);
  expect_failure(command(bare, bare_test, small()), "where names of columns are expected");
  const std::string first = label_first(train), first_test = label_first(test);
  EXPECT_NEAR(loss(first, first_test, {"--label-column", "kind"}), plain, 1e-9);
  const std::string arrays = as_arrays(train), test_arrays = as_arrays(test);
  EXPECT_NEAR(loss(first, test_arrays, {"--label-column", "kind"}), plain, 1e-9);
  EXPECT_NEAR(loss(arrays, first_test, {"--label-column", "kind"}), plain, 1e-9);
  EXPECT_NEAR(loss(bare, test_arrays, {"--no-header"}), plain, 1e-9);
  EXPECT_NEAR(loss(arrays, bare_test, {"--no-header"}), plain, 1e-9);
  expect_failure(command(arrays, test_arrays, small({"--label-column", "kind"})), "are those of tables");
  expect_failure(command(arrays, test_arrays, small({"--no-header"})), "are those of tables");
}

TEST_F(ClassifyCommand, TextsByAnEncoder) {
  std::string text = "text,kind\n";
  for (int i = 0; i < 12; ++i) text += fmt::format("{} {},{}\n", i % 2 ? "the cafe" : "playing", i, i % 2 ? "x" : "y");
  const std::string texts = write("texts.csv", text);
  const Arguments few = {"--neighbours", "4", "--votes", "3", "--json"};
  expect_failure(command(texts, texts, few), "`hone model get minilm`");
  Arguments more = few;
  more.insert(more.end(), {"--encoder", bert});
  const json object = object_of(command(texts, texts, more));
  EXPECT_EQ(object["queries"], 12);
  EXPECT_GT(object["rows"][0]["accuracy"], 0.5);
  for (const Arguments& asked :
       {Arguments{"--layer", "1"}, Arguments{"--pooling", "mean"}, Arguments{"--max-tokens", "3"}}) {
    Arguments otherwise = more;
    otherwise.insert(otherwise.end(), asked.begin(), asked.end());
    EXPECT_NE(object_of(command(texts, texts, otherwise))["rows"][6]["log_loss"], object["rows"][6]["log_loss"])
        << asked[0];
  }
  // A column of numbers beside the text, which is named.
  std::string wide = "id,text,kind\n";
  for (int i = 0; i < 12; ++i)
    wide += fmt::format("{},{} {},{}\n", i, i % 2 ? "the cafe" : "playing", i, i % 2 ? "x" : "y");
  const std::string named = write("wide.csv", wide);
  expect_failure(command(named, named, more), "name the text's column");
  Arguments by_name = more;
  by_name.insert(by_name.end(), {"--text-column", "text"});
  EXPECT_EQ(object_of(command(named, named, by_name))["rows"][6]["log_loss"], object["rows"][6]["log_loss"]);
  expect_failure(command(texts, write("numbers.csv", "a,b,kind\n1,2,x\n3,4,y\n"), more), "holds texts");
  more.back() = place("absent");
  expect_failure(command(texts, texts, more), "absent");
  expect_failure(command(texts, texts, more), "`hone model get minilm` fetches an encoder");
}

}  // namespace
}  // namespace hone::classify_command_test
