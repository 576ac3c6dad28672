#include "model/gguf.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "hone/base.h"

namespace hone {
namespace {

static_assert(std::endian::native == std::endian::little);

enum class ValueType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

constexpr uint32_t max_dimensions = 4;
constexpr size_t default_alignment = 32;
constexpr std::string_view alignment_key = "general.alignment";

// Keys and names come from the file: shown escaped and not longer than a line.
std::string shown(std::string_view text) {
  constexpr size_t limit = 100;
  return fmt::format("{:?}{}", text.substr(0, limit), text.size() > limit ? "..." : "");
}

// A cursor over the file. `field` is what is being read, for messages.
class Reader {
 public:
  Reader(const std::filesystem::path& path, std::span<const std::byte> bytes) : path_(path), bytes_(bytes) {}

  [[noreturn]] void fail(std::string_view problem, ErrorCode code = ErrorCode::corrupt) const {
    throw Error(code, fmt::format("'{}': {}: {}", path_.string(), field, problem));
  }

  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }

  // The file must still hold `count` items of at least `bytes_each`.
  void require(uint64_t count, size_t bytes_each, std::string_view what) const {
    if (count > remaining() / bytes_each)
      fail(fmt::format("{} {} do not fit into the {} bytes left at offset {}; the file is cut off or damaged", count,
                       what, remaining(), position_));
  }

  template <class T>
  T number() {
    require(1, sizeof(T), fmt::format("{}-byte number", sizeof(T)));
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  std::string string() {
    const auto length = number<uint64_t>();
    require(length, 1, "bytes of text");
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + position_, length);
    position_ += length;
    return text;
  }

  bool boolean() {
    const auto value = number<uint8_t>();
    if (value > 1) fail(fmt::format("{} is not a boolean", value));
    return value == 1;
  }

  int64_t unsigned_64() {
    const auto value = number<uint64_t>();
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      fail(fmt::format("{} is too large", value), ErrorCode::unsupported);
    return static_cast<int64_t>(value);
  }

  std::string field = "header";

 private:
  const std::filesystem::path& path_;
  std::span<const std::byte> bytes_;
  size_t position_ = 0;
};

// The values of one type that `read` yields; T is the type of a scalar in GgufValue.
template <class Read>
GgufValue read_values(Reader& reader, bool array, size_t bytes_each, const Read& read) {
  using T = decltype(read());
  if (!array) return GgufValue(read());
  const auto count = reader.number<uint64_t>();
  reader.require(count, bytes_each, "array items");
  std::vector<T> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) values.push_back(read());
  return GgufValue(std::move(values));
}

template <class Stored, class T>
GgufValue read_numbers(Reader& reader, bool array) {
  return read_values(reader, array, sizeof(Stored), [&] { return static_cast<T>(reader.number<Stored>()); });
}

GgufValue read_value(Reader& reader) {
  auto type = static_cast<ValueType>(reader.number<uint32_t>());
  const bool array = type == ValueType::array;
  if (array) type = static_cast<ValueType>(reader.number<uint32_t>());
  switch (type) {
    case ValueType::u8: return read_numbers<uint8_t, int64_t>(reader, array);
    case ValueType::i8: return read_numbers<int8_t, int64_t>(reader, array);
    case ValueType::u16: return read_numbers<uint16_t, int64_t>(reader, array);
    case ValueType::i16: return read_numbers<int16_t, int64_t>(reader, array);
    case ValueType::u32: return read_numbers<uint32_t, int64_t>(reader, array);
    case ValueType::i32: return read_numbers<int32_t, int64_t>(reader, array);
    case ValueType::i64: return read_numbers<int64_t, int64_t>(reader, array);
    case ValueType::f32: return read_numbers<float, double>(reader, array);
    case ValueType::f64: return read_numbers<double, double>(reader, array);
    case ValueType::u64: return read_values(reader, array, sizeof(uint64_t), [&] { return reader.unsigned_64(); });
    case ValueType::boolean: return read_values(reader, array, 1, [&] { return reader.boolean(); });
    case ValueType::string: return read_values(reader, array, sizeof(uint64_t), [&] { return reader.string(); });
    case ValueType::array: reader.fail("arrays of arrays are not supported", ErrorCode::unsupported);
  }
  reader.fail(fmt::format("unknown value type {}", static_cast<uint32_t>(type)));
}

uint32_t read_version(Reader& reader) {
  if (reader.number<uint32_t>() != std::bit_cast<uint32_t>(std::array{'G', 'G', 'U', 'F'}))
    reader.fail("this is not a GGUF file");
  const auto version = reader.number<uint32_t>();
  if (version != 0 && (version & 0xffff) == 0) reader.fail("big-endian GGUF is not supported", ErrorCode::unsupported);
  if (version != 2 && version != 3)
    reader.fail(fmt::format("GGUF version {} is not supported; convert the file to version 3", version),
                ErrorCode::unsupported);
  return version;
}

struct TensorEntry {
  GgufTensor tensor;
  uint64_t offset = 0;  // from the start of the tensor data
  size_t size = 0;      // bytes
};

// Reads everything after the name.
TensorEntry read_tensor(Reader& reader, std::string name) {
  const auto dimensions = reader.number<uint32_t>();
  if (dimensions == 0 || dimensions > max_dimensions)
    reader.fail(fmt::format("{} dimensions; 1 to {} are possible", dimensions, max_dimensions));
  TensorEntry entry;
  entry.tensor.name = std::move(name);
  entry.tensor.shape.resize(dimensions);
  size_t values = 1;
  for (uint32_t d = 0; d < dimensions; ++d) {
    const auto extent = reader.number<uint64_t>();
    if (extent == 0) reader.fail(fmt::format("dimension {} is zero", d));
    if (__builtin_mul_overflow(values, extent, &values)) reader.fail(fmt::format("dimension {} is too large", d));
    entry.tensor.shape[dimensions - 1 - d] = extent;
  }
  const auto type_id = reader.number<uint32_t>();
  if (!is_supported(type_id))
    reader.fail(fmt::format("tensor type {} is not supported; quantise the model to Q4_K_M, Q8_0 or F16", type_id),
                ErrorCode::unsupported);
  entry.tensor.type = static_cast<TensorType>(type_id);
  const size_t block = block_values(entry.tensor.type);
  if (entry.tensor.cols() % block != 0)
    reader.fail(fmt::format("rows of {} weights are not whole {} blocks of {}", entry.tensor.cols(),
                            hone::name(entry.tensor.type), block));
  if (__builtin_mul_overflow(values / block, block_bytes(entry.tensor.type), &entry.size))
    reader.fail(fmt::format("{} weights are too many", values));
  entry.offset = reader.number<uint64_t>();
  return entry;
}

size_t read_alignment(Reader& reader, const std::map<std::string, GgufValue, std::less<>>& metadata) {
  const auto found = metadata.find(alignment_key);
  if (found == metadata.end()) return default_alignment;
  reader.field = alignment_key;
  const auto* alignment = std::get_if<int64_t>(&found->second);
  if (!alignment) reader.fail("must be an integer");
  if (*alignment < 8 || *alignment > std::numeric_limits<uint32_t>::max() ||
      !std::has_single_bit(static_cast<uint64_t>(*alignment)))
    reader.fail(fmt::format("{} is not a power of two from 8 on", *alignment));
  return static_cast<size_t>(*alignment);
}

template <class T>
constexpr std::string_view type_name() {
  if constexpr (std::is_same_v<T, int64_t>) return "an integer";
  if constexpr (std::is_same_v<T, double>) return "a number";
  if constexpr (std::is_same_v<T, bool>) return "a boolean";
  if constexpr (std::is_same_v<T, std::string>) return "a string";
  if constexpr (std::is_same_v<T, std::vector<int64_t>>) return "an array of integers";
  if constexpr (std::is_same_v<T, std::vector<double>>) return "an array of numbers";
  if constexpr (std::is_same_v<T, std::vector<std::string>>) return "an array of strings";
}

const GgufValue& look_up(const Gguf& file, std::string_view key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end())
    throw Error(ErrorCode::corrupt, fmt::format("'{}': {}: the field is missing", file.path().string(), shown(key)));
  return found->second;
}

template <class T>
[[noreturn]] void fail_type(const Gguf& file, std::string_view key) {
  throw Error(ErrorCode::corrupt,
              fmt::format("'{}': {}: the field is not {}", file.path().string(), shown(key), type_name<T>()));
}

template <class T>
const T& typed(const Gguf& file, std::string_view key) {
  if (const T* value = std::get_if<T>(&look_up(file, key))) return *value;
  fail_type<T>(file, key);
}

// Many names for the same bytes would ask for memory that the file's size does not bound.
void refuse_overlaps(Reader& reader, std::span<const GgufTensor> tensors) {
  std::vector<const GgufTensor*> order;
  for (const GgufTensor& tensor : tensors) order.push_back(&tensor);
  std::ranges::sort(order, {}, [](const GgufTensor* tensor) { return tensor->bytes.data(); });
  for (size_t i = 1; i < order.size(); ++i) {
    const GgufTensor &before = *order[i - 1], &tensor = *order[i];
    if (tensor.bytes.data() >= before.bytes.data() + before.bytes.size()) continue;
    reader.field = fmt::format("tensor {}", shown(tensor.name));
    reader.fail(fmt::format("its bytes are also those of tensor {}", shown(before.name)));
  }
}

}  // namespace

size_t GgufTensor::rows() const {
  size_t product = 1;
  for (size_t d = 0; d + 1 < shape.size(); ++d) product *= shape[d];
  return product;
}

size_t GgufTensor::cols() const { return shape.empty() ? 1 : shape.back(); }

Gguf Gguf::open(const std::filesystem::path& path) {
  Gguf file;
  file.path_ = path;
  file.file_ = MappedFile(path);
  Reader reader(path, file.bytes());
  file.version_ = read_version(reader);

  reader.field = "tensor count";
  const auto tensor_count = reader.number<uint64_t>();
  reader.field = "metadata count";
  const auto field_count = reader.number<uint64_t>();
  constexpr size_t least_field_bytes = 8 + 4 + 1;           // empty key, type, one byte
  constexpr size_t least_tensor_bytes = 8 + 4 + 8 + 4 + 8;  // empty name, dimensions, one extent, type, offset
  reader.require(field_count, least_field_bytes, "fields");
  for (uint64_t i = 0; i < field_count; ++i) {
    reader.field = fmt::format("metadata field {}", i);
    std::string key = reader.string();
    if (key.empty()) reader.fail("the key is empty");
    reader.field = fmt::format("metadata {}", shown(key));
    if (file.has(key)) reader.fail("the key occurs twice");
    file.metadata_.emplace(std::move(key), read_value(reader));
  }

  reader.field = "tensor count";
  reader.require(tensor_count, least_tensor_bytes, "tensors");
  std::vector<TensorEntry> entries;
  entries.reserve(tensor_count);
  for (uint64_t i = 0; i < tensor_count; ++i) {
    reader.field = fmt::format("tensor {}", i);
    std::string name = reader.string();
    if (name.empty()) reader.fail("the name is empty");
    reader.field = fmt::format("tensor {}", shown(name));
    if (!file.tensor_index_.emplace(name, i).second) reader.fail("the name occurs twice");
    entries.push_back(read_tensor(reader, std::move(name)));
  }

  const size_t alignment = read_alignment(reader, file.metadata_);
  const size_t data_start = (reader.position() + alignment - 1) / alignment * alignment;
  const std::span<const std::byte> data =
      data_start < file.bytes().size() ? file.bytes().subspan(data_start) : std::span<const std::byte>();
  file.tensors_.reserve(entries.size());
  for (TensorEntry& entry : entries) {
    reader.field = fmt::format("tensor {}", shown(entry.tensor.name));
    if (entry.offset % alignment != 0)
      reader.fail(fmt::format("offset {} is not a multiple of the alignment {}", entry.offset, alignment));
    if (entry.offset > data.size() || entry.size > data.size() - entry.offset)
      reader.fail(fmt::format("{} bytes at offset {} reach past the {} bytes of tensor data; the file is cut off",
                              entry.size, entry.offset, data.size()));
    entry.tensor.bytes = data.subspan(entry.offset, entry.size);
    file.tensors_.push_back(std::move(entry.tensor));
  }
  refuse_overlaps(reader, file.tensors_);
  return file;
}

bool Gguf::has(std::string_view key) const { return metadata_.find(key) != metadata_.end(); }

int64_t Gguf::integer(std::string_view key) const {
  const GgufValue& value = look_up(*this, key);
  if (const bool* boolean = std::get_if<bool>(&value)) return *boolean;
  if (const int64_t* integer = std::get_if<int64_t>(&value)) return *integer;
  fail_type<int64_t>(*this, key);
}

double Gguf::real(std::string_view key) const {
  const GgufValue& value = look_up(*this, key);
  if (const int64_t* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
  if (const double* real = std::get_if<double>(&value)) return *real;
  fail_type<double>(*this, key);
}

bool Gguf::boolean(std::string_view key) const { return typed<bool>(*this, key); }
const std::string& Gguf::string(std::string_view key) const { return typed<std::string>(*this, key); }
const std::vector<std::string>& Gguf::strings(std::string_view key) const {
  return typed<std::vector<std::string>>(*this, key);
}
const std::vector<int64_t>& Gguf::integers(std::string_view key) const {
  return typed<std::vector<int64_t>>(*this, key);
}
const std::vector<double>& Gguf::reals(std::string_view key) const { return typed<std::vector<double>>(*this, key); }

int64_t Gguf::integer_or(std::string_view key, int64_t fallback) const { return has(key) ? integer(key) : fallback; }
double Gguf::real_or(std::string_view key, double fallback) const { return has(key) ? real(key) : fallback; }
bool Gguf::boolean_or(std::string_view key, bool fallback) const { return has(key) ? boolean(key) : fallback; }
std::string Gguf::string_or(std::string_view key, std::string fallback) const {
  if (has(key)) return string(key);
  return fallback;
}

const GgufTensor* Gguf::find_tensor(std::string_view tensor_name) const {
  const auto found = tensor_index_.find(tensor_name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

const GgufTensor& Gguf::tensor(std::string_view tensor_name, std::span<const size_t> shape) const {
  const GgufTensor* found = find_tensor(tensor_name);
  if (!found)
    throw Error(ErrorCode::corrupt, fmt::format("'{}': tensor {} is missing", path_.string(), shown(tensor_name)));
  if (!std::ranges::equal(found->shape, shape))
    throw Error(ErrorCode::corrupt,
                fmt::format("'{}': tensor {} has shape [{}] where [{}] is needed", path_.string(), shown(tensor_name),
                            fmt::join(found->shape, ", "), fmt::join(shape, ", ")));
  return *found;
}

}  // namespace hone
