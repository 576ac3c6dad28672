// Amortised experts: each head against the local head it should be, routing, the file and what damage does to it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/files.h"
#include "base/random.h"
#include "hone/neighbours.h"
#include "model/safetensors.h"
#include "tests/expect_error.h"
#include "tests/temporary_folder.h"

namespace hone::test::experts_test {
namespace {

// Classes lie in stripes whose direction turns with the place: no linear head fits everywhere, one fits nearly
// everywhere near a point.
class ExpertsTest : public testing::Test {
 protected:
  static constexpr size_t dimension = 4, classes = 3;

  ExpertsTest() : x(Matrix::uninitialized(1500, dimension)), queries(Matrix::uninitialized(400, dimension)) {
    RandomStream random(1, "experts");
    random.normals({x.data(), x.size()}, 1);
    random.normals({queries.data(), queries.size()}, 1);
    for (size_t i = 0; i < x.rows(); ++i) y.push_back(label(x.row(i)));
    start = fit_head(x, y, classes);
  }
  static int label(std::span<const float> row) {
    const float turned = row[0] * row[1] + row[2];
    return turned < -0.4f ? 0 : turned < 0.4f ? 1 : 2;
  }
  Experts fit(size_t count, Metric metric = Metric::l2) const {
    const NeighbourIndex index = NeighbourIndex::build(x, {.metric = metric});
    return Experts::fit(start, x, y, index, options(count));
  }
  static ExpertOptions options(size_t count) {
    return {.experts = count, .neighbours = 60, .training = {.steps = 60, .learning_rate = 0.02f}, .seed = 4};
  }
  double accuracy(const Matrix& logits) const {
    double right = 0;
    for (size_t q = 0; q < logits.rows(); ++q)
      right += label(queries.row(q)) == std::ranges::max_element(logits.row(q)) - logits.row(q).begin();
    return right / static_cast<double>(logits.rows());
  }

  Matrix x, queries;
  std::vector<int> y;
  LinearHead start;
};

TEST_F(ExpertsTest, AreLocalHeadsOfTheCentroidsNeighbours) {
  for (const Metric metric : {Metric::l2, Metric::cosine}) {
    const Experts experts = fit(40, metric);
    EXPECT_EQ(experts.size(), 40u);
    EXPECT_EQ(experts.classes(), classes);
    EXPECT_EQ(experts.metric(), metric);
    const Matrix centroids = kmeans(x, 40, metric, 10, 4);
    EXPECT_TRUE(std::equal(centroids.data(), centroids.data() + centroids.size(), experts.centroids().data));
    const Neighbours near = NeighbourIndex::build(x, {.metric = metric}).search(centroids, 60);
    const std::vector<LinearHead> heads = local_heads(start, x, y, near.view(), options(40).training);
    for (size_t e = 0; e < 40; ++e) {
      const LinearHead head = experts.head(e);
      EXPECT_EQ(head.bias, heads[e].bias);
      EXPECT_TRUE(std::equal(head.weights.data(), head.weights.data() + head.weights.size(), heads[e].weights.data()));
    }
    const std::vector<int64_t> routes = experts.route(queries);
    EXPECT_EQ(routes, NeighbourIndex::build(centroids, {.metric = metric}).search(queries, 1).ids);
    const Matrix logits = experts.logits(queries);
    for (size_t q = 0; q < queries.rows(); ++q) {
      const Matrix expected = experts.head(static_cast<size_t>(routes[q])).logits(queries.view().row_range(q, 1));
      for (size_t c = 0; c < classes; ++c) ASSERT_NEAR(logits.row(q)[c], expected.row(0)[c], 1e-4);
    }
  }
}

TEST_F(ExpertsTest, ManyAreBetterThanTheGlobalHead) {
  const double global = accuracy(start.logits(queries)), many = accuracy(fit(300).logits(queries));
  EXPECT_GT(many, global + 0.05) << "global " << global;
}

TEST_F(ExpertsTest, OneIsTheLocalHeadOfTheMean) {
  const Experts one = fit(1);
  EXPECT_EQ(one.route(queries), std::vector<int64_t>(queries.rows(), 0));
  for (size_t d = 0; d < dimension; ++d) {
    double sum = 0;
    for (size_t i = 0; i < x.rows(); ++i) sum += x.row(i)[d];
    EXPECT_NEAR(one.centroids().row(0)[d], sum / 1500, 1e-6);
  }
}

TEST_F(ExpertsTest, SavedAndOpened) {
  const TemporaryFolder folder{memory_directory()};
  const std::filesystem::path file = folder.path() / "experts.safetensors";
  const Experts experts = fit(7, Metric::cosine);
  experts.save(file, std::vector<std::string>{"low", "middle", "hö\"h"});
  const Experts opened = Experts::open(file);
  EXPECT_EQ(opened.labels(), (std::vector<std::string>{"low", "middle", "hö\"h"}));
  EXPECT_EQ(opened.metric(), Metric::cosine);
  const Matrix a = experts.logits(queries), b = opened.logits(queries);
  EXPECT_TRUE(std::equal(a.data(), a.data() + a.size(), b.data()));
  experts.save(file);
  EXPECT_TRUE(Experts::open(file).labels().empty());
  HONE_EXPECT_ERROR(experts.save(file, std::vector<std::string>{"one"}), ErrorCode::bad_input, "1 names for 3 classes");
  HONE_EXPECT_ERROR(experts.save(file, std::vector<std::string>{"a", "b", "\xff"}), ErrorCode::bad_input, "UTF-8");
}

TEST_F(ExpertsTest, ADamagedFileIsAnError) {
  const TemporaryFolder folder{memory_directory()};
  const std::filesystem::path file = folder.path() / "experts";
  fit(3).save(file);
  const std::string whole = read_file(file);
  HONE_EXPECT_ERROR(Experts::open(folder.path() / "absent"), ErrorCode::not_found, "absent");
  folder.write("cut", whole.substr(0, whole.size() - 5));
  HONE_EXPECT_ERROR(Experts::open(folder.path() / "cut"), ErrorCode::corrupt, "cut");
  const Matrix two = Matrix(2, 4), three = Matrix(3, 4), flat = Matrix(2, 3);
  const auto expect_corrupt = [&](std::vector<NamedMatrix> tensors, std::map<std::string, std::string> metadata,
                                  std::string_view words) {
    write_safetensors(file, tensors, metadata);
    HONE_EXPECT_ERROR(Experts::open(file), ErrorCode::corrupt, words);
  };
  const std::map<std::string, std::string> good = {{"metric", "l2"}, {"labels", "[]"}};
  const Matrix weights = Matrix(6, 4);
  write_safetensors(file, std::vector<NamedMatrix>{{"centroids", two}, {"weights", weights}, {"bias", flat}}, good);
  EXPECT_EQ(Experts::open(file).size(), 2u);
  expect_corrupt({{"centroids", two}, {"bias", flat}}, good, "weights");
  expect_corrupt({{"centroids", three}, {"weights", weights}, {"bias", flat}}, good, "shapes");
  expect_corrupt({{"centroids", two}, {"weights", weights}, {"bias", flat}}, {{"labels", "[]"}}, "metric");
  expect_corrupt({{"centroids", two}, {"weights", weights}, {"bias", flat}}, {{"metric", "l3"}, {"labels", "[]"}},
                 "l3");
  expect_corrupt({{"centroids", two}, {"weights", weights}, {"bias", flat}}, {{"metric", "l2"}, {"labels", "{"}},
                 "labels");
  expect_corrupt({{"centroids", two}, {"weights", weights}, {"bias", flat}}, {{"metric", "l2"}, {"labels", "[\"a\"]"}},
                 "shapes");
  Matrix broken = Matrix(2, 4);
  broken.row(1)[2] = NAN;
  expect_corrupt({{"centroids", broken}, {"weights", weights}, {"bias", flat}}, good, "row 1");
  Matrix diverged = Matrix(6, 4), endless = Matrix(2, 3);
  diverged.row(5)[3] = NAN;
  endless.row(1)[0] = INFINITY;
  expect_corrupt({{"centroids", two}, {"weights", diverged}, {"bias", flat}}, good, "not finite");
  expect_corrupt({{"centroids", two}, {"weights", weights}, {"bias", endless}}, good, "not finite");
}

TEST_F(ExpertsTest, InputIsChecked) {
  const NeighbourIndex index = NeighbourIndex::build(x);
  HONE_EXPECT_ERROR(Experts::fit(start, x, y, index, options(1501)), ErrorCode::bad_input, "1501");
  HONE_EXPECT_ERROR(Experts::fit(start, x, y, index, options(0)), ErrorCode::bad_input, "0 centroids");
  ExpertOptions many = options(3);
  many.neighbours = 1501;
  HONE_EXPECT_ERROR(Experts::fit(start, x, y, index, many), ErrorCode::bad_input, "1501 of 1500");
  HONE_EXPECT_ERROR(Experts::fit(start, x.view().row_range(0, 9), y, index, options(3)), ErrorCode::bad_input, "index");
  HONE_EXPECT_ERROR(fit(3).logits(Matrix(2, 5)), ErrorCode::bad_input, "5 values");
  ExpertOptions far = options(3);
  far.training.learning_rate = 1e38F;
  HONE_EXPECT_ERROR(Experts::fit(start, x, y, index, far), ErrorCode::bad_input,
                    "smaller learning rate or fewer steps");
  const Watch watch;
  watch.cancel.cancel();
  HONE_EXPECT_ERROR(Experts::fit(start, x, y, index, options(3), watch), ErrorCode::cancelled, "");
}

}  // namespace
}  // namespace hone::test::experts_test
