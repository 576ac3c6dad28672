#include "data/idx.h"

#include <fmt/format.h>

#include "data/contents.h"
#include "hone/data.h"

namespace hone {
namespace {

constexpr std::byte unsigned_bytes{8};
constexpr size_t magic_bytes = 4;

[[noreturn]] void refuse_idx(const std::string& source, std::string_view problem, ErrorCode code = ErrorCode::corrupt) {
  throw Error(code, fmt::format("{}: {}", source, problem));
}

struct Idx {
  std::vector<size_t> shape;
  std::span<const std::byte> values;
};

Idx parse(std::span<const std::byte> bytes, const std::string& source) {
  if (bytes.empty()) refuse_idx(source, "it is empty");
  if (bytes.size() < magic_bytes || bytes[0] != std::byte{0} || bytes[1] != std::byte{0})
    refuse_idx(source, "this is not an IDX file: it does not begin with two zero bytes");
  if (bytes[2] != unsigned_bytes)
    refuse_idx(
        source,
        fmt::format("its values are of type {:#04x}; hone reads unsigned bytes, 0x08", static_cast<int>(bytes[2])),
        ErrorCode::unsupported);
  Idx idx;
  const auto dimensions = static_cast<size_t>(bytes[3]);
  const size_t begin = magic_bytes + dimensions * sizeof(uint32_t);
  if (dimensions == 0 || begin > bytes.size()) refuse_idx(source, "it is cut off in its header; get the file again");
  size_t size = 1;
  bool fits = true;
  for (size_t at = magic_bytes; at < begin; at += sizeof(uint32_t)) {
    size_t extent = 0;
    for (size_t i = 0; i < sizeof(uint32_t); ++i) extent = extent << 8 | static_cast<size_t>(bytes[at + i]);
    idx.shape.push_back(extent);
    fits = !__builtin_mul_overflow(size, extent, &size) && fits;
  }
  idx.values = bytes.subspan(begin);
  if (!fits || size != idx.values.size())
    refuse_idx(source, fmt::format("it holds {} bytes where its header says {}; get the file again", idx.values.size(),
                                   fits ? fmt::format("{}", size) : "more than memory can"));
  return idx;
}

}  // namespace

bool is_idx(std::span<const std::byte> bytes) {
  return bytes.size() >= magic_bytes && bytes[0] == std::byte{0} && bytes[1] == std::byte{0} &&
         bytes[3] != std::byte{0} && bytes[2] >= unsigned_bytes && bytes[2] <= std::byte{14};
}

Matrix idx_images(std::span<const std::byte> bytes, const std::string& source) {
  const Idx idx = parse(bytes, source);
  if (idx.shape.size() < 2) refuse_idx(source, "it holds one number an item: labels, not images", ErrorCode::bad_input);
  size_t pixels = 1;
  for (size_t d = 1; d < idx.shape.size(); ++d)
    if (__builtin_mul_overflow(pixels, idx.shape[d], &pixels))
      refuse_idx(source, "its images are larger than memory can hold");
  Matrix images = Matrix::uninitialized(idx.shape[0], pixels);
  for (size_t i = 0; i < idx.values.size(); ++i) images.data()[i] = static_cast<float>(idx.values[i]);
  return images;
}

std::vector<int> idx_labels(std::span<const std::byte> bytes, const std::string& source) {
  const Idx idx = parse(bytes, source);
  if (idx.shape.size() != 1)
    refuse_idx(source, fmt::format("it has {} dimensions: images, not labels", idx.shape.size()), ErrorCode::bad_input);
  std::vector<int> labels(idx.values.size());
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int>(idx.values[i]);
  return labels;
}

Matrix read_idx_images(const std::filesystem::path& path) {
  const Contents contents(path);
  return idx_images(contents.bytes(), contents.source());
}

std::vector<int> read_idx_labels(const std::filesystem::path& path) {
  const Contents contents(path);
  return idx_labels(contents.bytes(), contents.source());
}

}  // namespace hone
