#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/files.h"
#include "data/npy.h"
#include "data/utf32.h"
#include "data/zip.h"
#include "hone/data.h"

namespace hone {
namespace {

std::string quoted(const std::filesystem::path& path) { return "'" + path.string() + "'"; }

template <class T>
std::string_view bytes_of(const T* data, size_t count) {
  return {reinterpret_cast<const char*>(data), count * sizeof(T)};
}

std::string float_header(ConstMatrixView values) {
  const size_t shape[] = {values.rows, values.cols};
  return npy_header("<f4", shape);
}

// The bytes of one array that is not a matrix, header included.
std::string encode(std::span<const int> values) {
  const size_t shape[] = {values.size()};
  std::string bytes = npy_header("<i8", shape);
  for (const int64_t value : values) bytes += bytes_of(&value, 1);
  return bytes;
}

std::string encode(std::span<const std::string> texts, std::string_view source) {
  std::vector<std::u32string> wide;
  size_t width = 1;
  for (const std::string& text : texts) {
    auto decoded = utf32(text);
    if (!decoded) throw Error(ErrorCode::bad_input, fmt::format("{}: {:?} is not UTF-8", source, text.substr(0, 100)));
    width = std::max(width, decoded->size());
    wide.push_back(std::move(*decoded));
  }
  const size_t shape[] = {texts.size()};
  std::string bytes = npy_header(fmt::format("<U{}", width), shape);
  for (std::u32string& text : wide) {
    text.resize(width);
    bytes += bytes_of(text.data(), width);
  }
  return bytes;
}

}  // namespace

struct NpyRows::File {
  MappedFile file;
  NpyArray array;
};

NpyRows NpyRows::open(const std::filesystem::path& path) {
  auto file = std::make_shared<File>();
  file->file = MappedFile(path);
  file->array = parse_npy(quoted(path), file->file.bytes());
  check_matrix(file->array);
  NpyRows rows;
  rows.file_ = std::move(file);
  return rows;
}

size_t NpyRows::rows() const { return file_->array.rows(); }
size_t NpyRows::cols() const { return file_->array.cols(); }

void NpyRows::read(size_t first, MatrixView out) const {
  if (first > rows() || out.rows > rows() - first || out.cols != cols())
    throw Error(ErrorCode::bad_input,
                fmt::format("{}: there are no rows [{}, {}) of {} columns; it is [{}, {}]", file_->array.source, first,
                            first + out.rows, out.cols, rows(), cols()));
  file_->array.read(first, out);
}

Matrix read_npy(const std::filesystem::path& path) {
  const MappedFile file(path);
  return as_matrix(parse_npy(quoted(path), file.bytes()));
}

void write_npy(const std::filesystem::path& path, ConstMatrixView values) {
  const std::string header = float_header(values);
  const std::string_view parts[] = {header, bytes_of(values.data, values.rows * values.cols)};
  write_file_atomically(path, parts);
}

void write_npz(const std::filesystem::path& path, std::span<const NpzArray> arrays) {
  std::vector<std::string> encoded(arrays.size());
  std::vector<ZipEntry> entries;
  for (size_t i = 0; i < arrays.size(); ++i) {
    ZipEntry entry{arrays[i].name + ".npy", {}};
    if (const auto* matrix = std::get_if<ConstMatrixView>(&arrays[i].values)) {
      encoded[i] = float_header(*matrix);
      entry.parts = {encoded[i], bytes_of(matrix->data, matrix->rows * matrix->cols)};
    } else {
      const auto* numbers = std::get_if<std::span<const int>>(&arrays[i].values);
      encoded[i] = numbers ? encode(*numbers)
                           : encode(std::get<std::span<const std::string>>(arrays[i].values),
                                    fmt::format("{}: {}", quoted(path), arrays[i].name));
      entry.parts = {encoded[i]};
    }
    entries.push_back(std::move(entry));
  }
  write_zip(path, entries);
}

}  // namespace hone
