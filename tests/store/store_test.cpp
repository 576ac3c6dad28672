#include "hone/store.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <map>
#include <set>

#include "base/files.h"
#include "base/random.h"
#include "tests/expect_error.h"
#include "tests/fake_tokenizer.h"
#include "tests/row_bytes.h"
#include "tests/temporary_folder.h"

namespace hone::store_test {
namespace {

namespace fs = std::filesystem;
using test::TemporaryFolder;

const StoreIdentity fake_identity = {"fake", "0123456789abcdef"};

class StoreTest : public testing::Test {
 protected:
  fs::path docs() const { return scratch.path() / "docs"; }
  fs::path place() const { return scratch.path() / "store"; }
  fs::path doc(const std::string& name, std::string_view contents) const {
    return scratch.write("docs/" + name, contents);
  }
  Store create() const { return Store::create(place(), fake_identity); }
  IndexReport index(Store& store, size_t chunk_tokens = 32) const {
    return store.index({docs()}, tokenizer, {.chunk_tokens = chunk_tokens});
  }

  TemporaryFolder scratch;
  test::WordTokenizer tokenizer;
};

std::string words(const std::string& stem, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += stem + std::to_string(i) + (i % 10 == 9 ? "\n" : " ");
  return text;
}

// The chunks of each file, put together.
std::map<std::string, std::string> contents(const Store& store) {
  std::map<std::string, std::map<int, std::string>> parts;
  for (const int64_t id : store.chunk_ids()) {
    const Chunk chunk = store.chunk(id);
    parts[fs::path(chunk.path).filename().string()][chunk.ordinal] = chunk.text;
  }
  std::map<std::string, std::string> files;
  for (const auto& [path, chunks] : parts) {
    for (const auto& [ordinal, text] : chunks) files[path] += text;
  }
  return files;
}

using Contents = std::map<std::string, std::string>;

TEST_F(StoreTest, RoundTrip) {
  doc("a.txt", words("alpha", 100));
  doc("sub/b.md", words("beta", 10));
  {
    Store store = create();
    const IndexReport report = index(store);
    EXPECT_EQ(report.files_seen, 2u);
    EXPECT_EQ(report.files_indexed, 2u);
    EXPECT_EQ(report.chunks_added, report.chunks_total);
    EXPECT_TRUE(report.skipped.empty());
  }
  const Store store = Store::open(place(), fake_identity);
  EXPECT_EQ(store.identity().model_name, "fake");
  EXPECT_EQ(contents(store), (Contents{{"a.txt", words("alpha", 100)}, {"b.md", words("beta", 10)}}));
  const std::vector<int64_t> ids = store.chunk_ids();
  EXPECT_EQ(ids.size(), store.chunk_count());
  const Chunk first = store.chunk(ids.front());
  EXPECT_EQ(first.ordinal, 0);
  EXPECT_EQ(first.path, (docs() / "a.txt").string());
  EXPECT_EQ(first.hash, content_hash(first.text));
  EXPECT_EQ(first.tokens, tokenizer.encode(first.text));
  const auto next = store.successor(first.id);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->ordinal, 1);
  EXPECT_EQ(next->path, first.path);
  EXPECT_FALSE(store.successor(ids.back()));
  HONE_EXPECT_ERROR(store.chunk(9999), ErrorCode::not_found, "9999");
  EXPECT_FALSE(store.successor(9999));
}

TEST_F(StoreTest, ReadsAgainOnlyWhatChanged) {
  for (int i = 0; i < 5; ++i) {
    const fs::path file = doc("f" + std::to_string(i), words("w" + std::to_string(i) + "x", 60));
    fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::hours(1));
  }
  Store store = create();
  EXPECT_EQ(index(store).files_indexed, 5u);
  const std::vector<int64_t> before = store.chunk_ids();
  IndexReport report = index(store);
  EXPECT_EQ(report.files_unchanged, 5u);
  EXPECT_EQ(report.files_indexed, 0u);

  fs::last_write_time(docs() / "f0", fs::file_time_type::clock::now());
  EXPECT_EQ(index(store).files_unchanged, 5u);

  doc("f1", words("w1x", 60) + words("more", 40));
  report = index(store);
  EXPECT_EQ(report.files_unchanged, 4u);
  EXPECT_EQ(report.files_indexed, 1u);
  EXPECT_EQ(report.chunks_duplicate, 0u);
  EXPECT_EQ(contents(store)["f1"], words("w1x", 60) + words("more", 40));
  const std::vector<int64_t> after = store.chunk_ids();
  EXPECT_TRUE(std::includes(after.begin(), after.end(), before.begin(), before.begin() + 2));

  report = index(store, 64);
  EXPECT_EQ(report.files_indexed, 5u) << "another chunk length cuts every file anew";
  EXPECT_EQ(contents(store)["f0"], words("w0x", 60));
}

TEST_F(StoreTest, SameSizeChangeWithinTheSameSecondIsSeen) {
  doc("a", "first version of this");
  Store store = create();
  index(store);
  const auto time = fs::last_write_time(docs() / "a");
  doc("a", "other version of this");
  fs::last_write_time(docs() / "a", time);
  EXPECT_EQ(index(store).files_indexed, 1u);
  EXPECT_EQ(contents(store)["a"], "other version of this");
}

TEST_F(StoreTest, RemovesWhatIsGoneBelowTheGivenPathsOnly) {
  doc("a/one", words("one", 50));
  doc("b/two", words("two", 50));
  doc("ab/three", words("three", 50));
  Store store = create();
  index(store);
  fs::remove(docs() / "a/one");
  fs::remove(docs() / "b/two");
  doc("a/four", words("four", 50));
  EXPECT_EQ(store.index({docs() / "a"}, tokenizer, {.chunk_tokens = 32}).files_removed, 1u);
  Contents found = contents(store);
  EXPECT_FALSE(found.contains("one"));
  EXPECT_TRUE(found.contains("two"));
  EXPECT_TRUE(found.contains("three"));
  EXPECT_TRUE(store.neighbours("one7", 3).empty());
  EXPECT_EQ(index(store).files_removed, 1u);
  EXPECT_FALSE(contents(store).contains("two"));
  EXPECT_EQ(store.chunk(store.neighbours("three7", 1).at(0).chunk_id).path, (docs() / "ab/three").string());
}

TEST_F(StoreTest, ContentStaysWhileAnotherFileHasIt) {
  const std::string text = words("same", 70);
  doc("a", text);
  doc("b", text);
  Store store = create();
  const IndexReport report = index(store);
  EXPECT_EQ(report.chunks_duplicate, report.chunks_added);
  EXPECT_EQ(contents(store), (Contents{{"a", text}}));
  const std::vector<int64_t> ids = store.chunk_ids();
  fs::remove(docs() / "a");
  index(store);
  EXPECT_EQ(contents(store), (Contents{{"b", text}}));
  EXPECT_EQ(store.chunk_ids(), ids);
  EXPECT_EQ(store.successor(ids[0])->id, ids[1]);
  fs::remove(docs() / "b");
  doc("c", words("other", 5));
  index(store);
  EXPECT_EQ(contents(store), (Contents{{"c", words("other", 5)}}));
}

TEST_F(StoreTest, JsonLinesAreDocuments) {
  doc("d.jsonl", "{\"text\": \"first document\"}\n{\"id\": 1}\n{\"text\": \"second document\"}\n");
  Store store = create();
  const IndexReport report = index(store);
  EXPECT_EQ(report.chunks_total, 2u);
  ASSERT_EQ(report.skipped.size(), 1u);
  EXPECT_NE(report.skipped[0].reason.find("line 2"), std::string::npos);
  const std::vector<int64_t> ids = store.chunk_ids();
  EXPECT_EQ(store.chunk(ids[0]).text, "first document");
  EXPECT_FALSE(store.successor(ids[0])) << "the next document is not a continuation";
  EXPECT_EQ(index(store).skipped.size(), 1u) << "unchanged files report what they left out too";
}

TEST_F(StoreTest, BinaryEmptyLargeAndUnreadableFilesAreReported) {
  doc("binary", std::string("\0\1\2", 3));
  doc("empty", "");
  doc("large", words("large", 100));
  doc("fine", "fine words");
  const fs::path shut = doc("shut", "was readable");
  Store store = create();
  EXPECT_EQ(index(store).files_indexed, 3u);
  fs::permissions(shut, fs::perms::none);
  const uid_t user = ::geteuid();
  if (user == 0) {
    ASSERT_EQ(::chmod(scratch.path().c_str(), 0755), 0);
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const IndexReport report = store.index({docs()}, tokenizer, {.chunk_tokens = 32, .max_file_bytes = 200});
  ASSERT_EQ(::seteuid(user), 0);
  std::map<std::string, std::string> reasons;
  for (const auto& [path, reason] : report.skipped) reasons[fs::path(path).filename().string()] = reason;
  EXPECT_NE(reasons["binary"].find("binary"), std::string::npos);
  EXPECT_EQ(reasons["empty"], "empty");
  EXPECT_NE(reasons["large"].find("limit of 200"), std::string::npos);
  EXPECT_NE(reasons["shut"].find("ermission"), std::string::npos) << reasons["shut"];
  EXPECT_EQ(report.files_removed, 1u);
  EXPECT_TRUE(contents(store).contains("shut")) << "what cannot be read now is not gone";
  EXPECT_FALSE(contents(store).contains("large"));
}

TEST_F(StoreTest, OneLineOfTwentyMegabytes) {
  const std::string unit = "the quick brown fox number ";
  std::string line;
  for (int i = 0; line.size() < 20u << 20; ++i) line += unit + std::to_string(i) + " ";
  doc("long", line);
  Store store = create();
  store.index({docs()}, tokenizer, {});
  size_t bytes = 0;
  for (const int64_t id : store.chunk_ids()) bytes += store.chunk(id).text.size();
  EXPECT_EQ(bytes, line.size());
}

TEST_F(StoreTest, NothingToIndexIsAnError) {
  fs::create_directories(docs());
  Store store = create();
  HONE_EXPECT_ERROR(index(store), ErrorCode::bad_input, "nothing to index");
  HONE_EXPECT_ERROR(store.index({docs() / "absent"}, tokenizer, {}), ErrorCode::not_found, "absent");
  doc("binary", std::string(1, '\0'));
  HONE_EXPECT_ERROR(index(store), ErrorCode::bad_input, "binary");
  HONE_EXPECT_ERROR(index(store, 3), ErrorCode::bad_input, "16");
}

// Not only what is gone below a path: also the path itself, a file or a folder, however it is written.
TEST_F(StoreTest, PathsThatAreGoneAreRemoved) {
  for (const char* name : {"a/one", "b/two", "b/three", "four"}) doc(name, std::string("the text of ") + name);
  Store store = create();
  const std::vector<fs::path> paths = {docs() / "a", docs() / "b" / "", docs() / "four"};
  EXPECT_EQ(store.index(paths, tokenizer, {}).files_indexed, 4u);
  fs::remove_all(docs() / "b");
  fs::remove(docs() / "four");
  const IndexReport report = store.index(paths, tokenizer, {});
  EXPECT_EQ(report.files_removed, 3u);
  EXPECT_EQ(report.files_unchanged, 1u);
  EXPECT_EQ(store.chunk_count(), 1u);
  // Forgotten now, so unknown.
  HONE_EXPECT_ERROR(store.index(paths, tokenizer, {}), ErrorCode::not_found, "b");
  HONE_EXPECT_ERROR(store.index({docs() / "fou"}, tokenizer, {}), ErrorCode::not_found, "fou");
}

TEST_F(StoreTest, PathsThatAreGoneAreRemovedUnderRelativeNames) {
  doc("a/one", "the text of one");
  doc("b/two", "the text of two");
  Store store = create();
  const fs::path before = fs::current_path();
  fs::current_path(docs());
  EXPECT_EQ(store.index({"a", "b"}, tokenizer, {}).files_indexed, 2u);
  fs::remove_all("b");
  EXPECT_EQ(store.index({"a", "b"}, tokenizer, {}).files_removed, 1u);
  fs::current_path(before);
  EXPECT_EQ(store.chunk_count(), 1u);
}

TEST_F(StoreTest, AGoneFileThatHeldNoTextIsForgotten) {
  doc("one", "the text of one");
  const fs::path empty = doc("empty", "");
  Store store = create();
  index(store);
  fs::remove(empty);
  EXPECT_EQ(store.index({empty}, tokenizer, {}).chunks_total, 1u);
  HONE_EXPECT_ERROR(store.index({empty}, tokenizer, {}), ErrorCode::not_found, "empty");
}

TEST_F(StoreTest, TheStoreDoesNotIndexItself) {
  scratch.write("notes.txt", "a note");
  Store store = create();
  store.set_value("v", {});
  EXPECT_EQ(store.index({scratch.path()}, tokenizer, {}).files_seen, 1u);
}

TEST_F(StoreTest, OpeningWhatIsNoStore) {
  HONE_EXPECT_ERROR(Store::open(place()), ErrorCode::not_found, "hone index");
  fs::create_directories(place());
  HONE_EXPECT_ERROR(Store::open(place()), ErrorCode::not_found, "hone index");
  scratch.write("store/letter.txt", "dear");
  HONE_EXPECT_ERROR(create(), ErrorCode::bad_input, "other files");
  HONE_EXPECT_ERROR(Store::create(place() / "letter.txt", fake_identity), ErrorCode::bad_input, "letter.txt");
}

TEST_F(StoreTest, AnotherModelIsRefused) {
  create();
  const StoreIdentity other = {"other", "fedcba9876543210"};
  HONE_EXPECT_ERROR(Store::open(place(), other), ErrorCode::bad_input, "fake");
  HONE_EXPECT_ERROR(Store::create(place(), other), ErrorCode::bad_input, "other");
  EXPECT_EQ(Store::open(place()).identity().base_hash, fake_identity.base_hash);
}

TEST_F(StoreTest, NamesThatNeedCare) {
  const fs::path odd = scratch.path() / "50%25 of? what#\xFF";
  doc("caf\xE9.txt", "latin one name");
  Store::create(odd, fake_identity).index({docs()}, tokenizer, {});
  const Store store = Store::open(odd, fake_identity);
  EXPECT_EQ(store.chunk(store.chunk_ids().at(0)).path, (docs() / "caf\xE9.txt").string());
  EXPECT_TRUE(fs::exists(odd / "store.sqlite"));
}

TEST_F(StoreTest, TwoSlashesAtTheStartOfAPath) {
  const fs::path place = "/" + scratch.path().string() + "/twice";
  { const Store store = Store::create(place, fake_identity); }
  EXPECT_EQ(Store::open(place, fake_identity).chunk_count(), 0U);
}

TEST_F(StoreTest, PlacesThatTheSystemRefuses) {
  const fs::path long_name = scratch.path() / std::string(300, 'x');
  HONE_EXPECT_ERROR(Store::create(long_name, fake_identity), ErrorCode::io, "choose another place");
  HONE_EXPECT_ERROR(Store::open(long_name, fake_identity), ErrorCode::io, "check the path");
}

TEST_F(StoreTest, Values) {
  const std::vector<std::byte> bytes = {std::byte{0}, std::byte{255}, std::byte{7}};
  {
    Store store = create();
    EXPECT_FALSE(store.value("x"));
    store.set_value("x", {});
    EXPECT_TRUE(store.value("x")->empty());
    store.set_value("x", bytes);
    EXPECT_EQ(store.value("x"), bytes);
  }
  Store reader = Store::open(place());
  EXPECT_EQ(reader.value("x"), bytes);
  HONE_EXPECT_ERROR(reader.set_value("x", bytes), ErrorCode::bad_input, "reading");
  HONE_EXPECT_ERROR(index(reader), ErrorCode::bad_input, "reading");
}

TEST_F(StoreTest, ProgressAndCancelling) {
  for (int i = 0; i < 20; ++i) doc("f" + std::to_string(i), words("f" + std::to_string(i) + "x", 40));
  Store store = create();
  Watch watch;
  std::vector<size_t> seen;
  watch.progress = [&](const Progress& progress) {
    EXPECT_EQ(progress.stage, "index");
    EXPECT_EQ(progress.total, 20u);
    seen.push_back(progress.done);
    if (progress.done == 7) watch.cancel.cancel();
  };
  HONE_EXPECT_ERROR(store.index({docs()}, tokenizer, {}, watch), ErrorCode::cancelled, "cancelled");
  EXPECT_EQ(seen.size(), 8u);
  EXPECT_EQ(contents(store).size(), 7u);
  EXPECT_EQ(index(store, 256).files_unchanged, 7u);
  EXPECT_EQ(contents(store).size(), 20u);
}

// Words as unicode61 splits ASCII text.
std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> result;
  std::string word;
  for (const char c : text + " ") {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      word += static_cast<char>(std::tolower(c));
    } else if (!word.empty()) {
      result.push_back(std::exchange(word, {}));
    }
  }
  return result;
}

using Ranking = std::vector<std::pair<double, int64_t>>;

// BM25 (Robertson et al. 1994), k1 = 1.2, b = 0.75, over the 48 query words of the largest idf · (1 + ln tf).
Ranking brute_force(const Store& store, const std::string& query) {
  std::map<int64_t, std::vector<std::string>> documents;
  std::map<std::string, std::set<int64_t>> holders;
  double length = 0;
  for (const int64_t id : store.chunk_ids()) {
    documents[id] = split(store.chunk(id).text);
    length += static_cast<double>(documents[id].size());
    for (const std::string& word : documents[id]) holders[word].insert(id);
  }
  const auto count = static_cast<double>(documents.size());
  std::map<std::string, int> asked;
  for (const std::string& word : split(query)) ++asked[word];
  std::vector<std::tuple<double, std::string, double>> chosen;
  for (const auto& [word, times] : asked) {
    const auto with = static_cast<double>(holders[word].size());
    if (with == 0) continue;
    const double idf = std::max(1e-6, std::log((count - with + 0.5) / (with + 0.5)));
    chosen.emplace_back(-idf * (1 + std::log(times)), word, idf);
  }
  std::sort(chosen.begin(), chosen.end());
  if (chosen.size() > 48) chosen.resize(48);
  Ranking ranking;
  for (const auto& [id, text] : documents) {
    double score = 0;
    for (const auto& [key, word, idf] : chosen) {
      const auto tf = static_cast<double>(std::count(text.begin(), text.end(), word));
      score += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * static_cast<double>(text.size()) * count / length));
    }
    if (score > 0) ranking.emplace_back(-score, id);
  }
  std::sort(ranking.begin(), ranking.end());
  return ranking;
}

TEST_F(StoreTest, RanksAsBruteForceBm25) {
  RandomStream random(5, "bm25");
  const auto random_text = [&](size_t length, uint64_t vocabulary) {
    std::string text;
    for (size_t i = 0; i < length; ++i) {
      const auto rank = static_cast<uint64_t>(std::exp(random.uniform() * std::log(static_cast<double>(vocabulary))));
      text += (random.below(9) == 0 ? "Snake_W" : "w") + std::to_string(rank) + (random.below(12) == 0 ? ".\n" : " ");
    }
    return text;
  };
  for (int i = 0; i < 60; ++i) doc("f" + std::to_string(i), random_text(20 + random.below(300), 3000));
  Store store = create();
  index(store, 128);
  for (const size_t length : {1, 5, 40, 400}) {
    const std::string query = random_text(length, 6000);
    const std::vector<Neighbour> found = store.neighbours(query, 25);
    const Ranking expected = brute_force(store, query);
    ASSERT_EQ(found.size(), std::min<size_t>(25, expected.size()));
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_NEAR(found[i].score, -expected[i].first, 1e-9);
      if (i > 0 && found[i].score == found[i - 1].score) {
        EXPECT_GT(found[i].chunk_id, found[i - 1].chunk_id);
      }
    }
  }
}

TEST_F(StoreTest, NeighboursOfOddQueries) {
  doc("a", "Caf\u00E9 na\u00EFve snake_case_name \u4F60\u597D \"quoted\" AND OR NOT NEAR");
  doc("b", "something else altogether");
  doc("c", "nothing to see here");
  Store store = create();
  index(store);
  EXPECT_TRUE(store.neighbours("", 5).empty());
  EXPECT_TRUE(store.neighbours(" \n\"*:()^-", 5).empty());
  EXPECT_TRUE(store.neighbours("unheard", 5).empty());
  EXPECT_TRUE(store.neighbours("something", 0).empty());
  const int64_t a = store.chunk_ids()[0];
  for (const char* query : {"cafe", "CAF\u00C9", "naive", "snake", "name*", "\u4F60\u597D", "\"AND", "near(",
                            "col:quoted", "\xFF quoted \xC3"}) {
    const auto found = store.neighbours(query, 5);
    ASSERT_EQ(found.size(), 1u) << query;
    EXPECT_EQ(found[0].chunk_id, a);
    EXPECT_GT(found[0].score, 0);
  }
  EXPECT_EQ(store.neighbours(std::string("some\0thing else", 15), 5).size(), 1u);
}

TEST_F(StoreTest, NeighboursFollowTheWriter) {
  doc("a", "apples and pears");
  doc("x", "some filling");
  doc("y", "more filling text");
  Store writer = create();
  index(writer);
  const Store reader = Store::open(place());
  EXPECT_EQ(reader.neighbours("pears plums", 9).size(), 1u);
  doc("b", "plums and cherries");
  index(writer);
  EXPECT_EQ(reader.neighbours("pears plums", 9).size(), 2u);
  EXPECT_EQ(writer.neighbours("pears plums", 9).size(), 2u);
}

TEST_F(StoreTest, GradientRowsLiveInTheStore) {
  doc("a", "text");
  const Store store = create();
  const std::vector<std::byte> row(100, std::byte{3});
  store.keep_row("key", row, 1000);
  EXPECT_EQ(test::bytes_of(Store::open(place()).find_row("key")), row);
  fs::remove_all(place() / "gradients");
  EXPECT_FALSE(store.find_row("key"));
}

TEST_F(StoreTest, GradientRowsGoWithTheLastFileThatHoldsTheirChunk) {
  doc("a", "one text");
  doc("b", "another text");
  doc("copy of b", "another text");
  Store store = create();
  index(store);
  const std::string of_one = content_hash("one text") + "/model", of_another = content_hash("another text") + "/model";
  const std::vector<std::byte> row(100, std::byte{3});
  for (const std::string& key : {of_one, of_another, of_another + "/int8", std::string("key")})
    store.keep_row(key, row, 10000);
  fs::remove(docs() / "a");
  fs::remove(docs() / "b");
  index(store);
  EXPECT_FALSE(store.find_row(of_one));
  EXPECT_TRUE(store.find_row(of_another));
  EXPECT_TRUE(store.find_row(of_another + "/int8"));
  doc("copy of b", "quite another text");
  index(store);
  EXPECT_FALSE(store.find_row(of_another));
  EXPECT_FALSE(store.find_row(of_another + "/int8"));
  EXPECT_TRUE(store.find_row("key")) << "no chunk's";
}

}  // namespace
}  // namespace hone::store_test
