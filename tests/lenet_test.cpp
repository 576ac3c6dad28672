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

namespace hone {
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

TEST(Convolution, IsTheSumItNames) {
  for (const ConvolutionShape& s : {ConvolutionShape{3, 7, 9, 1, 1, 3}, ConvolutionShape{2, 6, 5, 3, 17, 5},
                                    ConvolutionShape{4, 5, 8, 16, 8, 1}, ConvolutionShape{2, 12, 12, 4, 12, 5}}) {
    const Matrix x = noise("x", s.images, s.rows * s.cols * s.in_channels);
    const Matrix w = noise("w", s.out_channels * s.in_channels, s.kernel * s.kernel);
    const Matrix b = noise("b", 1, s.out_channels);
    const Matrix dy = noise("dy", s.images, s.out_rows() * s.out_cols() * s.out_channels);
    Matrix y(dy.rows(), dy.cols()), expected_y(dy.rows(), dy.cols()), dx(x.rows(), x.cols()),
        expected_dx(x.rows(), x.cols()), dw(w.rows(), w.cols()), expected_dw(w.rows(), w.cols()), db(1, s.out_channels),
        expected_db(1, s.out_channels);
    for (size_t n = 0; n < s.images; ++n)
      for (size_t r = 0; r < s.out_rows(); ++r)
        for (size_t c = 0; c < s.out_cols(); ++c)
          for (size_t o = 0; o < s.out_channels; ++o) {
            const size_t to = (r * s.out_cols() + c) * s.out_channels + o;
            const float d = dy.row(n)[to];
            expected_db.data()[o] += d;
            float sum = b.data()[o];
            for (size_t i = 0; i < s.in_channels; ++i)
              for (size_t kr = 0; kr < s.kernel; ++kr)
                for (size_t kc = 0; kc < s.kernel; ++kc) {
                  const size_t from = ((r + kr) * s.cols + c + kc) * s.in_channels + i;
                  const size_t at = (o * s.in_channels + i) * s.kernel * s.kernel + kr * s.kernel + kc;
                  sum += w.data()[at] * x.row(n)[from];
                  expected_dw.data()[at] += d * x.row(n)[from];
                  expected_dx.row(n)[from] += d * w.data()[at];
                }
            expected_y.row(n)[to] = sum;
          }
    Convolution convolution(s);
    convolution.forward(x.data(), w.data(), b.data(), y.data());
    convolution.backward_weights(x.data(), dy.data(), dw.data(), db.data());
    convolution.backward_input(dy.data(), w.data(), dx.data());
    EXPECT_LT(test::relative_difference(y, expected_y), 1e-6);
    EXPECT_LT(test::relative_difference(dw, expected_dw), 1e-6);
    EXPECT_LT(test::relative_difference(db, expected_db), 1e-6);
    EXPECT_LT(test::relative_difference(dx, expected_dx), 1e-6);
  }
}

TEST(MaxPool, FirstOfEqualsTakesAllAndOddRowsNothing) {
  // One image of 3 x 5 pixels and two channels; the second channel is never positive.
  const PoolShape shape{1, 3, 5, 2};
  const std::vector<float> first = {1, 2, 3, 3, 9,  //
                                    2, 0, 3, 1, 9,  //
                                    9, 9, 9, 9, 9};
  std::vector<float> x, y(4), dx(30, 7), dy = {10, 20, 30, 40};
  for (const float value : first) x.insert(x.end(), {value, value == 3 ? 0.0F : -value});
  max_pool(shape, x.data(), y.data());
  EXPECT_EQ(y, (std::vector<float>{2, 0, 3, 0}));
  max_pool_backward(shape, x.data(), y.data(), dy.data(), dx.data());
  std::vector<float> expected(30);
  expected[2] = 10;  // row 0, column 1
  expected[4] = 30;  // row 0, column 2
  EXPECT_EQ(dx, expected);
}

// Whole vectors, vectors of four and single lanes; integers, so that many windows hold equal maxima.
TEST(MaxPool, EveryNumberOfChannelsFollowsTheDefinition) {
  for (size_t channels = 1; channels <= 40; ++channels) {
    const PoolShape shape{2, 4, 6, channels};
    Matrix x = noise("x", shape.images * shape.rows * shape.cols, channels);
    for (size_t i = 0; i < x.size(); ++i) x.data()[i] = std::round(x.data()[i]);
    const Matrix dy = noise("dy", shape.images * 6, channels);
    Matrix y(dy.rows(), channels), dx(x.rows(), channels), expected_y(dy.rows(), channels),
        expected_dx(x.rows(), channels);
    for (size_t window = 0; window < dy.rows(); ++window)
      for (size_t c = 0; c < channels; ++c) {
        const size_t upper_left = window / 3 * 2 * shape.cols + window % 3 * 2;
        float most = 0;
        size_t taker = x.rows();
        for (const size_t pixel : {upper_left, upper_left + 1, upper_left + shape.cols, upper_left + shape.cols + 1})
          if (x.row(pixel)[c] > most) {
            most = x.row(pixel)[c];
            taker = pixel;
          }
        expected_y.row(window)[c] = most;
        if (taker < x.rows()) expected_dx.row(taker)[c] = dy.row(window)[c];
      }
    max_pool(shape, x.data(), y.data());
    max_pool_backward(shape, x.data(), y.data(), dy.data(), dx.data());
    EXPECT_EQ(test::relative_difference(y, expected_y), 0) << channels;
    EXPECT_EQ(test::relative_difference(dx, expected_dx), 0) << channels;
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
}  // namespace hone
