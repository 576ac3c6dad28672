// Builds small GGUF files in memory, sound ones and, through the public members and raw_*, damaged ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "model/quantization.h"

namespace hone::test {

template <class T>
std::string bytes_of(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

inline std::string gguf_string(std::string_view text) { return bytes_of<uint64_t>(text.size()) + std::string(text); }

// The id that GGUF gives to the type of a metadata value.
template <class T>
constexpr uint32_t gguf_type() {
  if constexpr (std::is_same_v<T, uint8_t>) return 0;
  if constexpr (std::is_same_v<T, int8_t>) return 1;
  if constexpr (std::is_same_v<T, uint16_t>) return 2;
  if constexpr (std::is_same_v<T, int16_t>) return 3;
  if constexpr (std::is_same_v<T, uint32_t>) return 4;
  if constexpr (std::is_same_v<T, int32_t>) return 5;
  if constexpr (std::is_same_v<T, float>) return 6;
  if constexpr (std::is_same_v<T, bool>) return 7;
  if constexpr (std::is_same_v<T, std::string>) return 8;
  if constexpr (std::is_same_v<T, uint64_t>) return 10;
  if constexpr (std::is_same_v<T, int64_t>) return 11;
  if constexpr (std::is_same_v<T, double>) return 12;
}
constexpr uint32_t gguf_array = 9;

class GgufWriter {
 public:
  uint32_t version = 3;
  size_t alignment = 32;                // of the tensor data; add general.alignment too if it is not 32
  std::optional<uint64_t> field_count;  // instead of the true ones
  std::optional<uint64_t> tensor_count;

  template <class T>
  void add(std::string_view key, const T& value) {
    raw_field(key, gguf_type<T>(), encode(value));
  }
  void add(std::string_view key, const char* text) { add(key, std::string(text)); }
  template <class T>
  void add(std::string_view key, const std::vector<T>& values) {
    std::string bytes = bytes_of(gguf_type<T>()) + bytes_of<uint64_t>(values.size());
    for (size_t i = 0; i < values.size(); ++i) bytes += encode<T>(values[i]);
    raw_field(key, gguf_array, bytes);
  }
  void raw_field(std::string_view key, uint32_t type, std::string_view value) {
    fields_ += gguf_string(key) + bytes_of(type);
    fields_ += value;
    ++fields_added_;
  }

  // `shape` is row-major, outermost first.
  void add_tensor(std::string_view name, TensorType type, std::span<const size_t> shape, std::string_view data) {
    raw_tensor(name, {shape.rbegin(), shape.rend()}, static_cast<uint32_t>(type), data_.size());
    data_ += data;
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
  }
  void add_tensor(std::string_view name, std::vector<size_t> shape, const std::vector<float>& values) {
    add_tensor(name, TensorType::f32, shape,
               {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }
  // A directory entry without data; `extents` innermost first, as in the file.
  void raw_tensor(std::string_view name, std::vector<uint64_t> extents, uint32_t type, uint64_t offset) {
    tensors_ += gguf_string(name) + bytes_of(static_cast<uint32_t>(extents.size()));
    for (const uint64_t extent : extents) tensors_ += bytes_of(extent);
    tensors_ += bytes_of(type) + bytes_of(offset);
    ++tensors_added_;
  }

  std::string finish() const {
    std::string file = "GGUF" + bytes_of(version) + bytes_of(tensor_count.value_or(tensors_added_)) +
                       bytes_of(field_count.value_or(fields_added_)) + fields_ + tensors_;
    file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + data_;
  }

 private:
  template <class T>
  static std::string encode(const T& value) {
    if constexpr (std::is_same_v<T, std::string>)
      return gguf_string(value);
    else
      return bytes_of(value);
  }

  std::string fields_, tensors_, data_;
  uint64_t fields_added_ = 0;
  uint64_t tensors_added_ = 0;
};

}  // namespace hone::test
