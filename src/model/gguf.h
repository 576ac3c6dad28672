// GGUF v2/v3: metadata and tensor directory over a read-only mapping. Every offset and length is checked before use.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/files.h"
#include "model/quantization.h"

namespace hone {

// A metadata value. Integers of all widths are int64 (uint64 above its range is an error), floats are double.
using GgufValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<double>,
                               std::vector<bool>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<size_t> shape;         // row-major: outermost first, so a weight matrix is [out, in]
  std::span<const std::byte> bytes;  // into the mapping

  size_t rows() const;  // product of all but the innermost dimension
  size_t cols() const;  // innermost dimension
};

class Gguf {
 public:
  // Throws Error{not_found, corrupt, unsupported} naming the file and the field.
  static Gguf open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  uint32_t version() const { return version_; }
  std::span<const std::byte> bytes() const { return file_.bytes(); }
  void drop_pages() const { file_.drop_pages(); }
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }

  bool has(std::string_view key) const;
  // Typed look-ups. Throws Error{corrupt} naming file and key if the key is missing or of another type.
  // integer() accepts bool; real() accepts integers.
  int64_t integer(std::string_view key) const;
  double real(std::string_view key) const;
  bool boolean(std::string_view key) const;
  const std::string& string(std::string_view key) const;
  const std::vector<std::string>& strings(std::string_view key) const;
  const std::vector<int64_t>& integers(std::string_view key) const;
  const std::vector<double>& reals(std::string_view key) const;
  // The same with a default for a missing key (another type is still an error).
  int64_t integer_or(std::string_view key, int64_t fallback) const;
  double real_or(std::string_view key, double fallback) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  std::string string_or(std::string_view key, std::string fallback) const;

  // nullptr if there is no such tensor.
  const GgufTensor* find_tensor(std::string_view name) const;
  // Throws Error{corrupt} naming file and tensor if it is missing or not [shape].
  const GgufTensor& tensor(std::string_view name, std::span<const size_t> shape) const;

 private:
  std::filesystem::path path_;
  MappedFile file_;
  uint32_t version_ = 0;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> tensor_index_;
};

}  // namespace hone
