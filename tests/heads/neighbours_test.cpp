// Neighbours against brute force in double: exact search with ties and cancellation, lists and graph by their recall,
// files and what damage does to them, k-means.
#include "hone/neighbours.h"

#include <gtest/gtest.h>

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "base/files.h"
#include "base/random.h"
#include "tests/expect_error.h"
#include "tests/temporary_folder.h"

// FAISS leaves what it has begun where a file ends too early.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:faiss::read_\n"; }

namespace hone::test::neighbours_test {
namespace {

Matrix gaussian(size_t rows, size_t cols, uint64_t seed, float deviation = 1) {
  Matrix matrix = Matrix::uninitialized(rows, cols);
  RandomStream(seed, "points").normals({matrix.data(), matrix.size()}, deviation);
  return matrix;
}

// Small integers: every distance is exact, and many are equal.
Matrix lattice(size_t rows, size_t cols, uint64_t seed) {
  RandomStream random(seed, "lattice");
  Matrix matrix = Matrix::uninitialized(rows, cols);
  for (size_t i = 0; i < matrix.size(); ++i) matrix.data()[i] = static_cast<float>(random.below(5)) - 2;
  return matrix;
}

// Every group of ten stands around one point.
Matrix clustered(size_t rows, size_t cols, uint64_t seed) {
  const Matrix centres = gaussian((rows + 9) / 10, cols, seed);
  Matrix points = gaussian(rows, cols, seed + 1, 0.3f);
  for (size_t i = 0; i < rows; ++i)
    for (size_t d = 0; d < cols; ++d) points.row(i)[d] += centres.row(i / 10)[d];
  return points;
}

double product(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t d = 0; d < a.size(); ++d) sum += static_cast<double>(a[d]) * b[d];
  return sum;
}

double distance(std::span<const float> a, std::span<const float> b, Metric metric) {
  if (metric == Metric::cosine) {
    const double lengths = std::sqrt(product(a, a) * product(b, b));
    return lengths > 0 ? 1 - product(a, b) / lengths : 1;
  }
  double sum = 0;
  for (size_t d = 0; d < a.size(); ++d) sum += std::pow(static_cast<double>(a[d]) - b[d], 2);
  return sum;
}

Neighbours brute_force(ConstMatrixView points, ConstMatrixView queries, size_t k, Metric metric) {
  Neighbours found{k, {}, {}};
  for (size_t q = 0; q < queries.rows; ++q) {
    std::vector<std::pair<float, int64_t>> all(points.rows);
    for (size_t i = 0; i < points.rows; ++i)
      all[i] = {static_cast<float>(distance(queries.row(q), points.row(i), metric)), static_cast<int64_t>(i)};
    std::ranges::partial_sort(all, all.begin() + static_cast<std::ptrdiff_t>(k));
    for (size_t i = 0; i < k; ++i) {
      found.distances.push_back(all[i].first);
      found.ids.push_back(all[i].second);
    }
  }
  return found;
}

void expect_same(const Neighbours& a, const Neighbours& b) {
  EXPECT_EQ(a.k, b.k);
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.distances, b.distances);
}

double recall(const Neighbours& found, const Neighbours& exact) {
  size_t hits = 0;
  for (size_t q = 0; q < exact.queries(); ++q) {
    const std::unordered_set<int64_t> ids(found.ids_of(q).begin(), found.ids_of(q).end());
    hits += static_cast<size_t>(std::ranges::count_if(exact.ids_of(q), [&](int64_t id) { return ids.contains(id); }));
  }
  return static_cast<double>(hits) / static_cast<double>(exact.ids.size());
}

TEST(ExactNeighbours, AreThoseOfBruteForce) {
  struct Case {
    size_t n, d, queries, k;
  };
  for (const auto& [n, d, queries, k] :
       {Case{1, 1, 1, 1}, Case{37, 3, 5, 37}, Case{700, 300, 3, 10}, Case{700, 300, 4, 10}, Case{5000, 25, 197, 60},
        Case{9001, 17, 97, 3}, Case{9001, 17, 2, 3}, Case{9001, 8, 40, 4000}, Case{9001, 7, 40, 30}}) {
    SCOPED_TRACE(testing::Message() << n << " points of " << d << ", " << queries << " queries, k " << k);
    const Matrix points = gaussian(n, d, 1), asked = gaussian(queries, d, 2);
    const NeighbourIndex index = NeighbourIndex::build(points);
    EXPECT_EQ(index.size(), n);
    EXPECT_EQ(index.dimension(), d);
    expect_same(index.search(asked, k), brute_force(points, asked, k, Metric::l2));
  }
}

TEST(ExactNeighbours, TiesAreInTheOrderOfIds) {
  const Matrix points = lattice(6000, 3, 1), asked = lattice(60, 3, 2);  // 125 different points
  for (const size_t queries : {size_t{2}, size_t{60}})
    expect_same(NeighbourIndex::build(points).search(asked.view().row_range(0, queries), 100),
                brute_force(points, asked.view().row_range(0, queries), 100, Metric::l2));
}

// So many points are equally near that nothing but distances tells them apart.
TEST(ExactNeighbours, AmongManyCopies) {
  Matrix points = gaussian(6000, 12, 1);
  for (size_t i = 0; i < 4000; ++i) std::ranges::copy(points.row(7), points.row(i).begin());
  Matrix asked = gaussian(50, 12, 2);
  for (size_t q = 0; q < 10; ++q) std::ranges::copy(points.row(7), asked.row(q).begin());
  for (const size_t queries : {size_t{2}, size_t{50}})
    expect_same(NeighbourIndex::build(points).search(asked.view().row_range(0, queries), 20),
                brute_force(points, asked.view().row_range(0, queries), 20, Metric::l2));
}

// ½‖x‖² − q·x is 5·10⁵ in fp32 here, a step of which is .03; distances are below 1.
TEST(ExactNeighbours, FarFromTheOriginToo) {
  Matrix points = gaussian(3000, 10, 1, 0.1f), asked = gaussian(20, 10, 2, 0.1f);
  for (Matrix* matrix : {&points, &asked})
    for (size_t i = 0; i < matrix->size(); ++i) matrix->data()[i] += 300;
  expect_same(NeighbourIndex::build(points).search(asked, 20), brute_force(points, asked, 20, Metric::l2));
}

TEST(ExactNeighbours, ByCosine) {
  Matrix points = gaussian(2000, 40, 1), asked = gaussian(30, 40, 2);
  for (size_t i = 0; i < points.rows(); ++i)
    for (float& value : points.row(i)) value *= static_cast<float>(i % 7 + 1);
  std::ranges::copy(points.row(5), points.row(3).begin());
  for (float& value : points.row(3)) value *= 4;  // the same direction
  std::ranges::copy(points.row(5), asked.row(0).begin());
  std::ranges::fill(points.row(9), 0.0f);
  const NeighbourIndex index = NeighbourIndex::build(points, {.metric = Metric::cosine});
  const Neighbours found = index.search(asked, 2000), exact = brute_force(points, asked, 2000, Metric::cosine);
  for (size_t i = 0; i < found.ids.size(); ++i) ASSERT_NEAR(found.distances[i], exact.distances[i], 3e-7);
  EXPECT_EQ(found.ids[0], 3);
  EXPECT_EQ(found.ids[1], 5);
  for (size_t q = 0; q < asked.rows(); ++q) {
    const auto zero = std::ranges::find(found.ids_of(q), 9);
    EXPECT_EQ(found.distances_of(q)[static_cast<size_t>(zero - found.ids_of(q).begin())], 1);
  }
  for (const float value : index.search(Matrix(4, 40), 3).distances) EXPECT_EQ(value, 1);
}

TEST(ExactNeighbours, DependNeitherOnTheOtherQueriesNorOnThreads) {
  const Matrix points = gaussian(20000, 31, 1), asked = gaussian(230, 31, 2);
  const NeighbourIndex index = NeighbourIndex::build(points);
  const Neighbours all = index.search(asked, 25);
  for (const auto& [first, count] : std::vector<std::pair<size_t, size_t>>{{0, 1}, {17, 3}, {100, 50}}) {
    const Neighbours some = index.search(asked.view().row_range(first, count), 25);
    for (size_t q = 0; q < count; ++q) EXPECT_TRUE(std::ranges::equal(some.ids_of(q), all.ids_of(first + q)));
  }
  const int before = threads();
  set_threads(1);
  expect_same(index.search(asked, 25), all);
  set_threads(before);
  const Neighbours ten = all.nearest(10);
  EXPECT_EQ(ten.queries(), 230u);
  EXPECT_TRUE(std::ranges::equal(ten.ids_of(229), all.ids_of(229).first(10)));
}

TEST(ExactNeighbours, Cancelled) {
  const Matrix points = gaussian(500, 8, 1);
  const NeighbourIndex index = NeighbourIndex::build(points);
  const Watch watch;
  watch.cancel.cancel();
  HONE_EXPECT_ERROR(index.search(points, 3, watch), ErrorCode::cancelled, "");
  HONE_EXPECT_ERROR(kmeans(points, 3, Metric::l2, 5, 0, watch), ErrorCode::cancelled, "");
  HONE_EXPECT_ERROR(NeighbourIndex::build(points, {.kind = IndexKind::ivf}, watch), ErrorCode::cancelled, "");
}

class Approximate : public testing::TestWithParam<std::tuple<IndexKind, Metric>> {
 protected:
  NeighbourOptions options() const { return {.kind = std::get<0>(GetParam()), .metric = std::get<1>(GetParam())}; }
};

TEST_P(Approximate, FindsNearlyAllNeighbours) {
  const Matrix all = clustered(6200, 24, 1);
  const ConstMatrixView points = all.view().row_range(0, 6000);
  Matrix asked = gaussian(200, 24, 7, 0.3f);
  for (size_t q = 0; q < asked.rows(); ++q)
    for (size_t d = 0; d < asked.cols(); ++d) asked.row(q)[d] += points.row(30 * q)[d];
  const NeighbourIndex index = NeighbourIndex::build(points, options());
  EXPECT_GT(index.options().effort, 0u);
  EXPECT_GE(index.options().recall, 0.99);
  const Neighbours exact = brute_force(points, asked, 50, options().metric), found = index.search(asked, 50);
  EXPECT_GE(recall(found, exact), 0.98) << "effort " << index.options().effort;
  if (options().kind == IndexKind::ivf) {
    EXPECT_LT(recall(index.search(asked, 50, {}, 1), exact), recall(found, exact)) << "effort is what is asked for";
  }
  for (size_t q = 0; q < asked.rows(); ++q) {
    EXPECT_TRUE(std::ranges::is_sorted(found.distances_of(q)));
    for (size_t i = 0; i < 50; ++i) {
      const auto id = static_cast<size_t>(found.ids_of(q)[i]);
      ASSERT_NEAR(found.distances_of(q)[i], distance(asked.row(q), points.row(id), options().metric), 1e-4);
    }
  }
  EXPECT_EQ(index.points().rows, 0u);
}

TEST_P(Approximate, OnePointIsItsOwnNeighbour) {
  const Matrix point = gaussian(1, 4, 1);
  const Neighbours found = NeighbourIndex::build(point, options()).search(point, 1);
  EXPECT_EQ(found.ids, std::vector<int64_t>{0});
  EXPECT_NEAR(found.distances[0], 0, 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Approximate,
                         testing::Combine(testing::Values(IndexKind::ivf, IndexKind::hnsw),
                                          testing::Values(Metric::l2, Metric::cosine)),
                         [](const auto& kind) {
                           return std::string(name(std::get<0>(kind.param))) + "_" +
                                  std::string(name(std::get<1>(kind.param)));
                         });

TEST(InvertedLists, AllListsAreExactAndFewMayBeShort) {
  const Matrix points = gaussian(3000, 12, 1), asked = gaussian(40, 12, 2);
  const NeighbourIndex index = NeighbourIndex::build(points, {.kind = IndexKind::ivf, .lists = 100, .effort = 4});
  EXPECT_EQ(index.options().lists, 100u);
  EXPECT_EQ(index.options().effort, 4u);
  EXPECT_EQ(index.search(asked, 30, {}, 100).ids, brute_force(points, asked, 30, Metric::l2).ids);
  const Neighbours few = index.search(asked, 3000, {}, 1);
  EXPECT_EQ(few.ids.back(), -1);
  EXPECT_TRUE(std::isinf(few.distances.back()));
  EXPECT_GE(few.ids.front(), 0);
  const int before = threads();
  set_threads(1);
  const NeighbourIndex again = NeighbourIndex::build(points, {.kind = IndexKind::ivf, .lists = 100, .effort = 4});
  expect_same(again.search(asked, 30), index.search(asked, 30));
  set_threads(before);
}

// Lists longer than a tile of products, empty ones, and queries by the dozen and alone.
TEST(InvertedLists, TogetherAndAloneQueriesFindTheSame) {
  const Matrix points = clustered(3000, 20, 3), asked = gaussian(60, 20, 4);
  for (const Metric metric : {Metric::l2, Metric::cosine})
    for (const size_t lists : {size_t{3}, size_t{400}}) {
      const NeighbourIndex index =
          NeighbourIndex::build(points, {.kind = IndexKind::ivf, .metric = metric, .lists = lists, .effort = 2});
      EXPECT_EQ(index.search(asked, 25, {}, lists).ids, brute_force(points, asked, 25, metric).ids) << lists;
      const Neighbours together = index.search(asked, 25);
      for (size_t q = 0; q < asked.rows(); ++q) {
        const Neighbours alone = index.search(asked.view().row_range(q, 1), 25);
        EXPECT_TRUE(std::ranges::equal(alone.ids, together.ids_of(q))) << lists << " " << q;
        EXPECT_TRUE(std::ranges::equal(alone.distances, together.distances_of(q))) << lists << " " << q;
      }
    }
}

class NeighbourFile : public testing::TestWithParam<IndexKind> {
 protected:
  const Matrix points = gaussian(400, 6, 1);
  const Matrix asked = gaussian(20, 6, 2);
  const NeighbourIndex index = NeighbourIndex::build(points, {.kind = GetParam(), .metric = Metric::cosine, .seed = 3});
  const TemporaryFolder folder{memory_directory()};
  const std::filesystem::path file = folder.path() / "neighbours";
};

TEST_P(NeighbourFile, OpensAsItWas) {
  index.save(file);
  const NeighbourIndex opened = NeighbourIndex::open(file);
  expect_same(opened.search(asked, 9), index.search(asked, 9));
  EXPECT_EQ(opened.size(), 400u);
  EXPECT_EQ(opened.dimension(), 6u);
  const NeighbourOptions &a = opened.options(), &b = index.options();
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.metric, b.metric);
  EXPECT_EQ(a.lists, b.lists);
  EXPECT_EQ(a.links, b.links);
  EXPECT_EQ(a.effort, b.effort);
  EXPECT_EQ(a.recall, b.recall);
  EXPECT_EQ(a.seed, b.seed);
  index.save(file);  // over itself
  expect_same(NeighbourIndex::open(file).search(asked, 9), opened.search(asked, 9));
}

TEST_P(NeighbourFile, DamagedIsAnError) {
  index.save(file);
  const std::string whole = read_file(file);
  RandomStream random(1, "damage");
  for (int i = 0; i < 300; ++i) {
    std::string damaged = whole;
    const size_t at = i < 80 ? static_cast<size_t>(i) : random.below(whole.size());
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << random.below(8)));
    folder.write("damaged", damaged);
    try {
      NeighbourIndex::open(folder.path() / "damaged");
      ADD_FAILURE() << "byte " << at;
    } catch (const Error& error) {
      EXPECT_TRUE(error.code == ErrorCode::corrupt || error.code == ErrorCode::unsupported) << error.message;
      EXPECT_NE(error.message.find("damaged'"), std::string::npos) << error.message;
    }
  }
  for (const size_t length : {size_t{0}, size_t{7}, size_t{79}, size_t{80}, whole.size() / 2, whole.size() - 1}) {
    folder.write("cut", whole.substr(0, length));
    HONE_EXPECT_ERROR(NeighbourIndex::open(folder.path() / "cut"), ErrorCode::corrupt, "cut'");
  }
  folder.write("longer", whole + "x");
  HONE_EXPECT_ERROR(NeighbourIndex::open(folder.path() / "longer"), ErrorCode::corrupt, "longer'");
  HONE_EXPECT_ERROR(NeighbourIndex::open(folder.path() / "absent"), ErrorCode::not_found, "absent");
  HONE_EXPECT_ERROR(index.save(folder.path() / "no" / "folder"), ErrorCode::not_found, "folder");
}

// What follows is written by somebody who knows the checksum.
void seal(std::string& file) {
  constexpr size_t header = 80, checksum = 72;
  const auto put = [&](uint64_t value) { std::memcpy(file.data() + checksum, &value, sizeof value); };
  put(XXH3_64bits(file.data() + header, file.size() - header));
  put(XXH3_64bits(file.data(), header));
}

TEST_P(NeighbourFile, AForgedHeaderIsAnError) {
  index.save(file);
  const std::string whole = read_file(file);
  const auto open = [&](size_t at, uint64_t value) {
    std::string forged = whole;
    std::memcpy(forged.data() + at, &value, sizeof value);
    seal(forged);
    folder.write("forged", forged);
    return NeighbourIndex::open(folder.path() / "forged");
  };
  constexpr size_t size = 16, dimension = 24, lists = 32, links = 40, effort = 48, recall = 56, seed = 64;
  expect_same(open(seed, 7).search(asked, 9), index.search(asked, 9));
  std::vector<std::pair<size_t, uint64_t>> forgeries = {{size, 0},
                                                        {size, 399},
                                                        {size, 401},
                                                        {size, UINT64_MAX},
                                                        {dimension, 0},
                                                        {dimension, 5},
                                                        {dimension, 1ULL << 40},
                                                        {lists, 401},
                                                        {links, 1},
                                                        {links, 257},
                                                        {recall, std::bit_cast<uint64_t>(2.0)},
                                                        {recall, UINT64_MAX}};
  if (GetParam() != IndexKind::flat) forgeries.emplace_back(effort, 0);
  if (GetParam() == IndexKind::ivf) forgeries.emplace_back(lists, 0);
  for (const auto& [at, value] : forgeries) {
    SCOPED_TRACE(testing::Message() << "byte " << at << ": " << value);
    HONE_EXPECT_ERROR(open(at, value), ErrorCode::corrupt, "forged'");
  }
  if (GetParam() != IndexKind::flat)
    expect_same(open(effort, UINT64_MAX).search(asked, 9), index.search(asked, 9, {}, 400));
}

TEST_P(NeighbourFile, AForgedBodyIsAnErrorOrCanBeSearched) {
  index.save(file);
  const std::string whole = read_file(file);
  RandomStream random(2, "forgery");
  for (int i = 0; i < 400; ++i) {
    std::string forged = whole;
    const size_t at = 80 + random.below(i % 2 == 0 ? 300 : whole.size() - 80);
    forged[at] = static_cast<char>(forged[at] ^ (1 << random.below(8)));
    seal(forged);
    folder.write("forged", forged);
    try {
      const Neighbours found = NeighbourIndex::open(folder.path() / "forged").search(asked, 9);
      for (const int64_t id : found.ids) EXPECT_TRUE(id >= -1 && id < 400) << "byte " << at;
    } catch (const Error& error) {
      EXPECT_EQ(error.code, ErrorCode::corrupt) << error.message;
      EXPECT_NE(error.message.find("forged'"), std::string::npos) << error.message;
    }
  }
}

// FAISS writes the sizes of lists in another form where most are empty.
TEST(NeighbourLists, MostOfThemEmpty) {
  Matrix points(100, 3);
  for (size_t i = 0; i < points.rows(); ++i) points.row(i)[i % 2] = 1;
  const NeighbourIndex index = NeighbourIndex::build(points, {.kind = IndexKind::ivf, .lists = 8});
  const TemporaryFolder folder;
  index.save(folder.path() / "lists");
  EXPECT_NE(read_file(folder.path() / "lists").find("sprs"), std::string::npos);
  expect_same(NeighbourIndex::open(folder.path() / "lists").search(points, 5), index.search(points, 5));
}

// FAISS would read any kind of index there, divide by numbers that are 0 and make room for what is claimed.
TEST_P(NeighbourFile, AnotherIndexInsideIsAnError) {
  if (GetParam() == IndexKind::flat) GTEST_SKIP() << "holds no other index";
  index.save(file);
  const std::string whole = read_file(file);
  const auto forged_at = [&](size_t at, const std::string& bytes) {
    std::string forged = whole;
    forged.replace(at, bytes.size(), bytes);
    seal(forged);
    folder.write("forged", forged);
    HONE_EXPECT_ERROR(NeighbourIndex::open(folder.path() / "forged"), ErrorCode::corrupt, "laid out otherwise");
  };
  const size_t inside = whole.find("IxF", 80);
  ASSERT_NE(inside, std::string::npos);
  for (const char* kind : {"IxPq", "IwFl", "IHNf", "IxSQ", "IxRo"}) forged_at(inside, kind);
  forged_at(80, GetParam() == IndexKind::ivf ? "IHNf" : "IwFl");
  if (GetParam() != IndexKind::ivf) return;
  const size_t lists = whole.find("ilar", 80), sizes = lists + 4 + 8 + 8 + 4 + 8;
  const auto number = [](uint64_t value) { return std::string(reinterpret_cast<const char*>(&value), sizeof value); };
  forged_at(lists + 4 + 8, number(4096));
  forged_at(sizes, number(1 << 20));
  forged_at(sizes, number(UINT64_MAX));
}

INSTANTIATE_TEST_SUITE_P(Kinds, NeighbourFile, testing::Values(IndexKind::flat, IndexKind::ivf, IndexKind::hnsw),
                         [](const auto& kind) { return std::string(name(kind.param)); });

TEST(NeighbourInput, IsChecked) {
  Matrix points = gaussian(50, 4, 1);
  const NeighbourIndex index = NeighbourIndex::build(points);
  HONE_EXPECT_ERROR(index.search(points, 0), ErrorCode::bad_input, "0 of 50");
  HONE_EXPECT_ERROR(index.search(points, 51), ErrorCode::bad_input, "51 of 50");
  HONE_EXPECT_ERROR(index.search(Matrix(2, 3), 1), ErrorCode::bad_input, "3 values, the points have 4");
  EXPECT_EQ(index.search(Matrix(0, 4), 1).queries(), 0u);
  HONE_EXPECT_ERROR(NeighbourIndex::build(Matrix(0, 4)), ErrorCode::bad_input, "nothing to search");
  HONE_EXPECT_ERROR(NeighbourIndex::build(Matrix(4, 0)), ErrorCode::bad_input, "nothing to search");
  HONE_EXPECT_ERROR(NeighbourIndex::build(points, {.kind = IndexKind::ivf, .lists = 51}), ErrorCode::bad_input, "51");
  HONE_EXPECT_ERROR(NeighbourIndex::build(points, {.kind = IndexKind::hnsw, .links = 1}), ErrorCode::bad_input,
                    "links");
  HONE_EXPECT_ERROR(NeighbourIndex::build(points, {.kind = IndexKind::ivf, .recall = 2}), ErrorCode::bad_input,
                    "recall");
  for (const float bad : {NAN, INFINITY, -1e20f}) {
    points.row(17)[2] = bad;
    HONE_EXPECT_ERROR(NeighbourIndex::build(points), ErrorCode::bad_input, "row 17");
    HONE_EXPECT_ERROR(index.search(points, 1), ErrorCode::bad_input, "queries: row 17");
    HONE_EXPECT_ERROR(kmeans(points, 3), ErrorCode::bad_input, "row 17");
  }
  HONE_EXPECT_ERROR(metric_named("manhattan"), ErrorCode::bad_input, "l2 and cosine");
  HONE_EXPECT_ERROR(index_kind_named("tree"), ErrorCode::bad_input, "flat, ivf and hnsw");
  EXPECT_EQ(metric_named("cosine"), Metric::cosine);
  EXPECT_EQ(index_kind_named("hnsw"), IndexKind::hnsw);
}

TEST(KMeans, EveryIterationLowersTheCost) {
  const Matrix points = clustered(3000, 5, 1);
  double before = INFINITY;
  for (const int iterations : {0, 1, 2, 5, 20}) {
    const Matrix centroids = kmeans(points, 40, Metric::l2, iterations, 3);
    double sum = 0;
    for (const float value : brute_force(centroids, points, 1, Metric::l2).distances) sum += value;
    EXPECT_LT(sum, before) << iterations;
    before = sum;
  }
}

TEST(KMeans, CentroidsAreTheMeansOfTheirPoints) {
  const Matrix points = gaussian(400, 3, 1);
  const Matrix centroids = kmeans(points, 6, Metric::l2, 200);
  const Neighbours nearest = brute_force(centroids, points, 1, Metric::l2);
  for (size_t c = 0; c < 6; ++c)
    for (size_t d = 0; d < 3; ++d) {
      double sum = 0, count = 0;
      for (size_t i = 0; i < 400; ++i)
        if (nearest.ids[i] == static_cast<int64_t>(c)) sum += points.row(i)[d], ++count;
      EXPECT_NEAR(centroids.row(c)[d], sum / count, 1e-5);
    }
}

TEST(KMeans, EndsOnceNothingMoves) {
  const Matrix points = gaussian(400, 3, 1);
  for (const Metric metric : {Metric::l2, Metric::cosine}) {
    int begun = 0;
    const Watch counting{[&](const Progress& progress) { begun += progress.stage == "k-means"; }, {}};
    const Matrix all = kmeans(points, 6, metric, 1000, 0, counting);
    ASSERT_GT(begun, 2);
    ASSERT_LT(begun, 1000);
    const auto is_all_of = [&](int iterations) {
      const Matrix some = kmeans(points, 6, metric, iterations);
      return std::equal(some.data(), some.data() + some.size(), all.data());
    };
    EXPECT_TRUE(is_all_of(begun - 1));  // the last one moved nothing
    EXPECT_FALSE(is_all_of(begun - 2));
  }
}

TEST(KMeans, OneAPointAndManyEqualPoints) {
  const Matrix points = gaussian(30, 3, 1);
  for (const float value : brute_force(kmeans(points, 30), points, 1, Metric::l2).distances) EXPECT_EQ(value, 0);
  const Matrix equal = kmeans(Matrix(30, 3), 5);
  for (size_t i = 0; i < equal.size(); ++i) EXPECT_EQ(equal.data()[i], 0);
  HONE_EXPECT_ERROR(kmeans(points, 31), ErrorCode::bad_input, "31 centroids of 30 points");
  HONE_EXPECT_ERROR(kmeans(points, 0), ErrorCode::bad_input, "0 centroids");
  HONE_EXPECT_ERROR(kmeans(points, 3, Metric::l2, -1), ErrorCode::bad_input, "-1 iterations");
}

// 20 places far apart with 50 points each: after a start without some of them, a centroid that lost its points goes
// there.
TEST(KMeans, AnEmptyCentroidTakesTheFarthestPoint) {
  Matrix points = Matrix::uninitialized(1000, 2);
  for (size_t i = 0; i < 1000; ++i) {
    points.row(i)[0] = static_cast<float>(100 * (i % 20));
    points.row(i)[1] = 0;
  }
  for (const float value : brute_force(kmeans(points, 20, Metric::l2, 20), points, 1, Metric::l2).distances)
    EXPECT_EQ(value, 0);
}

TEST(KMeans, SphericalAndIndependentOfThreads) {
  const Matrix points = gaussian(900, 7, 1);
  const Matrix centroids = kmeans(points, 12, Metric::cosine, 8, 5);
  for (size_t c = 0; c < 12; ++c) EXPECT_NEAR(product(centroids.row(c), centroids.row(c)), 1, 1e-6);
  const int before = threads();
  set_threads(1);
  const Matrix again = kmeans(points, 12, Metric::cosine, 8, 5);
  set_threads(before);
  EXPECT_TRUE(std::equal(again.data(), again.data() + again.size(), centroids.data()));
  const Matrix other = kmeans(points, 12, Metric::cosine, 8, 6);
  EXPECT_FALSE(std::equal(other.data(), other.data() + other.size(), centroids.data()));
}

}  // namespace
}  // namespace hone::test::neighbours_test
