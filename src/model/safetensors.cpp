#include "model/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "model/quantization.h"

namespace hone {
namespace {

using nlohmann::json;
static_assert(std::endian::native == std::endian::little);

constexpr size_t max_header_bytes = 100'000'000;  // the format's own limit
constexpr int max_depth = 3;                      // file { entry { shape [
constexpr std::string_view metadata_key = "__metadata__";

struct Dtype {
  std::string_view name;
  size_t bytes;
};
constexpr Dtype dtypes[] = {{"F64", 8},  {"F32", 4}, {"F16", 2},     {"BF16", 2},   {"I64", 8}, {"I32", 4},
                            {"I16", 2},  {"I8", 1},  {"U64", 8},     {"U32", 4},    {"U16", 2}, {"U8", 1},
                            {"BOOL", 1}, {"C64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};

[[noreturn]] void fail(const std::filesystem::path& path, std::string_view entry, std::string_view problem,
                       ErrorCode code = ErrorCode::corrupt) {
  throw Error(code, fmt::format("'{}': {}: {}", path.string(), entry, problem));
}

std::string shown_name(std::string_view name) { return fmt::format("{:?}", name.substr(0, 100)); }

// Parses the header; refuses nesting that the format does not have and keys that occur twice.
json parse_header(const std::filesystem::path& path, std::string_view text) {
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    using Event = json::parse_event_t;
    if ((event == Event::object_start || event == Event::array_start) && depth >= max_depth)
      fail(path, "header", "the JSON is nested too deeply");
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(parsed.get_ref<const std::string&>()).second)
      fail(path, "header", fmt::format("{} occurs twice", shown_name(parsed.get_ref<const std::string&>())));
    return true;
  };
  try {
    json header = json::parse(text, check);
    if (!header.is_object()) fail(path, "header", "the JSON is not an object");
    return header;
  } catch (const json::exception& error) {
    fail(path, "header", error.what());
  }
}

std::vector<size_t> read_sizes(const std::filesystem::path& path, std::string_view entry, const json& fields,
                               const char* key) {
  const auto found = fields.find(key);
  if (found == fields.end() || !found->is_array()) fail(path, entry, fmt::format("{} is not an array", key));
  std::vector<size_t> sizes;
  for (const json& item : *found) {
    if (!item.is_number_unsigned()) fail(path, entry, fmt::format("{} holds something that is not a size", key));
    sizes.push_back(item.get<size_t>());
  }
  return sizes;
}

SafeTensor read_entry(const std::filesystem::path& path, std::string_view entry, const json& fields,
                      std::span<const std::byte> data) {
  if (!fields.is_object()) fail(path, entry, "the entry is not an object");
  SafeTensor tensor;
  const auto dtype = fields.find("dtype");
  if (dtype == fields.end() || !dtype->is_string()) fail(path, entry, "dtype is not a string");
  tensor.dtype = dtype->get<std::string>();
  tensor.shape = read_sizes(path, entry, fields, "shape");
  const std::vector<size_t> offsets = read_sizes(path, entry, fields, "data_offsets");
  if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data.size())
    fail(path, entry, fmt::format("data_offsets are not a range inside the {} bytes of data", data.size()));
  tensor.bytes = data.subspan(offsets[0], offsets[1] - offsets[0]);

  size_t values = 1;
  for (const size_t extent : tensor.shape)
    if (__builtin_mul_overflow(values, extent, &values)) fail(path, entry, "the shape is too large");
  const auto* known = std::ranges::find(dtypes, tensor.dtype, &Dtype::name);
  size_t bytes = 0;
  if (known != std::end(dtypes) &&
      (__builtin_mul_overflow(values, known->bytes, &bytes) || bytes != tensor.bytes.size()))
    fail(path, entry, fmt::format("{} values of {} do not take {} bytes", values, tensor.dtype, tensor.bytes.size()));
  return tensor;
}

// The format allows neither gaps nor overlaps, nor bytes behind the last tensor.
void check_coverage(const std::filesystem::path& path, const std::map<std::string, SafeTensor, std::less<>>& tensors,
                    std::span<const std::byte> data) {
  std::vector<std::span<const std::byte>> ranges;
  std::ranges::transform(tensors, std::back_inserter(ranges), [](const auto& named) { return named.second.bytes; });
  std::ranges::sort(ranges, {}, [](const auto& range) { return std::pair(range.data(), range.size()); });
  const std::byte* end = data.data();
  for (const auto& range : ranges) {
    if (range.data() != end) fail(path, "data_offsets", "tensors overlap or leave a gap");
    end += range.size();
  }
  if (end != data.data() + data.size()) fail(path, "data_offsets", "bytes follow the last tensor");
}

template <class T>
void convert(std::span<const std::byte> bytes, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = static_cast<float>(value);
  }
}

}  // namespace

SafeTensors SafeTensors::open(const std::filesystem::path& path) {
  SafeTensors file;
  file.path_ = path;
  file.file_ = MappedFile(path);
  const std::span<const std::byte> bytes = file.file_.bytes();
  uint64_t header_bytes = 0;
  if (bytes.size() < sizeof(header_bytes)) fail(path, "header", "this is not a safetensors file");
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  if (header_bytes > bytes.size() - sizeof(header_bytes) || header_bytes > max_header_bytes)
    fail(path, "header",
         fmt::format("{} bytes of header do not fit; the file is cut off or not safetensors", header_bytes));
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + sizeof(header_bytes);
  const json header = parse_header(path, {text, header_bytes});
  const std::span<const std::byte> data = bytes.subspan(sizeof(header_bytes) + header_bytes);

  for (const auto& [name, fields] : header.items()) {
    if (name != metadata_key) {
      file.tensors_.emplace(name, read_entry(path, fmt::format("tensor {}", shown_name(name)), fields, data));
      continue;
    }
    if (!fields.is_object()) fail(path, name, "not an object");
    for (const auto& [key, value] : fields.items()) {
      if (!value.is_string()) fail(path, name, fmt::format("{} is not a string", shown_name(key)));
      file.metadata_.emplace(key, value.get<std::string>());
    }
  }
  check_coverage(path, file.tensors_, data);
  return file;
}

Matrix SafeTensors::matrix(std::string_view name) const {
  const std::string entry = fmt::format("tensor {}", shown_name(name));
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail(path_, entry, "the tensor is missing", ErrorCode::not_found);
  const SafeTensor& tensor = found->second;
  size_t rows = 1;
  for (size_t d = 0; d + 1 < tensor.shape.size(); ++d) rows *= tensor.shape[d];
  const size_t cols = tensor.shape.empty() ? 1 : tensor.shape.back();

  const auto read = [&](auto&& fill) {
    Matrix values = Matrix::uninitialized(rows, cols);
    fill(tensor.bytes, std::span<float>(values.data(), values.size()));
    return values;
  };
  const auto widen = [](TensorType type) {
    return [type](std::span<const std::byte> bytes, std::span<float> out) { dequantize(type, bytes, out); };
  };
  if (tensor.dtype == "F32") return read(widen(TensorType::f32));
  if (tensor.dtype == "F16") return read(widen(TensorType::f16));
  if (tensor.dtype == "BF16") return read(widen(TensorType::bf16));
  if (tensor.dtype == "F64") return read(convert<double>);
  if (tensor.dtype == "I32") return read(convert<int32_t>);
  if (tensor.dtype == "I64") return read(convert<int64_t>);
  fail(path_, entry, fmt::format("dtype {} cannot be read as fp32", shown_name(tensor.dtype)), ErrorCode::unsupported);
}

void write_safetensors(const std::filesystem::path& path, std::span<const NamedMatrix> tensors,
                       const std::map<std::string, std::string>& metadata) {
  json header = json::object();
  if (!metadata.empty()) header[metadata_key] = metadata;
  size_t end = 0;
  for (const NamedMatrix& tensor : tensors) {
    if (tensor.name == metadata_key || header.contains(tensor.name))
      fail(path, shown_name(tensor.name), "the name is reserved or occurs twice", ErrorCode::bad_input);
    const size_t start = end, values = tensor.values.rows * tensor.values.cols;
    end += values * sizeof(float);
    std::vector<size_t> shape = tensor.shape;
    if (shape.empty()) shape = {tensor.values.rows, tensor.values.cols};
    if (std::reduce(shape.begin(), shape.end(), size_t{1}, std::multiplies<>()) != values)
      fail(path, shown_name(tensor.name),
           fmt::format("[{}] is not the shape of {} values", fmt::join(shape, ", "), values), ErrorCode::bad_input);
    header[tensor.name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {start, end}}};
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    fail(path, "header", "names and metadata must be UTF-8", ErrorCode::bad_input);
  }
  constexpr size_t alignment = 8;
  text.resize((text.size() + alignment - 1) / alignment * alignment, ' ');
  const uint64_t header_bytes = text.size();

  std::string contents;
  contents.reserve(sizeof(header_bytes) + text.size() + end);
  contents.append(reinterpret_cast<const char*>(&header_bytes), sizeof(header_bytes)).append(text);
  for (const NamedMatrix& tensor : tensors)
    contents.append(reinterpret_cast<const char*>(tensor.values.data),
                    tensor.values.rows * tensor.values.cols * sizeof(float));
  write_file_atomically(path, contents);
}

}  // namespace hone
