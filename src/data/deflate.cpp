#include "data/deflate.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <limits>
#include <new>

namespace hone {
namespace {

constexpr int raw = -MAX_WBITS;
constexpr int gzip = MAX_WBITS + 16;
constexpr size_t largest_ratio = 1032;  // of DEFLATE: 258 bytes from 2 bits
constexpr size_t first_piece = size_t{1} << 16;

[[noreturn]] void damaged_stream(std::string_view source, std::string_view problem) {
  throw Error(ErrorCode::corrupt, fmt::format("{}: {}; get the file again", source, problem));
}

// One zlib stream over bytes that stay where they are.
class Inflater {
 public:
  Inflater(std::span<const std::byte> bytes, int format) : left_(bytes) {
    if (inflateInit2(&stream_, format) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // Fills `to` as far as the stream goes; returns how much that was. Sets ended() at the stream's end.
  size_t read(std::span<char> to, std::string_view source) {
    size_t done = 0;
    while (done < to.size() && !ended_) {
      const auto in = static_cast<uInt>(std::min<size_t>(left_.size(), std::numeric_limits<uInt>::max()));
      const auto out = static_cast<uInt>(std::min<size_t>(to.size() - done, std::numeric_limits<uInt>::max()));
      stream_.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(left_.data()));
      stream_.avail_in = in;
      stream_.next_out = reinterpret_cast<Bytef*>(to.data() + done);
      stream_.avail_out = out;
      const int result = inflate(&stream_, Z_NO_FLUSH);
      left_ = left_.subspan(in - stream_.avail_in);
      done += out - stream_.avail_out;
      if (result == Z_MEM_ERROR) throw std::bad_alloc();
      if (result == Z_BUF_ERROR) damaged_stream(source, "the compressed data is cut off");
      if (result != Z_OK && result != Z_STREAM_END) damaged_stream(source, "the compressed data is damaged");
      ended_ = result == Z_STREAM_END;
    }
    return done;
  }
  // True if nothing more comes, which reading may have to find out.
  bool ends(std::string_view source) {
    char more = 0;
    return ended_ || read({&more, 1}, source) == 0;
  }
  bool ended() const { return ended_; }
  std::span<const std::byte> left() const { return left_; }

 private:
  z_stream stream_{};
  std::span<const std::byte> left_;
  bool ended_ = false;
};

}  // namespace

std::string inflate_raw(std::span<const std::byte> bytes, size_t size, std::string_view source) {
  if (size / largest_ratio > bytes.size())
    damaged_stream(source, fmt::format("{} bytes cannot hold {}", bytes.size(), size));
  std::string contents(size, '\0');
  Inflater inflater(bytes, raw);
  const size_t got = inflater.read(contents, source);
  if (got != size || !inflater.ends(source))
    damaged_stream(source, fmt::format("it does not hold {} bytes as it says", size));
  return contents;
}

bool is_gzip(std::span<const std::byte> bytes) {
  return bytes.size() > 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
}

std::string gunzip(std::span<const std::byte> bytes, std::string_view source) {
  std::string contents;
  while (!bytes.empty()) {
    if (!is_gzip(bytes)) damaged_stream(source, "bytes that are not gzip follow the compressed data");
    Inflater inflater(bytes, gzip);
    while (!inflater.ended()) {
      const size_t before = contents.size();
      contents.resize(before + std::max(before, first_piece));
      contents.resize(before + inflater.read(std::span(contents).subspan(before), source));
    }
    bytes = inflater.left();
  }
  return contents;
}

uint32_t crc32_of(std::span<const std::byte> bytes, uint32_t before) {
  if (bytes.empty()) return before;
  return static_cast<uint32_t>(crc32_z(before, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

}  // namespace hone
