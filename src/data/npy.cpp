#include "data/npy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>

#include "data/utf32.h"

namespace hone {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view magic = "\x93NUMPY";
constexpr size_t preamble = 8;  // magic and version
constexpr size_t max_dimensions = 32;
constexpr size_t alignment = 64;

[[noreturn]] void refuse_npy(std::string_view source, std::string_view problem, ErrorCode code = ErrorCode::corrupt) {
  throw Error(code, fmt::format("{}: {}", source, problem));
}

// The header's dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class HeaderReader {
 public:
  HeaderReader(NpyArray& array, std::string_view text) : array_(array), text_(text) {}

  void read() {
    bool type = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = string();
      expect(':');
      if (key == "descr" && !type) {
        type = true;
        read_type();
      } else if (key == "fortran_order" && !order) {
        order = true;
        array_.fortran_order = boolean();
      } else if (key == "shape" && !shape) {
        shape = true;
        read_shape();
      } else {
        damaged();
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_spaces();
    if (!text_.empty() || !type || !order || !shape) damaged();
  }

 private:
  [[noreturn]] void damaged() const {
    refuse_npy(array_.source, "the header is not that of an .npy array; get the file again");
  }
  void skip_spaces() { text_.remove_prefix(std::min(text_.find_first_not_of(" \t\n"), text_.size())); }
  bool accept(char c) {
    skip_spaces();
    if (!text_.starts_with(c)) return false;
    text_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    if (!accept(c)) damaged();
  }
  std::string_view string() {
    const char quote = accept('"') ? '"' : '\'';
    if (quote == '\'') expect('\'');
    const size_t end = text_.find(quote);
    if (end == std::string_view::npos) damaged();
    const std::string_view value = text_.substr(0, end);
    text_.remove_prefix(end + 1);
    return value;
  }
  bool boolean() {
    skip_spaces();
    for (const std::string_view word : {"True", "False"}) {
      if (!text_.starts_with(word)) continue;
      text_.remove_prefix(word.size());
      return word == "True";
    }
    damaged();
  }
  void read_type() {
    skip_spaces();
    if (text_.starts_with('['))
      refuse_npy(array_.source, "it is a structured array; save its fields as arrays of their own",
                 ErrorCode::unsupported);
    array_.type = string();
  }
  void read_shape() {
    expect('(');
    while (!accept(')')) {
      skip_spaces();
      size_t extent = 0;
      const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), extent);
      if (error != std::errc() || array_.shape.size() == max_dimensions) damaged();
      text_.remove_prefix(static_cast<size_t>(end - text_.data()));
      array_.shape.push_back(extent);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
  }

  NpyArray& array_;
  std::string_view text_;
};

// Sets kind, width and byte order from the type's name.
void understand_type(NpyArray& array) {
  const std::string_view type = array.type;
  const auto unsupported = [&](std::string_view advice) {
    refuse_npy(array.source, fmt::format("its elements are of type {:?}; {}", type.substr(0, 40), advice),
               ErrorCode::unsupported);
  };
  if (type.size() >= 2 && type[1] == 'O')
    unsupported(
        "these are Python objects, which hone does not unpickle: save numbers or text, as with "
        "x.astype('float32'), and rows of one length");
  size_t size = 0;
  const auto [end, error] =
      std::from_chars(type.data() + std::min<size_t>(2, type.size()), type.data() + type.size(), size);
  const bool number = error == std::errc() && end == type.data() + type.size();
  if (!number || std::string_view("<>|=").find(type[0]) == std::string_view::npos)
    unsupported("save it as float32, as integers or as text");
  array.kind = type[1];
  array.swapped = type[0] == '>';
  const auto one_of = [&](std::initializer_list<size_t> sizes) {
    return std::ranges::find(sizes, size) != sizes.end();
  };
  const bool known = array.kind == 'f'                        ? one_of({2, 4, 8})
                     : array.kind == 'i' || array.kind == 'u' ? one_of({1, 2, 4, 8})
                     : array.kind == 'b'                      ? size == 1
                     : array.kind == 'U'                      ? size < (size_t{1} << 32)
                                                              : array.kind == 'S';
  if (!known || size == 0) unsupported("save it as float32, as integers or as text");
  array.width = array.kind == 'U' ? 4 * size : size;
}

// Calls use(T{}) with the C++ type of a numeric array's elements. Half precision travels as its bits.
struct Half {
  uint16_t bits;
};

template <class Use>
void with_type(const NpyArray& array, const Use& use) {
  const size_t width = array.width;
  switch (array.kind) {
    case 'f':
      if (width == 2) return use(Half{});
      if (width == 4) return use(float{});
      return use(double{});
    case 'i':
      if (width == 1) return use(int8_t{});
      if (width == 2) return use(int16_t{});
      if (width == 4) return use(int32_t{});
      return use(int64_t{});
    default:
      if (width == 1) return use(uint8_t{});
      if (width == 2) return use(uint16_t{});
      if (width == 4) return use(uint32_t{});
      return use(uint64_t{});
  }
}

float to_float(Half half) {
  const int exponent = half.bits >> 10 & 31, mantissa = half.bits & 1023;
  const float magnitude = exponent == 31  ? (mantissa == 0 ? INFINITY : NAN)
                          : exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                          : std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  return (half.bits & 0x8000) != 0 ? -magnitude : magnitude;
}
// Beyond the range of fp32 a conversion of a double is undefined.
float to_float(double value) {
  constexpr double largest = 0x1.fffffefffffffp127;  // rounds to FLT_MAX; what is larger rounds to infinity
  if (std::abs(value) > largest) return std::copysign(INFINITY, static_cast<float>(value > 0 ? 1 : -1));
  return static_cast<float>(value);
}
template <class Integer>
float to_float(Integer value) {
  return static_cast<float>(value);
}

template <class T>
T element(const NpyArray& array, size_t index) {
  std::array<std::byte, sizeof(T)> bytes;
  std::memcpy(bytes.data(), array.elements.data() + index * sizeof(T), sizeof(T));
  if (array.swapped) std::ranges::reverse(bytes);
  return std::bit_cast<T>(bytes);
}

std::string text(const NpyArray& array, size_t index) {
  const std::span<const std::byte> bytes = array.elements.subspan(index * array.width, array.width);
  std::string result;
  if (array.kind == 'S') {
    result.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  } else {
    for (size_t i = 0; i < array.width / 4; ++i) {
      const auto code = element<uint32_t>(array, index * (array.width / 4) + i);
      if (!append_utf8(result, code))
        refuse_npy(array.source, fmt::format("entry {} holds {:#x}, which is no character", index, code));
    }
  }
  result.resize(result.find_last_not_of('\0') + 1);  // numpy pads with zeros
  return result;
}

void check_dimensions(const NpyArray& array) {
  if (array.shape.empty() || array.shape.size() > 2)
    refuse_npy(array.source,
               fmt::format("its shape is ({}); hone reads arrays of one or two dimensions, reshape it to [n, features]",
                           fmt::join(array.shape, ", ")),
               ErrorCode::bad_input);
}

}  // namespace

void NpyArray::read(size_t first, MatrixView out) const {
  if (out.cols == 0) return;
  with_type(*this, [&](auto number) {
    using T = decltype(number);
    const size_t along_row = fortran_order ? rows() : 1, along_column = fortran_order ? 1 : cols();
    for (size_t r = 0; r < out.rows; ++r)
      for (size_t c = 0; c < out.cols; ++c)
        out.row(r)[c] = to_float(element<T>(*this, (first + r) * along_column + c * along_row));
  });
}

bool is_npy(std::span<const std::byte> bytes) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

NpyArray parse_npy(std::string source, std::span<const std::byte> bytes) {
  NpyArray array;
  array.source = std::move(source);
  if (bytes.empty()) refuse_npy(array.source, "it is empty");
  if (!is_npy(bytes)) refuse_npy(array.source, "this is not an .npy array: it does not begin as numpy.save writes it");
  const int version = bytes.size() < preamble ? 0 : static_cast<int>(bytes[magic.size()]);
  const size_t size_bytes = version == 1 ? 2 : 4;
  if (bytes.size() < preamble + size_bytes) refuse_npy(array.source, "it is cut off in its header; get the file again");
  if (version < 1 || version > 3)
    refuse_npy(array.source, fmt::format("it has version {} of the format; hone reads 1 to 3", version),
               ErrorCode::unsupported);
  uint32_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data() + preamble, size_bytes);
  const size_t begin = preamble + size_bytes;
  if (header_bytes > bytes.size() - begin) refuse_npy(array.source, "it is cut off in its header; get the file again");
  HeaderReader(array, {reinterpret_cast<const char*>(bytes.data()) + begin, header_bytes}).read();
  understand_type(array);
  array.elements = bytes.subspan(begin + header_bytes);
  size_t needed = array.width;
  bool fits = true;
  for (const size_t extent : array.shape) fits = !__builtin_mul_overflow(needed, extent, &needed) && fits;
  if (!fits || needed != array.elements.size())
    refuse_npy(array.source,
               fmt::format("{} bytes of elements are not an array ({}) of {}; the file is cut off or damaged",
                           array.elements.size(), fmt::join(array.shape, ", "), array.type));
  return array;
}

void check_matrix(const NpyArray& array) {
  check_dimensions(array);
  if (!array.numeric()) refuse_npy(array.source, "it holds text where numbers are needed", ErrorCode::unsupported);
}

Matrix as_matrix(const NpyArray& array) {
  check_matrix(array);
  Matrix values = Matrix::uninitialized(array.rows(), array.cols());
  array.read(0, values);
  return values;
}

std::vector<std::string> as_labels(const NpyArray& array) {
  check_dimensions(array);
  if (array.cols() != 1)
    refuse_npy(array.source, fmt::format("it has {} columns; labels are one-dimensional", array.cols()),
               ErrorCode::bad_input);
  if (array.kind == 'f')
    refuse_npy(array.source, fmt::format("it is of type {}; labels are integers or text, as y.astype(int)", array.type),
               ErrorCode::bad_input);
  std::vector<std::string> labels(array.rows());
  for (size_t i = 0; i < labels.size() && !array.numeric(); ++i) labels[i] = text(array, i);
  if (!array.numeric()) return labels;
  with_type(array, [&](auto type) {
    using T = decltype(type);
    if constexpr (std::is_integral_v<T>)
      for (size_t i = 0; i < labels.size(); ++i) labels[i] = fmt::format("{:d}", element<T>(array, i));
  });
  return labels;
}

std::string npy_header(std::string_view type, std::span<const size_t> shape) {
  std::string dictionary = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", type,
                                       fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  const size_t begin = preamble + sizeof(uint16_t);
  const size_t end = (begin + dictionary.size() + 1 + alignment - 1) / alignment * alignment;
  dictionary.resize(end - begin - 1, ' ');
  const auto size = static_cast<uint16_t>(dictionary.size() + 1);
  std::string header(magic);
  header += {'\x01', '\x00', static_cast<char>(size & 0xff), static_cast<char>(size >> 8)};
  return header + dictionary + '\n';
}

}  // namespace hone
