// The golden values of tests/golden, and what tests need to compute the same with hone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "hone/model.h"
#include "model/safetensors.h"
#include "tests/paths.h"

namespace hone::test {

using LoraGradients = std::map<MatrixId, Adapter::LowRank>;

inline std::filesystem::path golden_directory() { return source_directory() / "tests" / "golden"; }

inline std::filesystem::path tiny_model(const std::string& name) {
  return golden_directory() / "models" / (name + ".gguf");
}

// One file of golden values.
class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_(SafeTensors::open(golden_directory() / "values" / (name + ".safetensors"))) {}

  Matrix matrix(const std::string& name) const { return file_.matrix(name); }
  // All values of a tensor as numbers of type T.
  template <class T>
  std::vector<T> list(const std::string& name) const {
    const Matrix values = matrix(name);
    std::vector<T> result(values.size());
    std::transform(values.data(), values.data() + values.size(), result.begin(),
                   [](float value) { return static_cast<T>(value); });
    return result;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& [name, tensor] : file_.tensors()) result.push_back(name);
    return result;
  }

 private:
  SafeTensors file_;
};

// Packed texts of the given lengths, as a batch that one adapter reads.
inline std::vector<Sequence> pack(std::span<const Token> tokens, std::span<const size_t> lengths,
                                  const Adapter* adapter = nullptr) {
  std::vector<Sequence> batch;
  size_t start = 0;
  for (size_t length : lengths) {
    batch.push_back({.tokens = tokens.subspan(start, length), .adapter = adapter});
    start += length;
  }
  return batch;
}

// The loss Σ weights[r] · −log p(targets[r]) over some rows of a packed batch.
struct Loss {
  std::vector<size_t> rows;
  std::vector<Token> targets;
  std::vector<float> weights;

  static Loss from(const Golden& golden) {
    return {golden.list<size_t>("rows"), golden.list<Token>("targets"), golden.list<float>("weights")};
  }
  // The mean over the next tokens of one text.
  static Loss next_tokens(std::span<const Token> text) {
    Loss loss;
    for (size_t i = 0; i + 1 < text.size(); ++i) {
      loss.rows.push_back(i);
      loss.targets.push_back(text[i + 1]);
    }
    loss.weights.assign(loss.rows.size(), 1.0F / static_cast<float>(loss.rows.size()));
    return loss;
  }

  Matrix gather(ConstMatrixView hidden) const {
    Matrix result = Matrix::uninitialized(rows.size(), hidden.cols);
    for (size_t r = 0; r < rows.size(); ++r) std::ranges::copy(hidden.row(rows[r]), result.row(r).begin());
    return result;
  }
  std::vector<float> each(const Model& model, std::span<const Sequence> batch) const {
    return model.losses(gather(model.forward(batch)), targets);
  }
  double total(std::span<const float> losses) const {
    double sum = 0;
    for (size_t r = 0; r < losses.size(); ++r) sum += static_cast<double>(weights[r]) * losses[r];
    return sum;
  }
  double value(const Model& model, std::span<const Sequence> batch) const { return total(each(model, batch)); }

  // Offers the gradients of layers [first, L) to the sinks; returns the loss.
  double backward(const Model& model, std::span<const Sequence> batch, std::span<GradientSink* const> sinks,
                  int first = 0) const {
    Tape tape;
    Matrix x = model.forward(batch, 0, first, model.embed(batch));
    const Matrix hidden = model.forward(batch, first, model.config().layers, std::move(x), &tape);
    Matrix d_rows(rows.size(), hidden.cols());
    const std::vector<float> losses = model.losses_with_gradient(gather(hidden), targets, weights, d_rows);
    Matrix d_hidden(hidden.rows(), hidden.cols());
    for (size_t r = 0; r < rows.size(); ++r) std::ranges::copy(d_rows.row(r), d_hidden.row(rows[r]).begin());
    model.backward(tape, std::move(d_hidden), sinks);
    return total(losses);
  }
};

// Number i of a stream as tests/golden/generator.py defines it.
inline uint64_t generated_bits(uint64_t stream, uint64_t i) {
  uint64_t z = (stream << 32) + i + 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

inline Matrix generated_matrix(uint64_t stream, size_t rows, size_t cols, double scale) {
  Matrix m = Matrix::uninitialized(rows, cols);
  for (size_t i = 0; i < m.size(); ++i) {
    const float fraction = static_cast<float>(generated_bits(stream, i) >> 40) * 0x1p-24F;
    m.data()[i] = (fraction - 0.5F) * static_cast<float>(scale);
  }
  return m;
}

inline std::vector<MatrixId> all_matrices(const Model& model) {
  std::vector<MatrixId> ids;
  for (int layer = 0; layer < model.config().layers; ++layer) {
    for (int kind = 0; kind < matrix_kinds; ++kind) ids.push_back({layer, static_cast<MatrixKind>(kind)});
  }
  return ids;
}

// LoRA with B ≠ 0 on every matrix: the twin of generator.py's `lora`.
inline Adapter generated_lora(const Model& model, size_t rank, double deviation) {
  Adapter adapter;
  for (const MatrixId id : all_matrices(model)) {
    const auto [out, in] = model.shape(id);
    const auto stream = static_cast<uint64_t>(2 * (matrix_kinds * id.layer + static_cast<int>(id.kind)));
    adapter.low_rank[id] = {
        .a = generated_matrix(stream, rank, in, std::sqrt(12.0 / static_cast<double>(in))),
        .b = generated_matrix(stream + 1, out, rank, deviation * std::sqrt(12.0)),
    };
  }
  return adapter;
}

// Names a test of (model, precision): "llama_int8".
inline constexpr auto model_and_precision = [](const auto& parameter) {
  const bool fp32 = std::get<1>(parameter.param) == Precision::fp32;
  return std::string(std::get<0>(parameter.param)) + (fp32 ? "_fp32" : "_int8");
};

inline bool same_bits(ConstMatrixView a, ConstMatrixView b) {
  const size_t bytes = a.rows * a.cols * sizeof(float);
  return a.rows == b.rows && a.cols == b.cols && (bytes == 0 || std::memcmp(a.data, b.data, bytes) == 0);
}

// max |a − b|; NaN counts as infinity.
inline double largest_difference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    largest = std::isnan(difference) ? INFINITY : std::max(largest, difference);
  }
  return largest;
}
inline double largest_difference(ConstMatrixView a, ConstMatrixView b) {
  if (a.cols != b.cols) return INFINITY;
  return largest_difference(std::span(a.data, a.rows * a.cols), std::span(b.data, b.rows * b.cols));
}

inline double norm(std::span<const float> a) {
  double sum = 0;
  for (float value : a) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

inline double distance(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return INFINITY;
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return std::sqrt(sum);
}

// 64 numbers whose distances stand for those of whole matrices: goldens.py's `sketches`.
inline std::vector<float> sketch(const Matrix& m) {
  std::vector<double> sums(64);
  for (size_t i = 0; i < m.size(); ++i) {
    const uint64_t bits = generated_bits(0, i);
    const double value = static_cast<double>(m.data()[i]) / 8;
    for (size_t j = 0; j < sums.size(); ++j) sums[j] += (bits >> j & 1) != 0 ? -value : value;
  }
  return {sums.begin(), sums.end()};
}

// ‖a − b‖ / ‖b‖
inline double relative_difference(const Matrix& a, const Matrix& b) {
  const std::span<const float> x(a.data(), a.size()), y(b.data(), b.size());
  return distance(x, y) / norm(y);
}

}  // namespace hone::test
