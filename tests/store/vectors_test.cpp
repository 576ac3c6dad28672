// Dense vectors in the store: exact search, ties, what stays on disk, and what damage does. Fusion of ranks by hand.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <thread>

#include "base/files.h"
#include "base/random.h"
#include "hone/neighbours.h"
#include "hone/store.h"
#include "tests/expect_error.h"
#include "tests/fake_tokenizer.h"
#include "tests/small_disk.h"
#include "tests/temporary_folder.h"

namespace hone::test::vectors_test {
namespace {

namespace fs = std::filesystem;

const StoreIdentity identity = {"fake", "0123456789abcdef"};
const Encoder encoder = {"fake L3 mean", 12};

Matrix random_vectors(size_t rows, uint64_t seed, size_t dimension = encoder.dimension) {
  Matrix vectors = Matrix::uninitialized(rows, dimension);
  RandomStream(seed, "vectors").normals({vectors.data(), vectors.size()}, 1);
  for (size_t i = 0; i < rows; ++i) vectors.row(i)[0] += 5;  // a large common part
  return vectors;
}

// Cosines of the centred vectors in double, most similar first, ties by id.
std::vector<Neighbour> brute_force(const std::vector<int64_t>& ids, const Matrix& vectors,
                                   std::span<const float> query) {
  std::vector<double> mean(query.size());
  for (size_t i = 0; i < ids.size(); ++i)
    for (size_t d = 0; d < mean.size(); ++d) mean[d] += vectors.row(i)[d] / static_cast<double>(ids.size());
  std::vector<Neighbour> all;
  for (size_t i = 0; i < ids.size(); ++i) {
    double product = 0, a = 0, b = 0;
    for (size_t d = 0; d < mean.size(); ++d) {
      const double x = query[d] - mean[d], y = vectors.row(i)[d] - mean[d];
      product += x * y, a += x * x, b += y * y;
    }
    all.push_back({ids[i], product / std::sqrt(a * b)});
  }
  std::ranges::stable_sort(all, std::ranges::greater(), &Neighbour::score);
  return all;
}

class Vectors : public testing::Test {
 protected:
  fs::path docs() const { return scratch.path() / "docs"; }
  fs::path place() const { return scratch.path() / "store"; }
  fs::path file() const { return place() / "vectors"; }
  // One chunk a file.
  void write(int first, int count) const {
    for (int i = first; i < first + count; ++i)
      scratch.write("docs/f" + std::to_string(1000 + i), "text number " + std::to_string(i));
  }
  Store create() const { return Store::create(place(), identity); }
  void index(Store& store) const { store.index({docs()}, tokenizer, {.chunk_tokens = 32}); }
  Store indexed(int chunks) const {
    write(0, chunks);
    Store store = create();
    index(store);
    EXPECT_EQ(store.chunk_count(), static_cast<size_t>(chunks));
    return store;
  }

  TemporaryFolder scratch{memory_directory()};
  WordTokenizer tokenizer;
};

TEST_F(Vectors, NearestAreThoseOfBruteForce) {
  Store store = indexed(70);
  const std::vector<int64_t> ids = store.chunk_ids();
  const Matrix vectors = random_vectors(ids.size(), 1);
  store.keep_vectors(encoder, ids, vectors);
  const Matrix queries = random_vectors(8, 2);
  for (size_t q = 0; q < queries.rows(); ++q) {
    const std::vector<Neighbour> expected = brute_force(ids, vectors, queries.row(q));
    for (const size_t count : {size_t{0}, size_t{1}, size_t{7}, size_t{69}, size_t{70}, size_t{1000}}) {
      const std::vector<Neighbour> found = store.nearest(encoder, queries.row(q), count);
      ASSERT_EQ(found.size(), std::min<size_t>(count, 70));
      for (size_t i = 0; i < found.size(); ++i) {
        EXPECT_EQ(found[i].chunk_id, expected[i].chunk_id) << q << ' ' << i;
        EXPECT_NEAR(found[i].score, expected[i].score, 1e-6);
      }
    }
  }
}

// Centred vectors at length 1 are what SIFT chooses from.
TEST_F(Vectors, SiftReChoosesAmongTheNearest) {
  Store store = indexed(230);
  const std::vector<int64_t> ids = store.chunk_ids();
  Matrix vectors = random_vectors(ids.size(), 1);
  for (size_t i = 0; i < 20; ++i) std::ranges::copy(vectors.row(3), vectors.row(i).begin());  // near duplicates
  store.keep_vectors(encoder, ids, vectors);
  std::vector<float> mean(encoder.dimension), query(vectors.row(3).begin(), vectors.row(3).end());
  for (size_t i = 0; i < ids.size(); ++i)
    for (size_t d = 0; d < mean.size(); ++d) mean[d] += vectors.row(i)[d] / static_cast<float>(ids.size());
  for (size_t d = 0; d < mean.size(); ++d) query[d] += 0.5f * vectors.row(100)[d];
  const std::vector<Neighbour> nearest = store.nearest(encoder, query, 200), chosen = store.sift(encoder, query, 8);
  Matrix pool = Matrix::uninitialized(200, encoder.dimension);
  for (size_t j = 0; j < 200; ++j) {
    const auto row = static_cast<size_t>(std::ranges::find(ids, nearest[j].chunk_id) - ids.begin());
    for (size_t d = 0; d < mean.size(); ++d) pool.row(j)[d] = vectors.row(row)[d] - mean[d];
  }
  std::vector<float> centred = query;
  for (size_t d = 0; d < mean.size(); ++d) centred[d] -= mean[d];
  const SiftChoice expected = sift(centred, pool, {.count = 8});
  ASSERT_EQ(chosen.size(), 8u);
  size_t copies = 0;
  for (size_t t = 0; t < 8; ++t) {
    EXPECT_EQ(chosen[t].chunk_id, nearest[expected.chosen[t]].chunk_id);
    EXPECT_EQ(chosen[t].score, nearest[expected.chosen[t]].score);
    copies += chosen[t].chunk_id <= ids[19];
  }
  EXPECT_LE(copies, 2u);
  EXPECT_TRUE(store.sift(encoder, query, 0).empty());
  EXPECT_EQ(store.sift(encoder, query, 1000).size(), 230u);
}

TEST_F(Vectors, TiesAreInTheOrderOfIds) {
  Store store = indexed(240);
  std::vector<int64_t> ids = store.chunk_ids();
  // Four directions that sum to 0, of any length, kept in reverse.
  std::ranges::reverse(ids);
  Matrix vectors(ids.size(), encoder.dimension);
  for (size_t i = 0; i < ids.size(); ++i) {
    const size_t direction = static_cast<size_t>(ids[i]) % 4;
    vectors.row(i)[direction / 2] = direction % 2 == 0 ? 2 : -2;
  }
  store.keep_vectors(encoder, ids, vectors);
  std::ranges::reverse(ids);
  std::vector<float> query(encoder.dimension);
  query[0] = 3;
  std::vector<int64_t> expected;
  for (const int64_t kind : {0, 2, 3, 1})  // cosine 1, then 0, then −1
    for (const int64_t id : ids)
      if (id % 4 == kind) expected.push_back(id);
  std::sort(expected.begin() + 60, expected.begin() + 180);
  for (size_t count = 1; count <= ids.size(); ++count) {
    std::vector<int64_t> found;
    for (const Neighbour& neighbour : store.nearest(encoder, query, count)) found.push_back(neighbour.chunk_id);
    EXPECT_EQ(found, std::vector<int64_t>(expected.begin(), expected.begin() + static_cast<ptrdiff_t>(count)));
  }
  EXPECT_EQ(store.nearest(encoder, query, 1).at(0).score, 1);
  EXPECT_EQ(store.nearest(encoder, query, 240).back().score, -1);
}

TEST_F(Vectors, OneChunkIsItsOwnMean) {
  Store store = indexed(1);
  const Matrix vector = random_vectors(1, 3);
  store.keep_vectors(encoder, store.chunk_ids(), vector);
  const std::vector<Neighbour> found = store.nearest(encoder, vector.row(0), 3);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].score, 0);
}

TEST_F(Vectors, AreKeptInCommitsAndReadByOthers) {
  const Matrix vectors = random_vectors(20, 4);
  std::vector<int64_t> ids;
  {
    Store store = indexed(20);
    ids = store.chunk_ids();
    EXPECT_EQ(store.chunks_without_vector(encoder), ids);
    const Store reader = Store::open(place(), identity);
    HONE_EXPECT_ERROR(reader.nearest(encoder, vectors.row(0), 3), ErrorCode::not_found, "--vectors");
    for (size_t begin = 0; begin < 20; begin += 5) {
      store.keep_vectors(encoder, std::span(ids).subspan(begin, 5), vectors.view().row_range(begin, 5));
      EXPECT_EQ(reader.chunks_without_vector(encoder).size(), 15 - begin);
      if (begin < 15)
        HONE_EXPECT_ERROR(reader.nearest(encoder, vectors.row(0), 3), ErrorCode::not_found,
                          std::to_string(15 - begin) + " of the 20 chunks");
    }
    EXPECT_EQ(reader.nearest(encoder, vectors.row(7), 1).at(0).chunk_id, ids[7]);
    // The writer goes on, the open reader sees it.
    write(20, 1);
    index(store);
    HONE_EXPECT_ERROR(reader.nearest(encoder, vectors.row(0), 3), ErrorCode::not_found, "1 of the 21 chunks");
    store.keep_vectors(encoder, store.chunks_without_vector(encoder), vectors.view().row_range(7, 1));
    const std::vector<Neighbour> twice = reader.nearest(encoder, vectors.row(7), 3);
    EXPECT_EQ(twice[0].chunk_id, ids[7]);
    EXPECT_EQ(twice[1].chunk_id, store.chunk_ids().back());
    EXPECT_EQ(twice[0].score, twice[1].score);
  }
  const Store store = Store::open(place(), identity);
  EXPECT_EQ(store.nearest(encoder, vectors.row(3), 1).at(0).chunk_id, ids[3]);
}

TEST_F(Vectors, OfChunksThatAreGone) {
  Store store = indexed(10);
  const std::vector<int64_t> ids = store.chunk_ids();
  const Matrix vectors = random_vectors(10, 5);
  store.keep_vectors(encoder, ids, vectors);
  const auto bytes = fs::file_size(file());
  fs::remove(docs() / "f1004");
  index(store);
  for (const Neighbour& neighbour : store.nearest(encoder, vectors.row(4), 10)) EXPECT_NE(neighbour.chunk_id, ids[4]);
  EXPECT_EQ(store.nearest(encoder, vectors.row(4), 10).size(), 9u);
  // The same text again is another chunk with the same content: its vector is still there.
  write(4, 1);
  index(store);
  EXPECT_NE(store.chunk_ids().back(), ids[4]);
  EXPECT_TRUE(store.chunks_without_vector(encoder).empty());
  EXPECT_EQ(store.nearest(encoder, vectors.row(4), 1).at(0).chunk_id, store.chunk_ids().back());
  store.prune_vectors(encoder);
  EXPECT_EQ(fs::file_size(file()), bytes) << "nothing was to be dropped";
  // Once pruned it is not.
  fs::remove(docs() / "f1004");
  index(store);
  store.prune_vectors(encoder);
  EXPECT_LT(fs::file_size(file()), bytes);
  EXPECT_EQ(store.nearest(encoder, vectors.row(3), 1).at(0).chunk_id, ids[3]);
  write(4, 1);
  index(store);
  EXPECT_EQ(store.chunks_without_vector(encoder), std::vector<int64_t>{store.chunk_ids().back()});
  store.keep_vectors(encoder, store.chunks_without_vector(encoder), vectors.view().row_range(4, 1));
  EXPECT_EQ(fs::file_size(file()), bytes + 16) << "one commit more";
  EXPECT_EQ(store.nearest(encoder, vectors.row(4), 1).at(0).chunk_id, store.chunk_ids().back());
}

TEST_F(Vectors, OfAnotherEncoderOrModelAreRefused) {
  Store store = indexed(6);
  const Matrix vectors = random_vectors(6, 6);
  store.keep_vectors(encoder, store.chunk_ids(), vectors);
  const Encoder other_name = {"fake L4 mean", encoder.dimension}, other_size = {encoder.name, 5};
  const Matrix small = random_vectors(6, 6, 5);
  HONE_EXPECT_ERROR(store.nearest(other_name, vectors.row(0), 3), ErrorCode::bad_input, "fake L3 mean");
  HONE_EXPECT_ERROR(store.nearest(other_name, vectors.row(0), 3), ErrorCode::bad_input, "hone index");
  HONE_EXPECT_ERROR(store.nearest(other_size, small.row(0), 3), ErrorCode::bad_input, "--vectors");
  HONE_EXPECT_ERROR(store.keep_vectors(other_name, store.chunk_ids(), vectors), ErrorCode::bad_input, "prune");
  HONE_EXPECT_ERROR(create(), ErrorCode::busy, "");
  EXPECT_EQ(store.chunks_without_vector(other_name).size(), 6u);
  EXPECT_TRUE(store.chunks_without_vector(encoder).empty());

  // A store of another model, into which the file was copied.
  const fs::path elsewhere = scratch.path() / "elsewhere";
  {
    Store other = Store::create(elsewhere, {"other", "fedcba"});
    index(other);
    fs::copy_file(file(), elsewhere / "vectors");
    HONE_EXPECT_ERROR(other.nearest(encoder, vectors.row(0), 3), ErrorCode::bad_input, "another model");
    HONE_EXPECT_ERROR(other.keep_vectors(encoder, other.chunk_ids(), vectors), ErrorCode::bad_input, "another model");
    other.prune_vectors(encoder);
    EXPECT_FALSE(fs::exists(elsewhere / "vectors"));
  }
  // Made anew by the other encoder.
  store.prune_vectors(other_size);
  EXPECT_FALSE(fs::exists(file()));
  store.keep_vectors(other_size, store.chunk_ids(), small);
  EXPECT_EQ(store.nearest(other_size, small.row(2), 1).at(0).chunk_id, store.chunk_ids()[2]);
  HONE_EXPECT_ERROR(store.nearest(encoder, vectors.row(0), 3), ErrorCode::bad_input, "fake L3 mean");
}

TEST_F(Vectors, OfAStoreThatWasMadeAnewAreFoundByContent) {
  const Matrix vectors = random_vectors(6, 7);
  {
    Store store = indexed(6);
    store.keep_vectors(encoder, store.chunk_ids(), vectors);
  }
  for (const char* name : {"store.sqlite", "store.sqlite-wal", "store.sqlite-shm"}) fs::remove(place() / name);
  fs::remove(docs() / "f1000");  // every other id moves
  Store store = create();
  index(store);
  for (size_t i = 1; i < 6; ++i)
    EXPECT_EQ(store.chunk(store.nearest(encoder, vectors.row(i), 1).at(0).chunk_id).text,
              "text number " + std::to_string(i));
}

TEST_F(Vectors, BadArguments) {
  Store store = indexed(3);
  const std::vector<int64_t> ids = store.chunk_ids();
  const Matrix vectors = random_vectors(3, 8);
  HONE_EXPECT_ERROR(store.keep_vectors({"", 12}, ids, vectors), ErrorCode::bad_input, "name");
  HONE_EXPECT_ERROR(store.keep_vectors({"fake", 0}, ids, Matrix(3, 0)), ErrorCode::bad_input, "dimension");
  HONE_EXPECT_ERROR(store.keep_vectors({"fake", 11}, ids, vectors), ErrorCode::bad_input, "11 values");
  HONE_EXPECT_ERROR(store.keep_vectors(encoder, std::span(ids).first(2), vectors), ErrorCode::bad_input, "2 chunks");
  HONE_EXPECT_ERROR(store.keep_vectors(encoder, std::array<int64_t, 3>{ids[0], ids[1], 99}, vectors),
                    ErrorCode::not_found, "99");
  for (const float wrong : {NAN, INFINITY, -INFINITY}) {
    Matrix broken = vectors.copy();
    broken.row(1)[3] = wrong;
    HONE_EXPECT_ERROR(store.keep_vectors(encoder, ids, broken), ErrorCode::bad_input, "finite");
    HONE_EXPECT_ERROR(store.nearest(encoder, broken.row(1), 1), ErrorCode::bad_input, "finite");
  }
  EXPECT_FALSE(fs::exists(file()));
  store.keep_vectors(encoder, ids, vectors);
  HONE_EXPECT_ERROR(store.nearest(encoder, vectors.row(0).first(11), 1), ErrorCode::bad_input, "11 values");
  Store reader = Store::open(place(), identity);
  HONE_EXPECT_ERROR(reader.keep_vectors(encoder, ids, vectors), ErrorCode::bad_input, "open for reading");
  HONE_EXPECT_ERROR(reader.prune_vectors(encoder), ErrorCode::bad_input, "open for reading");
}

// A file of two commits, and what becomes of it.
class DamagedVectors : public Vectors {
 protected:
  DamagedVectors() {
    store = std::make_unique<Store>(indexed(8));
    ids = store->chunk_ids();
    vectors = random_vectors(8, 9);
    store->keep_vectors(encoder, std::span(ids).first(5), vectors.view().row_range(0, 5));
    first_commit_ends = fs::file_size(file());
    store->keep_vectors(encoder, std::span(ids).subspan(5), vectors.view().row_range(5, 3));
    whole = read_file(file());
    first = store->nearest(encoder, vectors.row(1), 8);
  }

  // Every reader's answer is right or an error that says what to do. Returns how many vectors are missing.
  size_t missing_after(std::string_view bytes) const {
    scratch.write("store/vectors", bytes);
    const Store reader = Store::open(place(), identity);
    const size_t missing = reader.chunks_without_vector(encoder).size();
    try {
      const std::vector<Neighbour> found = reader.nearest(encoder, vectors.row(1), 8);
      EXPECT_EQ(missing, 0u);
      for (size_t i = 0; i < 8; ++i) EXPECT_EQ(found.at(i).chunk_id, first[i].chunk_id);
    } catch (const Error& error) {
      EXPECT_GT(missing, 0u);
      EXPECT_NE(error.message.find("run `hone index MODEL PATH... -o " + place().string() + " --vectors`"),
                std::string::npos)
          << error.message;
    }
    return missing;
  }
  // What `hone index --vectors` does.
  void expect_repaired() {
    store->prune_vectors(encoder);
    const std::vector<int64_t> missing = store->chunks_without_vector(encoder);
    Matrix rows = Matrix::uninitialized(missing.size(), encoder.dimension);
    for (size_t i = 0; i < missing.size(); ++i)
      std::ranges::copy(vectors.row(static_cast<size_t>(std::ranges::find(ids, missing[i]) - ids.begin())),
                        rows.row(i).begin());
    store->keep_vectors(encoder, missing, rows);
    const Store reader = Store::open(place(), identity);
    for (size_t i = 0; i < ids.size(); ++i)
      EXPECT_EQ(reader.nearest(encoder, vectors.row(i), 1).at(0).chunk_id, ids[i]);
  }

  std::unique_ptr<Store> store;
  std::vector<int64_t> ids;
  Matrix vectors;
  std::vector<Neighbour> first;
  size_t first_commit_ends = 0;
  std::string whole;
};

TEST_F(DamagedVectors, CutAnywhere) {
  for (size_t length = 0; length < whole.size(); ++length) {
    const size_t missing = missing_after(whole.substr(0, length));
    if (length >= first_commit_ends)
      EXPECT_EQ(missing, 3u) << length;
    else
      EXPECT_EQ(missing, 8u) << length;
    if (length % 61 == 0) expect_repaired();
  }
  EXPECT_EQ(missing_after(whole), 0u);
  EXPECT_EQ(missing_after(whole + "half of a commit"), 0u);
  expect_repaired();
}

TEST_F(DamagedVectors, EveryByteChanged) {
  RandomStream random(10, "damage");
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ static_cast<char>(1 + random.below(255)));
    EXPECT_GT(missing_after(damaged), 0u) << at;
    if (at % 97 == 0) expect_repaired();
  }
}

TEST_F(DamagedVectors, NoFileOfVectorsAtAll) {
  EXPECT_EQ(missing_after("HONEVECS"), 8u);
  EXPECT_EQ(missing_after(std::string(5000, '\xff')), 8u);
  EXPECT_EQ(missing_after(""), 8u);
  expect_repaired();
  fs::remove(file());
  HONE_EXPECT_ERROR(store->nearest(encoder, vectors.row(0), 1), ErrorCode::not_found, "has no vectors");
  expect_repaired();
  fs::remove(file());
  fs::create_directory(file());
  HONE_EXPECT_ERROR(store->nearest(encoder, vectors.row(0), 1), ErrorCode::bad_input, "not a regular file");
}

TEST_F(DamagedVectors, TemporariesOfAKilledWriterAreRemoved) {
  scratch.write("store/vectors.a1B2c3", whole.substr(0, 100));
  store->prune_vectors(encoder);
  EXPECT_FALSE(fs::exists(place() / "vectors.a1B2c3"));
  EXPECT_EQ(read_file(file()), whole);
}

TEST_F(Vectors, KilledWriterLosesNoCommit) {
  constexpr int chunks = 400;
  { const Store store = indexed(chunks); }
  const Matrix vectors = random_vectors(chunks, 11);
  RandomStream random(12, "kill");
  size_t before = chunks;
  const auto go_on = [&] {
    Store store = create();
    const std::vector<int64_t> ids = store.chunk_ids();
    store.prune_vectors(encoder);
    for (const int64_t id : store.chunks_without_vector(encoder)) {
      const auto row = static_cast<size_t>(std::ranges::find(ids, id) - ids.begin());
      store.keep_vectors(encoder, std::span(&id, 1), vectors.view().row_range(row, 1));
    }
  };
  for (int round = 0; round < 12; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      go_on();
      ::_exit(0);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(30000)));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    const size_t missing = Store::open(place(), identity).chunks_without_vector(encoder).size();
    EXPECT_LE(missing, before) << "a commit was lost";
    before = missing;
  }
  go_on();
  const Store store = Store::open(place(), identity);
  const std::vector<int64_t> ids = store.chunk_ids();
  for (size_t i = 0; i < ids.size(); i += 7)
    EXPECT_EQ(store.nearest(encoder, vectors.row(i), 1).at(0).chunk_id, ids[i]);
}

TEST_F(Vectors, FullDiskKeepsEarlierCommits) {
  const SmallDisk disk(place(), "8m");
  HONE_NEED_DISK(disk);
  Store store = indexed(40);
  const std::vector<int64_t> ids = store.chunk_ids();
  const Encoder wide = {"wide", 4000};
  const Matrix vectors = random_vectors(40, 13, wide.dimension);
  store.keep_vectors(wide, std::span(ids).first(10), vectors.view().row_range(0, 10));
  const fs::path filler = disk.fill();
  HONE_EXPECT_ERROR(store.keep_vectors(wide, std::span(ids).subspan(10), vectors.view().row_range(10, 30)),
                    ErrorCode::io, "free some space");
  EXPECT_EQ(store.chunks_without_vector(wide).size(), 30u);
  fs::remove(filler);
  store.keep_vectors(wide, std::span(ids).subspan(10), vectors.view().row_range(10, 30));
  EXPECT_EQ(store.nearest(wide, vectors.row(30), 1).at(0).chunk_id, ids[30]);
}

TEST(Fusion, RanksByHand) {
  const std::vector<std::vector<Neighbour>> lists = {{{1, 9.5}, {2, 7}, {3, 1}}, {{3, .9}, {4, .8}}};
  const std::vector<Neighbour> fused = fuse(lists, 10);
  ASSERT_EQ(fused.size(), 4u);
  const std::array<int64_t, 4> ids = {3, 1, 2, 4};  // 2 and 4 are second in one list each
  const std::array<double, 4> scores = {1. / 63 + 1. / 61, 1. / 61, 1. / 62, 1. / 62};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(fused[i].chunk_id, ids[i]);
    EXPECT_DOUBLE_EQ(fused[i].score, scores[i]);
  }
  EXPECT_EQ(fuse(lists, 2).size(), 2u);
  EXPECT_EQ(fuse(lists, 2).back().chunk_id, 1);
  EXPECT_TRUE(fuse({}, 3).empty());
  EXPECT_EQ(name(Retrieval::bm25), "bm25");
  EXPECT_EQ(name(Retrieval::vectors), "vectors");
  EXPECT_EQ(name(Retrieval::fused), "fused");
  EXPECT_EQ(name(Retrieval::sift), "sift");
}

}  // namespace
}  // namespace hone::test::vectors_test
