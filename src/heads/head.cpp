#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "hone/heads.h"
#include "model/gemm.h"
#include "model/safetensors.h"

namespace hone {
namespace {

constexpr const char* labels_key = "labels";

}  // namespace

LinearHead LinearHead::copy() const { return {weights.copy(), bias}; }

Matrix LinearHead::logits(ConstMatrixView x) const {
  if (x.cols != dimension())
    throw Error(ErrorCode::bad_input,
                fmt::format("head: made for {} features, asked about rows of {}", dimension(), x.cols));
  Matrix y = Matrix::uninitialized(x.rows, classes());
  for (size_t i = 0; i < x.rows; ++i) std::ranges::copy(bias, y.row(i).begin());
  if (!y.empty()) linear_forward(x, weights, y, true);
  return y;
}

void log_softmax(MatrixView logits) {
  parallel_ranges(logits.rows, 64, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const auto row = logits.row(i);
      const double top = *std::ranges::max_element(row);
      double sum = 0;
      for (const float value : row) sum += std::exp(value - top);
      const double shift = top + std::log(sum);
      for (float& value : row) value = static_cast<float>(value - shift);
    }
  });
}

void save_head(const std::filesystem::path& path, const LinearHead& head, std::span<const std::string> labels) {
  if (!labels.empty() && labels.size() != head.classes())
    throw Error(ErrorCode::bad_input,
                fmt::format("head: {} names for {} classes; give one each or none", labels.size(), head.classes()));
  const NamedMatrix tensors[] = {{"weight", head.weights}, {"bias", {head.bias.data(), 1, head.bias.size()}}};
  std::map<std::string, std::string> metadata;
  try {
    if (!labels.empty()) metadata[labels_key] = nlohmann::json(std::vector(labels.begin(), labels.end())).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorCode::bad_input, "head: a class's name is not UTF-8");
  }
  write_safetensors(path, tensors, metadata);
}

NamedHead open_head(const std::filesystem::path& path) {
  const SafeTensors file = SafeTensors::open(path);
  NamedHead result;
  result.head.weights = file.matrix("weight");
  const Matrix bias = file.matrix("bias");
  result.head.bias.assign(bias.data(), bias.data() + bias.size());
  if (result.head.bias.size() != result.head.classes())
    throw Error(ErrorCode::corrupt, fmt::format("{}: weight has {} rows, bias {} entries", path.string(),
                                                result.head.classes(), result.head.bias.size()));
  if (const auto found = file.metadata().find(labels_key); found != file.metadata().end()) {
    const auto parsed = nlohmann::json::parse(found->second, nullptr, false);
    try {
      result.labels = parsed.get<std::vector<std::string>>();
    } catch (const nlohmann::json::exception&) {
      throw Error(ErrorCode::corrupt,
                  fmt::format("{}: metadata entry '{}' is no list of names", path.string(), labels_key));
    }
    if (result.labels.size() != result.head.classes())
      throw Error(ErrorCode::corrupt, fmt::format("{}: {} names for {} classes", path.string(), result.labels.size(),
                                                  result.head.classes()));
  }
  return result;
}

}  // namespace hone
