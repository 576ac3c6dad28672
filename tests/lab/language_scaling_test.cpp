// Language scaling: corpora and their split, one run for every number of neighbours, near-duplicates, and the report
// against figures made by hand.
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <cmath>
#include <numbers>
#include <numeric>

#include "adapt/gradients.h"
#include "lab/language_rows.h"
#include "lab/rows_file.h"
#include "lab/text_corpora.h"
#include "tests/expect_error.h"
#include "tests/small_store.h"
#include "tests/temporary_folder.h"

namespace hone::lab::language_scaling_test {
namespace {

// More than 4 000 bytes, a sentence a line.
std::string page(uint64_t seed) {
  std::string text = test::prose(seed % 3, 160, seed);
  for (size_t at = text.find(". "); at != std::string::npos; at = text.find(". ", at)) text[at + 1] = '\n';
  return text;
}

std::vector<std::string> names(const Corpus& corpus) {
  std::vector<std::string> result;
  for (const Document& document : corpus.documents) result.push_back(document.name);
  return result;
}

TEST(TextCorpora, FilesBelowAFolderByTheirEnds) {
  const test::TemporaryFolder folder;
  for (const char* name : {"b", "a/inner", "c"}) folder.write(name, "x");
  constexpr std::string_view ends[] = {"inner"};
  EXPECT_EQ(files_below(folder.path(), ends), std::vector<std::filesystem::path>{folder.path() / "a" / "inner"});
  EXPECT_TRUE(files_below(folder.path() / "absent", ends).empty());
  HONE_EXPECT_ERROR(files_below(folder.path() / "b", ends), ErrorCode::io, "below");
}

TEST(TextCorpora, WhatIsMissingIsNamedByItsPackage) {
  const test::TemporaryFolder folder;
  for (const std::filesystem::path& place : {folder.path(), folder.path() / "absent"}) {
    HONE_EXPECT_ERROR(python_library(place), ErrorCode::not_found, "install Debian's package python3");
    HONE_EXPECT_ERROR(linux_documentation(place), ErrorCode::not_found, "install Debian's package linux-doc");
  }
}

TEST(TextCorpora, HoldEachTextOnceAndNoTestsOrTranslations) {
  const test::TemporaryFolder folder;
  for (const char* name : {"copy.py", "os.py", "test/a.py", "dist-packages/b.py", "encodings/c.py"})
    folder.write(fmt::format("python3.9/{}", name), page(1));
  folder.write("python3.9/json/decoder.py", page(2));
  folder.write("python3.9/short.py", "pass\n");
  const Corpus library = python_library(folder.path());
  EXPECT_EQ(names(library), (std::vector<std::string>{"copy.py", "json/decoder.py"}));
  EXPECT_EQ(library.documents[1].text, page(2));
  folder.write("python3.9/json/decoder.py", page(3));
  EXPECT_NE(python_library(folder.path()).hash, library.hash);
  uint64_t seed = 0;
  for (const char* name : {"process/a.rst", "sound/b.rst", "translations/process/c.rst", "process/d.txt"})
    folder.write(fmt::format("linux-doc-9/Documentation/{}", name), page(seed++));
  EXPECT_EQ(names(linux_documentation(folder.path())), std::vector<std::string>{"process/a.rst"});
}

class SplitCorpus : public testing::Test {
 protected:
  SplitCorpus() {
    for (uint64_t i = 0; i < 12; ++i) corpus.documents.push_back({fmt::format("page {}", i), page(i)});
    corpus.documents.push_back({"short", "A line.\nAnother one.\n"});
    corpus.documents.push_back({"one line", std::string(5000, 'x')});
  }
  Corpus corpus{"pages", {}, {}};
};

TEST_F(SplitCorpus, AFileIsHeldOutOrLearnedFrom) {
  const Split parts = split(corpus, 4, 200, 400, 7), two = split(corpus, 2, 200, 400, 7);
  ASSERT_EQ(parts.windows.size(), 4U);
  ASSERT_EQ(two.windows.size(), 2U);
  ASSERT_EQ(parts.learned.size(), 10U);
  EXPECT_EQ(two.learned, parts.learned);
  for (size_t w = 0; w < parts.windows.size(); ++w) {
    const TextWindow& window = parts.windows[w];
    if (w < 2) {
      EXPECT_EQ(two.windows[w].document, window.document);
    }
    for (const Document* document : parts.learned) EXPECT_NE(document->name, window.document);
    const auto whole = std::ranges::find(corpus.documents, window.document, &Document::name);
    EXPECT_EQ(whole->text.substr(window.offset, window.text.size()), window.text);
    EXPECT_EQ(whole->text[window.offset - 1], '\n');
    EXPECT_EQ(window.text.back(), '\n');
    EXPECT_GT(window.offset, 200U);
    EXPECT_LE(window.text.size(), 400U);
    EXPECT_GE(window.text.size(), 200U);
  }
  EXPECT_NE(split(corpus, 4, 200, 400, 8).learned, parts.learned);
  HONE_EXPECT_ERROR(split(corpus, 5, 200, 400, 7), ErrorCode::bad_input, "pages has 4 held-out files");
}

TEST_F(SplitCorpus, IsIndexedOnce) {
  const auto model = Model::open(test::tiny_model("llama"));
  const test::TemporaryFolder folder;
  const std::vector<const Document*> documents = {&corpus.documents[0], &corpus.documents[1]};
  const size_t chunks = corpus_store(*model, documents, 40, folder.path()).chunk_count();
  EXPECT_GT(chunks, 10U);
  const auto entries = [&] {
    return std::distance(std::filesystem::directory_iterator(folder.path()), std::filesystem::directory_iterator());
  };
  EXPECT_EQ(entries(), 1);
  EXPECT_EQ(corpus_store(*model, documents, 40, folder.path()).chunk_count(), chunks);
  EXPECT_EQ(entries(), 1);
  EXPECT_NE(corpus_store(*model, documents, 80, folder.path()).chunk_count(), chunks);
  EXPECT_EQ(entries(), 2);
}

double bits(std::span<const float> losses) {
  return std::accumulate(losses.begin(), losses.end(), 0.0) / std::numbers::ln2;
}

class LanguageRows : public testing::TestWithParam<const char*> {};

TEST_P(LanguageRows, OneRunIsARunForEveryNumberOfNeighbours) {
  const auto model = Model::open(test::tiny_model(GetParam()));
  const std::string written = test::prose(0, 6, 1);
  const std::vector<Token> text = with_bos(*model, model->tokenizer().encode(written));
  std::vector<std::vector<Token>> neighbours;
  for (uint64_t i = 0; i < 5; ++i) neighbours.push_back(model->tokenizer().encode(test::prose(0, 4, 10 + i)));
  const std::vector<size_t> scored_at = {0, 2, 5, 9};
  const PublishedOptions options{.rank = 2, .seed = 3};
  const Matrix along = losses_along_neighbours(*model, text, neighbours, scored_at, options);
  ASSERT_EQ(along.rows(), 4U);
  ASSERT_EQ(along.cols(), text.size() - 1);
  EXPECT_NEAR(bits(along.row(0)), score(*model, written, {}).bits, 1e-6);
  for (size_t c = 1; c < 3; ++c) {
    const auto some = std::span(neighbours).first(scored_at[c]);
    const std::vector<size_t> only = {scored_at[c]};
    const Matrix alone = losses_along_neighbours(*model, text, some, only, options);
    const Adapter adapter = published_protocol(*model, some, options);
    const Sequence sequence{text, &adapter};
    const Matrix hidden = model->forward({&sequence, 1});
    const std::vector<float> plain =
        model->losses(hidden.view().row_range(0, text.size() - 1), std::span(text).subspan(1));
    EXPECT_TRUE(std::ranges::equal(along.row(c), alone.row(0))) << c;
    EXPECT_TRUE(std::ranges::equal(along.row(c), plain)) << c;
    EXPECT_FALSE(std::ranges::equal(along.row(c), along.row(c - 1))) << c;
  }
  EXPECT_TRUE(std::ranges::equal(along.row(2), along.row(3)));  // there are five
  HONE_EXPECT_ERROR(losses_along_neighbours(*model, std::span(text).first(1), neighbours, scored_at, options),
                    ErrorCode::bad_input, "none to predict");
}

INSTANTIATE_TEST_SUITE_P(Models, LanguageRows, testing::Values("llama", "gemma3"));

const Json some_config = {{"rank", 4},           {"first_layer", 0},       {"learning_rate", 0.001},
                          {"chunk_tokens", 256}, {"duplicate_share", .05}, {"floor", .02}};

TEST(LanguageTask, ANearDuplicateHelpsOnlyWhereItIsKept) {
  const auto model = Model::open(test::tiny_model("llama"));
  const TextWindow window{"held", 0, test::prose(0, 10, 99)};
  std::vector<Document> documents = {{"copy", window.text}, {"harbours", test::prose(0, 8, 1)}};
  for (uint64_t i = 2; i < 6; ++i) documents.push_back({fmt::format("others {}", i), test::prose(1 + i % 2, 8, i)});
  std::vector<const Document*> learned;
  for (const Document& document : documents) learned.push_back(&document);
  const test::TemporaryFolder folder;
  const Store store = corpus_store(*model, learned, 400, folder.path());
  LanguageOptions options{.neighbours = {0, 1, 3}, .duplicate_share = 0.5};
  RowsFile file(folder.path() / "rows.csv", language_columns());
  file.append(language_rows(*model, store, "prose", window, options));
  const Table& rows = file.table();
  ASSERT_EQ(rows.rows(), 8U);
  const Table kept = rows.where("duplicates", "kept"), removed = rows.where("duplicates", "removed");
  EXPECT_EQ(rows.distinct("near_duplicates"), std::vector<std::string>{"1"});
  EXPECT_EQ(kept.distinct("neighbours"), (std::vector<std::string>{"0", "1", "3", "mixture"}));
  EXPECT_EQ(kept.number(0, "bits"), removed.number(0, "bits"));
  EXPECT_NE(kept.number(2, "bits"), removed.number(2, "bits"));
  EXPECT_EQ(kept.number(0, "found"), 3);
  EXPECT_NEAR(kept.number(0, "bits"), score(*model, window.text, {}).bits, 1e-6);
  EXPECT_EQ(kept.number(0, "bytes"), static_cast<double>(score(*model, window.text, {}).bytes));
  for (const Table* table : {&kept, &removed})
    EXPECT_LE(table->number(3, "bits"), table->number(0, "bits") + table->number(3, "bound_bits") + 1e-9);
  const Report report = language_report(some_config, rows);
  EXPECT_EQ(report.summary["corpora"].size(), 2U);
  EXPECT_EQ(report.summary["corpora"][0]["points"][3]["broken"], 0);

  options.duplicate_share = 1;  // nothing exceeds it: both are one run
  RowsFile all(folder.path() / "all.csv", language_columns());
  all.append(language_rows(*model, store, "prose", window, options));
  EXPECT_EQ(all.table().where("duplicates", "kept").numbers("bits"),
            all.table().where("duplicates", "removed").numbers("bits"));
  EXPECT_EQ(all.table().where("duplicates", "kept").numbers("bits"), kept.numbers("bits"));
}

TEST(LanguageReport, SaysWhatTheRowsSay) {
  const test::TemporaryFolder folder;
  RowsFile file(folder.path() / "rows.csv", language_columns());
  const auto row = [](const char* duplicates, const char* neighbours, double total, const char* bound) -> Row {
    return {"prose",    "held",      int64_t{0},   duplicates, neighbours, int64_t{2},
            int64_t{1}, int64_t{30}, int64_t{100}, total,      bound};
  };
  const auto task = [&](double base, double two, double mixture) {
    std::vector<Row> rows;
    for (const char* duplicates : {"removed", "kept"}) {
      rows.push_back(row(duplicates, "0", base, ""));
      rows.push_back(row(duplicates, "2", two, ""));
      rows.push_back(row(duplicates, "mixture", mixture, "3"));
    }
    return rows;
  };
  file.append(task(100, 90, 95));
  file.append(task(200, 204, 205));
  const Report report = language_report(some_config, file.table());
  ASSERT_EQ(report.summary["corpora"].size(), 2U);
  for (const Json& corpus : report.summary["corpora"]) {
    EXPECT_EQ(corpus["windows"], 2);
    EXPECT_EQ(corpus["near_duplicates"], 2);
    const Json &base = corpus["points"][0], &two = corpus["points"][1], &mixture = corpus["points"][2];
    EXPECT_EQ(base["bits_per_byte"], 1.5);
    EXPECT_EQ(base["gain"], 0);
    EXPECT_EQ(two["bits_per_byte"], 1.47);
    EXPECT_NEAR(two["gain"].get<double>(), (0.1 - 0.02) / 2, 1e-12);
    EXPECT_NEAR(two["gain_median"].get<double>(), (0.1 - 0.02) / 2, 1e-12);
    EXPECT_EQ(two["worse"], 1);
    EXPECT_EQ(two["harm_bits_max"], 4);
    EXPECT_EQ(mixture["broken"], 1);  // 5 bits, of 3
    EXPECT_EQ(mixture["bound_bits"], 3);
  }
  ASSERT_EQ(report.summary["differences"].size(), 3U);  // two and mixture against the base, mixture against two
  EXPECT_NEAR(report.summary["differences"][0]["difference"].get<double>(), (-0.1 + 0.04) / 2, 1e-12);
  ASSERT_EQ(report.findings.size(), 4U);
  EXPECT_NE(report.findings[0].ours.find("1.500 → 1.470"), std::string::npos) << report.findings[0].ours;
  EXPECT_NE(report.findings[0].published.find("0.5B 1.15 → 1.07 (7.0 %)"), std::string::npos);
  ASSERT_EQ(report.figures.size(), 2U);
  EXPECT_EQ(report.figures[0].series[0].x, (std::vector<double>{0, 2}));
  EXPECT_EQ(report.figures[0].series[0].y, (std::vector<double>{1.5, 1.47}));
  EXPECT_EQ(report.figures[1].series.size(), 2U);
}

// Two windows, of whose cells the first `edits` that say `from` in a column say `to`.
Report edited_report(std::string_view column, std::string_view from, std::string_view to, size_t edits) {
  Table table(language_columns());
  for (const char* duplicates : {"removed", "kept"})
    for (const char* window : {"first", "second"})
      for (const char* neighbours : {"0", "2", "mixture"}) {
        std::vector<std::string> cells = {"prose", window, "0",   duplicates, neighbours, "2",
                                          "1",     "30",   "100", "50",       "3"};
        for (size_t i = 0; i < cells.size(); ++i)
          if (table.columns()[i] == column && cells[i] == from && edits > 0) {
            cells[i] = to;
            --edits;
          }
        table.add(cells);
      }
  return language_report(some_config, table);
}

TEST(LanguageReport, EditedRowsAreDamaged) {
  EXPECT_EQ(edited_report("corpus", "prose", "prose", 0).summary["corpora"].size(), 2U);
  HONE_EXPECT_ERROR(edited_report("neighbours", "0", "2", 1), ErrorCode::corrupt,
                    "3 windows after 2 neighbours, 1 after");
  HONE_EXPECT_ERROR(edited_report("neighbours", "0", "1", 2), ErrorCode::corrupt,
                    "2 windows after 1 neighbours, 0 after");
  HONE_EXPECT_ERROR(edited_report("neighbours", "mixture", "0", 2), ErrorCode::corrupt, "4 after none");
  HONE_EXPECT_ERROR(edited_report("duplicates", "kept", "removed", 6), ErrorCode::corrupt, "of the mixture last");
}

}  // namespace
}  // namespace hone::lab::language_scaling_test
