// `hone index --gradients`: the gradient rows of all chunks are computed once, kept within the budget, and used.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "hone/adapt.h"
#include "tests/golden.h"
#include "tests/program.h"
#include "tests/small_store.h"

namespace hone::test::index_gradients_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t plenty = 1ull << 30;

struct Folder {
  size_t files = 0;
  uint64_t bytes = 0;
};

Folder rows_of(const fs::path& store) {
  Folder rows;
  if (!fs::exists(store / "gradients")) return rows;
  for (const auto& entry : fs::directory_iterator(store / "gradients")) {
    ++rows.files;
    rows.bytes += entry.file_size();
  }
  return rows;
}

class IndexGradients : public testing::TestWithParam<const char*> {
 protected:
  IndexGradients() {
    for (size_t subject = 0; subject < 3; ++subject)
      for (uint64_t file = 0; file < 2; ++file)
        folder.write("texts/" + std::to_string(subject) + std::to_string(file), prose(subject, 8, 10 * subject + file));
  }
  std::string model_file() const { return tiny_model(GetParam()).string(); }
  fs::path store() const { return folder.path() / "store"; }

  // The object that the program prints.
  json object_of(const std::vector<std::string>& arguments) const {
    const Result result = run_program(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return json::parse(result.out);
  }
  json index(std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"index", model_file(),     (folder.path() / "texts").string(),
                                          "-o",    store().string(), "--chunk-tokens",
                                          "40",    "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return object_of(arguments);
  }
  json complete(std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"complete", model_file(), prose(1, 3, 50),        "--store", store().string(),
                                          "-n",       "2",          "--context-neighbours", "0",       "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return object_of(arguments)["hone"];
  }

  TemporaryFolder folder;
};

TEST_P(IndexGradients, AreAllStoredAndUsed) {
  const json first = index({"--gradients"});
  const size_t chunks = first["chunks"];
  EXPECT_GT(chunks, 12u);
  EXPECT_GT(first["gradients_computed"], 0);
  EXPECT_EQ(rows_of(store()).files, chunks);
  EXPECT_EQ(first["chunks_with_gradient"], chunks);
  EXPECT_EQ(index({"--gradients"})["gradients_computed"], 0);
  const json answer = complete();
  EXPECT_EQ(answer["neighbours"].size(), 10u);
  EXPECT_EQ(answer["gradients_computed"], 0);
  EXPECT_EQ(rows_of(store()).files, chunks);

  // Without them the same answer costs a gradient a neighbour, and keeps those.
  fs::remove_all(store() / "gradients");
  const json without = complete();
  EXPECT_EQ(without["gradients_computed"], 10);
  EXPECT_EQ(without["experts"], answer["experts"]);
  EXPECT_EQ(rows_of(store()).files, 10u);
  EXPECT_EQ(index({"--gradients"})["gradients_computed"], chunks - 10);
}

TEST_P(IndexGradients, OnlyNewChunksAreComputed) {
  index({"--gradients"});
  folder.write("texts/new", prose(2, 12, 91));
  const json more = index({"--gradients"});
  EXPECT_GT(more["chunks_added"], 0);
  EXPECT_EQ(more["gradients_computed"], more["chunks_added"]);
  EXPECT_EQ(index({"--gradients", "--relearn"})["gradients_computed"], 0) << "new statistics invalidate no row";
}

TEST_P(IndexGradients, StayWithinTheBudget) {
  index({"--gradients"});
  const Folder all = rows_of(store());
  const uint64_t budget = all.bytes / all.files * 11 / 2;  // five rows and a half
  fs::remove_all(store() / "gradients");
  const std::vector<std::string> limited = {"--gradients", "--gradient-budget", std::to_string(budget)};
  const json five = index(limited);
  EXPECT_EQ(five["gradients_computed"], 5);
  EXPECT_EQ(five["chunks_with_gradient"], 5);
  EXPECT_EQ(rows_of(store()).files, 5u);
  EXPECT_LE(rows_of(store()).bytes, budget);
  EXPECT_EQ(index(limited)["gradients_computed"], 0);
  // Nor is one computed to be thrown away: that would be cancelled.
  const auto model = Model::open(model_file());
  {
    const Store reader = Store::open(store(), identity_of(*model));
    Watch watch;
    watch.progress = [&](const Progress& progress) {
      if (progress.done == 5) watch.cancel.cancel();
    };
    EXPECT_EQ(store_gradients(*model, reader, load_statistics(*model, reader, -1), budget, watch).chunks, 5U);
    EXPECT_TRUE(watch.cancel.cancelled());
  }
  // An answer needs other rows: it computes them, and keeps no more than the budget.
  EXPECT_GT(complete({"--gradient-budget", std::to_string(budget)})["gradients_computed"], 0);
  EXPECT_LE(rows_of(store()).bytes, budget);
  EXPECT_EQ(rows_of(store()).files, 5u);
  // A smaller budget shrinks what is there as soon as a row is kept; none at all keeps nothing.
  fs::remove_all(store() / "gradients");
  EXPECT_EQ(index({"--gradients", "--gradient-budget", "0"})["gradients_computed"], 0);
  EXPECT_EQ(rows_of(store()).files, 0u);
}

TEST_P(IndexGradients, LibraryAndProgramShareThem) {
  index();
  const auto model = Model::open(model_file());
  {
    const Store reader = Store::open(store(), identity_of(*model));
    const CorpusStatistics statistics = load_statistics(*model, reader, -1);
    const size_t kept = rows_of(store()).files;
    size_t reports = 0;
    const Watch watch{.progress =
                          [&](const Progress& progress) {
                            EXPECT_EQ(progress.stage, "gradients");
                            EXPECT_EQ(progress.done, reports++);
                            EXPECT_EQ(progress.total, reader.chunk_count());
                          },
                      .cancel = {}};
    EXPECT_EQ(store_gradients(*model, reader, statistics, plenty, watch).computed, reader.chunk_count() - kept);
    EXPECT_EQ(reports, reader.chunk_count());
    EXPECT_EQ(store_gradients(*model, reader, statistics, plenty).computed, 0u);

    std::vector<Chunk> neighbours;
    for (const Neighbour& neighbour : reader.neighbours(prose(0, 2, 4), 4))
      neighbours.push_back(reader.chunk(neighbour.chunk_id));
    ASSERT_EQ(neighbours.size(), 4u);
    size_t computed = 0;
    const Adapter stored =
        neighbour_direction(*model, reader, statistics, neighbours, plenty, Precision::fp32, {}, &computed);
    EXPECT_EQ(computed, 0u);
    fs::remove_all(store() / "gradients");
    const Adapter fresh =
        neighbour_direction(*model, reader, statistics, neighbours, 0, Precision::fp32, {}, &computed);
    EXPECT_EQ(computed, 4u);
    for (const auto& [id, delta] : fresh.dense) EXPECT_TRUE(same_bits(stored.dense.at(id), delta)) << name(id);
    store_gradients(*model, reader, statistics, plenty);
  }
  EXPECT_EQ(index({"--gradients"})["gradients_computed"], 0);
  EXPECT_EQ(complete()["gradients_computed"], 0);
}

// A row that an answer needed pushes out one row, and one is computed when the first rows are asked for again.
TEST_P(IndexGradients, OneLostRowIsOneRowComputed) {
  index();
  const auto model = Model::open(model_file());
  const Store reader = Store::open(store(), identity_of(*model));
  const CorpusStatistics statistics = load_statistics(*model, reader, -1);
  store_gradients(*model, reader, statistics, plenty);
  const Folder all = rows_of(store());
  const uint64_t budget = all.bytes / all.files * 11 / 2;
  fs::remove_all(store() / "gradients");
  ASSERT_EQ(store_gradients(*model, reader, statistics, budget).computed, 5u);
  const std::vector<Chunk> last = {reader.chunk(reader.chunk_ids().back())};
  size_t computed = 0;
  neighbour_direction(*model, reader, statistics, last, budget, Precision::fp32, {}, &computed);
  ASSERT_EQ(computed, 1u);
  EXPECT_EQ(store_gradients(*model, reader, statistics, budget).computed, 1u);
  EXPECT_EQ(store_gradients(*model, reader, statistics, budget).computed, 0u);
}

// What `index` was told holds for answers that are told nothing.
TEST_P(IndexGradients, TheBudgetIsTheStores) {
  index({"--gradients"});
  const Folder all = rows_of(store());
  const uint64_t budget = all.bytes / all.files * 5 / 2;
  index({"--gradient-budget", std::to_string(budget)});
  fs::remove_all(store() / "gradients");
  complete();
  EXPECT_EQ(rows_of(store()).files, 2u);
  index({"--gradients"});
  EXPECT_EQ(rows_of(store()).files, 2u);
  complete({"--gradient-budget", "1GiB"});
  EXPECT_GT(rows_of(store()).files, 2u);
}

TEST_P(IndexGradients, TheBudgetIsTheStoresInTheLibraryToo) {
  index({"--gradients"});
  const Folder all = rows_of(store());
  const auto model = Model::open(model_file());
  {
    Store writer = Store::create(store(), identity_of(*model));
    remember_gradient_budget(writer, all.bytes / all.files * 5 / 2);
  }
  fs::remove_all(store() / "gradients");
  const Store reader = Store::open(store(), identity_of(*model));
  const std::vector<Token> prompt = model->tokenizer().encode(prose(1, 3, 50));
  SessionOptions options;
  options.context_neighbours = 0;
  Session(model, &reader, options).complete(prompt, {.max_tokens = 2});
  EXPECT_EQ(rows_of(store()).files, 2u);
  EXPECT_EQ(store_gradients(*model, reader, load_statistics(*model, reader, -1), std::nullopt).chunks, 2u);
  EXPECT_EQ(rows_of(store()).files, 2u);
  options.gradient_budget = plenty;
  Session(model, &reader, options).complete(prompt, {.max_tokens = 2});
  EXPECT_GT(rows_of(store()).files, 2u);
}

// An int8 model's rows went through products of bytes.
TEST_P(IndexGradients, EachPrecisionHasRowsOfItsOwn) {
  index();
  const auto fp32 = Model::open(model_file()), int8 = Model::open(model_file(), {.precision = Precision::int8});
  const Store reader = Store::open(store(), identity_of(*fp32));
  const CorpusStatistics statistics = load_statistics(*fp32, reader, -1);
  const size_t chunks = reader.chunk_count();
  for (const auto& [first, second] : {std::pair(fp32, int8), std::pair(int8, fp32)}) {
    fs::remove_all(store() / "gradients");
    EXPECT_EQ(store_gradients(*first, reader, statistics, plenty).computed, chunks);
    EXPECT_EQ(store_gradients(*second, reader, statistics, plenty).computed, chunks);
    EXPECT_EQ(rows_of(store()).files, 2 * chunks);
    for (const auto& model : {first, second})
      EXPECT_EQ(store_gradients(*model, reader, statistics, plenty).computed, 0u);
  }
}

TEST_P(IndexGradients, GoWithTheirChunks) {
  index({"--gradients"});
  const size_t before = rows_of(store()).files;
  fs::remove(folder.path() / "texts/00");
  const size_t chunks = index()["chunks"];
  EXPECT_LT(chunks, before);
  EXPECT_EQ(rows_of(store()).files, chunks);
  EXPECT_EQ(index({"--gradients"})["gradients_computed"], 0);
}

// Where the rows would be stands something else, as where a disk is full: an error, not rows that nobody has.
TEST_P(IndexGradients, RowsThatCannotBeKeptAreAnError) {
  index();
  fs::remove_all(store() / "gradients");
  folder.write("store/gradients", "");
  const Result result = run_program({"index", model_file(), (folder.path() / "texts").string(), "-o", store().string(),
                                     "--chunk-tokens", "40", "--gradients"});
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("cannot keep a gradient row"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find(store().string()), std::string::npos) << result.err;
}

TEST_P(IndexGradients, DamagedRowsAreComputedAgain) {
  index({"--gradients"});
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(store() / "gradients")) files.push_back(entry.path());
  ASSERT_GT(files.size(), 3u);
  for (size_t damaged = 0; damaged < 3; ++damaged) {
    std::string bytes = read_file(files[damaged]);
    if (damaged == 0) bytes.resize(bytes.size() / 2);
    if (damaged == 1) bytes[bytes.size() / 2] ^= 4;
    if (damaged == 2) bytes.clear();
    folder.write("store/gradients/" + files[damaged].filename().string(), bytes);
  }
  EXPECT_EQ(index({"--gradients"})["gradients_computed"], 3);
  EXPECT_EQ(index({"--gradients"})["gradients_computed"], 0);
}

INSTANTIATE_TEST_SUITE_P(Models, IndexGradients, testing::Values("llama", "qwen2", "gemma3"),
                         [](const auto& model) { return std::string(model.param); });

}  // namespace
}  // namespace hone::test::index_gradients_test
