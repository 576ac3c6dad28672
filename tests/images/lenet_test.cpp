#include "hone/lenet.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/files.h"
#include "base/parallel.h"
#include "base/random.h"
#include "images/lenet_shard.h"
#include "tests/data.h"
#include "tests/expect_error.h"
#include "tests/golden.h"
#include "tests/temporary_folder.h"

namespace hone::lenet_test {
namespace {

constexpr size_t golden_rows = 14, golden_cols = 12, golden_images = 70;

LeNet golden_net() {
  return LeNet::open(test::golden_directory() / "values" / "lenet.safetensors", golden_rows, golden_cols);
}
Matrix golden_pixels() { return test::generated_matrix(99, golden_images, golden_rows * golden_cols, 4); }

Matrix noise(const char* name, size_t rows, size_t cols) {
  Matrix values = Matrix::uninitialized(rows, cols);
  RandomStream(0, name).normals({values.data(), values.size()}, 1);
  return values;
}

// Mean cross-entropy over all images, and its gradient.
double loss(const LeNetShape& shape, std::span<const float> parameters, ConstMatrixView images, std::span<const int> y,
            std::vector<float>& gradient) {
  gradient.assign(parameters.size(), 0);
  std::vector<float> part(parameters.size());
  LeNetShard shard(shape);
  double total = 0;
  for (size_t first = 0; first < y.size(); first += shard_images) {
    const size_t count = std::min(shard_images, y.size() - first);
    std::copy_n(images.row(first).data(), count * images.cols, shard.images().data);
    total += shard.loss(parameters, y.subspan(first, count), 1 / static_cast<float>(y.size()), part);
    for (size_t i = 0; i < part.size(); ++i) gradient[i] += part[i];
  }
  return total / static_cast<double>(y.size());
}

double relative_difference(const Matrix& values, const std::vector<double>& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(values.data()[i] - expected[i], 2);
    norm += std::pow(expected[i], 2);
  }
  return std::sqrt(difference / norm);
}

// Every plane's rows [n, row · column · lane] with zeros of the gradients' margin on both sides.
Matrix with_margins(const Matrix& planes, size_t rows, size_t cols) {
  const size_t lanes = group_lanes(), wide = (cols + 2 * gradient_margin) * lanes;
  Matrix result(planes.rows(), rows * wide);
  for (size_t plane = 0; plane < planes.rows(); ++plane)
    for (size_t r = 0; r < rows; ++r)
      std::copy_n(planes.row(plane).data() + r * cols * lanes, cols * lanes,
                  result.row(plane).data() + r * wide + gradient_margin * lanes);
  return result;
}

// Every size of a tile and of what is left beside it, also kernels that are wider than what they leave.
TEST(Convolution, IsTheSumItNames) {
  const size_t lanes = group_lanes();
  for (const ConvolutionShape& s :
       {ConvolutionShape{3, 7, 9, 1, 1, 3}, ConvolutionShape{2, 6, 5, 3, 17, 5}, ConvolutionShape{1, 5, 8, 16, 8, 1},
        ConvolutionShape{2, 12, 12, 4, 12, 5}, ConvolutionShape{2, 9, 19, 2, 4, 2}, ConvolutionShape{1, 8, 10, 5, 3, 7},
        ConvolutionShape{1, 4, 15, 1, 2, 4}}) {
    const Matrix x = noise("x", s.groups * s.in_channels, s.rows * s.cols * lanes);
    const Matrix w = noise("w", s.out_channels * s.in_channels, s.kernel * s.kernel);
    const Matrix b = noise("b", 1, s.out_channels);
    const Matrix dy = noise("dy", s.groups * s.out_channels, s.out_rows() * s.out_cols() * lanes);
    Matrix y(dy.rows(), dy.cols()), expected_y(dy.rows(), dy.cols()), dx(x.rows(), x.cols()),
        expected_dx(x.rows(), x.cols()), dw(w.rows(), w.cols()), db(1, s.out_channels);
    std::vector<double> expected_dw(w.size()), expected_db(db.size());  // sums of many
    for (size_t group = 0; group < s.groups; ++group)
      for (size_t o = 0; o < s.out_channels; ++o)
        for (size_t r = 0; r < s.out_rows(); ++r)
          for (size_t c = 0; c < s.out_cols(); ++c)
            for (size_t lane = 0; lane < lanes; ++lane) {
              const size_t plane = group * s.out_channels + o, to = (r * s.out_cols() + c) * lanes + lane;
              const float d = dy.row(plane)[to];
              expected_db[o] += d;
              float sum = b.data()[o];
              for (size_t i = 0; i < s.in_channels; ++i)
                for (size_t kr = 0; kr < s.kernel; ++kr)
                  for (size_t kc = 0; kc < s.kernel; ++kc) {
                    const size_t from = ((r + kr) * s.cols + c + kc) * lanes + lane;
                    const size_t at = (o * s.in_channels + i) * s.kernel * s.kernel + kr * s.kernel + kc;
                    const size_t in_plane = group * s.in_channels + i;
                    sum += w.data()[at] * x.row(in_plane)[from];
                    expected_dw[at] += static_cast<double>(d) * x.row(in_plane)[from];
                    expected_dx.row(in_plane)[from] += d * w.data()[at];
                  }
              expected_y.row(plane)[to] = sum;
            }
    const Matrix dy_with_margins = with_margins(dy, s.out_rows(), s.out_cols());
    convolution(s, x.data(), w.data(), b.data(), y.data());
    convolution_backward_weights(s, x.data(), dy_with_margins.data(), dw.data(), db.data());
    convolution_backward_input(s, dy_with_margins.data(), w.data(), dx.data());
    EXPECT_LT(test::relative_difference(y, expected_y), 1e-6);
    EXPECT_LT(relative_difference(dw, expected_dw), 1e-6);
    EXPECT_LT(relative_difference(db, expected_db), 1e-6);
    EXPECT_LT(test::relative_difference(dx, expected_dx), 1e-6);
  }
}

TEST(LaneGroups, HoldEachImageInOneLane) {
  const size_t lanes = group_lanes(), count = lanes + 1;
  ASSERT_EQ(groups_of(count), 2);
  const Matrix images = noise("images", count, 5);
  Matrix grouped(2 * 5, lanes), back(count, 5);
  std::fill_n(grouped.data(), grouped.size(), 7.0F);
  to_groups(images, grouped.data());
  EXPECT_EQ(grouped.row(3)[lanes - 1], images.row(lanes - 1)[3]);
  EXPECT_EQ(grouped.row(5 + 4)[0], images.row(lanes)[4]);
  if (lanes > 1) {
    EXPECT_EQ(grouped.row(5 + 4)[1], 7);  // no image's
  }
  from_groups(grouped.data(), back);
  EXPECT_TRUE(test::same_bits(images, back));
}

// Integers, so that many windows hold equal maxima, and a plane that is never positive.
TEST(MaxPool, FirstOfEqualsTakesAllAndOddRowsNothing) {
  for (const auto& [rows, cols] : {std::pair<size_t, size_t>{4, 6}, {3, 5}, {2, 2}, {1, 4}}) {
    const size_t lanes = group_lanes(), planes = 5, out_rows = rows / 2, out_cols = cols / 2;
    Matrix x = noise("x", planes, rows * cols * lanes);
    for (size_t i = 0; i < x.size(); ++i) x.data()[i] = std::round(x.data()[i]) - (i < x.cols() ? 9.0F : 0.0F);
    const Matrix dy = noise("dy", planes, out_rows * out_cols * lanes);
    Matrix y(planes, dy.cols()), expected_y(planes, dy.cols()), expected_dx(planes, x.cols());
    for (size_t plane = 0; plane < planes; ++plane)
      for (size_t window = 0; window < out_rows * out_cols; ++window)
        for (size_t lane = 0; lane < lanes; ++lane) {
          const size_t upper_left = window / out_cols * 2 * cols + window % out_cols * 2;
          float most = 0;
          size_t taker = rows * cols;
          for (const size_t pixel : {upper_left, upper_left + 1, upper_left + cols, upper_left + cols + 1})
            if (x.row(plane)[pixel * lanes + lane] > most) {
              most = x.row(plane)[pixel * lanes + lane];
              taker = pixel;
            }
          expected_y.row(plane)[window * lanes + lane] = most;
          if (taker < rows * cols) expected_dx.row(plane)[taker * lanes + lane] = dy.row(plane)[window * lanes + lane];
        }
    Matrix expected = with_margins(expected_dx, rows, cols), dx(planes, expected.cols());
    const PoolShape shape{planes, rows, cols};
    max_pool(shape, x.data(), y.data());
    max_pool_backward(shape, x.data(), y.data(), dy.data(), dx.data());
    EXPECT_EQ(test::largest_difference(y, expected_y), 0) << rows;
    EXPECT_EQ(test::largest_difference(dx, expected), 0) << rows;
  }
}

TEST(LeNetShape, HasThePublishedWidths) {
  for (const auto& [scale, width] : {std::pair{.35, 25},
                                     {.5, 50},
                                     {.6, 64},
                                     {.65, 80},
                                     {.85, 144},
                                     {1., 192},
                                     {1.15, 240},
                                     {1.35, 304},
                                     {1.9, 480},
                                     {2., 512},
                                     {3., 832},
                                     {4., 1152}})
    EXPECT_EQ(LeNetShape::scaled(scale).features(), width) << scale;
  EXPECT_EQ(LeNetShape::scaled(.35), (LeNetShape{28, 28, 1, 3, 1, 3, 10}));
  EXPECT_EQ(LeNetShape::scaled(.5), (LeNetShape{28, 28, 2, 5, 2, 3, 10}));
  EXPECT_EQ(LeNetShape::scaled(1), (LeNetShape{28, 28, 4, 5, 12, 5, 10}));
  for (const double scale : {0., -1., .1, 65., std::nan("")})
    HONE_EXPECT_ERROR(LeNetShape::scaled(scale), ErrorCode::bad_input, "scale");
}

TEST(LeNet, AgreesWithTorch) {
  const test::Golden golden("lenet");
  LeNet net = golden_net();
  const Matrix images = golden_pixels();
  const std::vector<int> y = golden.list<int>("labels");
  EXPECT_LT(test::largest_difference(net.features(images), golden.matrix("features")), 1e-5);
  EXPECT_LT(test::largest_difference(net.logits(images), golden.matrix("logits")), 1e-5);
  std::vector<float> gradient;
  const double start = loss(net.shape(), net.parameters(), images, y, gradient);
  const std::vector<float> expected = golden.list<float>("gradient");
  EXPECT_LT(test::distance(gradient, expected) / test::norm(expected), 1e-5);
  const std::vector<double> curve =
      net.train(images, y, {.learning_rate = 0.01F, .batch = golden_images, .epochs = 10});
  const std::vector<double> expected_curve = golden.list<double>("adam");
  ASSERT_EQ(curve.size(), expected_curve.size());
  EXPECT_NEAR(start, curve[0], 1e-7);
  for (size_t i = 0; i < curve.size(); ++i) EXPECT_NEAR(curve[i], expected_curve[i], 2e-6) << i;
}

TEST(LeNet, NextToImpossibleClassesHaveNoGradient) {
  const LeNet net = golden_net();
  const LeNetTensors tensors(net.shape());
  std::vector<float> gradient, parameters(net.parameters().begin(), net.parameters().end());
  parameters[tensors.head_bias.offset] += 50;
  loss(net.shape(), parameters, golden_pixels(), std::vector<int>(golden_images, 0), gradient);
  for (size_t c = 1; c < tensors.head_bias.size(); ++c) EXPECT_EQ(gradient[tensors.head_bias.offset + c], 0) << c;
}

TEST(LeNet, GradientIsTheLosssSlope) {
  const LeNetShape shape{
      .rows = 16, .cols = 18, .channels1 = 3, .kernel1 = 5, .channels2 = 4, .kernel2 = 3, .classes = 3};
  const LeNet net(shape, 5);
  const Matrix images = noise("images", 60, shape.rows * shape.cols);
  std::vector<int> y;
  for (int i = 0; i < 60; ++i) y.push_back(i % 3);
  std::vector<float> gradient, other, parameters(net.parameters().begin(), net.parameters().end());
  loss(shape, parameters, images, y, gradient);
  // Along the gradient itself, so that rounding of the losses weighs little: (L(p + hg) − L(p − hg)) / 2h = ‖g‖².
  constexpr float h = 1e-3F;
  const auto moved = [&](float step) {
    std::vector<float> at = parameters;
    for (size_t i = 0; i < at.size(); ++i) at[i] += step * gradient[i];
    return loss(shape, at, images, y, other);
  };
  const double norm = test::norm(gradient), slope = (moved(h) - moved(-h)) / (2 * h);
  EXPECT_NEAR(slope / (norm * norm), 1, 0.01);
}

TEST(LeNet, NeitherThreadsNorNeighboursChangeAnImage) {
  const LeNetShape shape = LeNetShape::scaled(0.6);
  const Matrix images = noise("images", 130, 784);
  std::vector<int> y;
  for (int i = 0; i < 130; ++i) y.push_back(i * 3 % 10);
  const int before = threads();
  std::vector<Matrix> features;
  std::vector<std::vector<float>> trained;
  for (const int count : {1, 3}) {
    set_threads(count);
    LeNet net(shape, 1);
    const std::vector<double> curve = net.train(images, y, {.learning_rate = 0.01F, .batch = 120, .epochs = 4});
    EXPECT_LT(curve.back(), curve.front());
    trained.emplace_back(net.parameters().begin(), net.parameters().end());
    features.push_back(net.features(images));
  }
  set_threads(before);
  EXPECT_EQ(trained[0], trained[1]);
  EXPECT_TRUE(test::same_bits(features[0], features[1]));
  LeNet net(shape, 1);
  net.train(images, y, {.learning_rate = 0.01F, .batch = 120, .epochs = 4});
  EXPECT_TRUE(test::same_bits(net.features(images.view().row_range(57, 3)), features[0].view().row_range(57, 3)));
  EXPECT_EQ(net.features(images.view().row_range(0, 0)).rows(), 0);
}

TEST(LeNet, SeedsDiffer) {
  const LeNetShape shape = LeNetShape::scaled(0.35);
  const auto same = [](const LeNet& a, const LeNet& b) { return std::ranges::equal(a.parameters(), b.parameters()); };
  EXPECT_TRUE(same(LeNet(shape, 3), LeNet(shape, 3)));
  EXPECT_FALSE(same(LeNet(shape, 3), LeNet(shape, 4)));
  const LeNet net(shape);
  for (const float value : net.parameters().first(10)) EXPECT_LE(std::abs(value), 1.0F / 3);
}

TEST(LeNet, ComesBackFromItsFile) {
  const test::TemporaryFolder folder;
  const LeNet net(LeNetShape::scaled(1), 2);
  net.save(folder.path() / "net.safetensors");
  const LeNet back = LeNet::open(folder.path() / "net.safetensors");
  EXPECT_EQ(back.shape(), net.shape());
  EXPECT_TRUE(std::ranges::equal(back.parameters(), net.parameters()));
  const SafeTensors file = SafeTensors::open(folder.path() / "net.safetensors");
  EXPECT_EQ(file.tensors().at("feature_extractor.3.weight").shape, (std::vector<size_t>{12, 4, 5, 5}));
  EXPECT_EQ(file.tensors().at("classifier.bias").shape, std::vector<size_t>{10});
  const LinearHead head = back.head();
  EXPECT_EQ(head.classes(), 10);
  EXPECT_EQ(head.dimension(), 192);
  EXPECT_EQ(head.bias.back(), net.parameters().back());
}

TEST(LeNet, FilesThatAreNoLeNet) {
  const test::TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "net.safetensors";
  const LeNet net(LeNetShape::scaled(1));
  net.save(path);
  HONE_EXPECT_ERROR(LeNet::open(path, 36, 28), ErrorCode::corrupt, "classifier.weight is [10, 192], not [10, 288]");
  HONE_EXPECT_ERROR(LeNet::open(path, 4, 28), ErrorCode::corrupt, "nothing is left");
  HONE_EXPECT_ERROR(LeNet::open(folder.path() / "none"), ErrorCode::not_found, "none");
  std::string bytes = read_file(path);
  bytes.replace(bytes.size() - 4, 4, "\xFF\xFF\xFF\xFF");  // the last bias is NaN
  write_file_atomically(path, bytes);
  HONE_EXPECT_ERROR(LeNet::open(path), ErrorCode::corrupt, "classifier.bias holds a value that is not finite");
  const Matrix values(6, 6);
  const auto write = [&](std::vector<NamedMatrix> tensors) { write_safetensors(path, tensors); };
  write({{"layer.weight", values}});
  HONE_EXPECT_ERROR(LeNet::open(path), ErrorCode::corrupt, "feature_extractor.0.weight with 4 dimensions");
  write({{"feature_extractor.0.weight", values, {1, 4, 3, 3}},
         {"feature_extractor.3.weight", values, {4, 1, 3, 3}},
         {"classifier.weight", values}});
  HONE_EXPECT_ERROR(LeNet::open(path), ErrorCode::corrupt, "feature_extractor.0.weight is [1, 4, 3, 3]");
  const Matrix nothing(0, 0);
  write({{"feature_extractor.0.weight", nothing, {30000, 0, 3, 3}},
         {"feature_extractor.3.weight", nothing, {30000, 0, 3, 3}},
         {"classifier.weight", nothing, {1, 0}}});
  HONE_EXPECT_ERROR(LeNet::open(path), ErrorCode::corrupt, "feature_extractor.0.weight is [30000, 0, 3, 3]");
  HONE_EXPECT_ERROR(write({{"x", values, {5, 7}}}), ErrorCode::bad_input, "[5, 7] is not the shape of 36 values");
}

TEST(LeNet, ImagesAndLabelsThatDoNotFit) {
  LeNet net(LeNetShape::scaled(0.35));
  const std::vector<float> before(net.parameters().begin(), net.parameters().end());
  Matrix images(3, 784);
  const LeNetTraining training{.epochs = 1};
  HONE_EXPECT_ERROR(net.features(Matrix(2, 783)), ErrorCode::bad_input, "783 pixels");
  HONE_EXPECT_ERROR(net.train(images, std::vector<int>{0, 1}, training), ErrorCode::bad_input, "2 labels for 3");
  HONE_EXPECT_ERROR(net.train(images, std::vector<int>{0, 10, 1}, training), ErrorCode::bad_input,
                    "label 10 of image 1");
  HONE_EXPECT_ERROR(net.train(Matrix(0, 784), {}, training), ErrorCode::bad_input, "no images");
  HONE_EXPECT_ERROR(net.train(images, std::vector<int>{0, 1, 2}, {.batch = 0}), ErrorCode::bad_input, "batches");
  HONE_EXPECT_ERROR(LeNet(LeNetShape{.rows = 5}), ErrorCode::bad_input, "nothing is left of 5 x 28");
  HONE_EXPECT_ERROR(LeNet(LeNetShape{.channels2 = 0}), ErrorCode::bad_input, "channel");
  images.row(1)[7] = std::nanf("");
  HONE_EXPECT_ERROR(net.logits(images), ErrorCode::bad_input, "row 1");
  images.row(1)[7] = 1;
  HONE_EXPECT_ERROR(net.train(images, std::vector<int>{0, 1, 2}, {.learning_rate = 1e38F, .epochs = 50}),
                    ErrorCode::bad_input, "no longer finite");
  Watch watch;
  watch.cancel.cancel();
  HONE_EXPECT_ERROR(net.train(images, std::vector<int>{0, 1, 2}, training, watch), ErrorCode::cancelled, "");
  EXPECT_TRUE(std::ranges::equal(before, net.parameters()));
}

TEST(NormalizedPixels, IsTheFormula) {
  Matrix pixels(1, 2);
  pixels.row(0)[1] = 255;
  const Matrix x = normalized_pixels(pixels, {.mean = 0.5F, .deviation = 0.25F});
  EXPECT_EQ(x.row(0)[0], -2);
  EXPECT_EQ(x.row(0)[1], 2);
}

}  // namespace
}  // namespace hone::lenet_test
