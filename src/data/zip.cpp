#include "data/zip.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "data/deflate.h"

namespace hone {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t local_signature = 0x04034b50, central_signature = 0x02014b50, end_signature = 0x06054b50;
constexpr uint32_t end64_signature = 0x06064b50, locator64_signature = 0x07064b50;
constexpr size_t local_bytes = 30, central_bytes = 46, end_bytes = 22, end64_bytes = 56, locator64_bytes = 20;
constexpr size_t longest_comment = 0xffff;
constexpr uint32_t in_extra = 0xffffffff;  // a 32-bit field whose value stands in the Zip64 extra field
constexpr uint16_t zip64_extra = 1;
constexpr unsigned encrypted = 1, stored = 0, deflated = 8;
constexpr uint16_t version = 45;         // that Zip64 needs
constexpr uint16_t utf8_names = 0x0800;  // flag

[[noreturn]] void fail(const std::filesystem::path& path, std::string_view problem,
                       ErrorCode code = ErrorCode::corrupt) {
  throw Error(code, fmt::format("'{}': {}", path.string(), problem));
}

// A part of the file whose fields are read at offsets inside it.
class Fields {
 public:
  Fields(const std::filesystem::path& path, std::span<const std::byte> file, uint64_t at, uint64_t size) {
    if (at > file.size() || size > file.size() - at) fail(path, "the archive is cut off or damaged; get it again");
    bytes_ = file.subspan(at, size);
  }
  template <class T>
  T get(size_t offset) const {
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

struct Directory {
  uint64_t at = 0, entries = 0;
};

Directory find_directory(const std::filesystem::path& path, std::span<const std::byte> file) {
  const size_t lowest = file.size() < end_bytes + longest_comment ? 0 : file.size() - end_bytes - longest_comment;
  for (size_t back = end_bytes; back <= file.size() - lowest; ++back) {
    const size_t at = file.size() - back;
    const Fields end(path, file, at, end_bytes);
    if (end.get<uint32_t>(0) != end_signature || end.get<uint16_t>(20) != back - end_bytes) continue;
    if (at >= locator64_bytes) {
      const Fields locator(path, file, at - locator64_bytes, locator64_bytes);
      if (locator.get<uint32_t>(0) == locator64_signature) {
        const Fields end64(path, file, locator.get<uint64_t>(8), end64_bytes);
        if (end64.get<uint32_t>(0) != end64_signature)
          fail(path, "the Zip64 directory's end is not where it should be");
        return {end64.get<uint64_t>(48), end64.get<uint64_t>(32)};
      }
    }
    return {end.get<uint32_t>(16), end.get<uint16_t>(10)};
  }
  fail(path, "the archive has no directory: it is cut off or not a zip file; get it again");
}

}  // namespace

bool is_zip(std::span<const std::byte> bytes) {
  uint32_t signature = 0;
  if (bytes.size() < sizeof(signature)) return false;
  std::memcpy(&signature, bytes.data(), sizeof(signature));
  return signature == local_signature || signature == end_signature;
}

ZipFile ZipFile::open(const std::filesystem::path& path) {
  ZipFile zip;
  zip.path_ = path;
  zip.file_ = MappedFile(path);
  const std::span<const std::byte> file = zip.file_.bytes();
  auto [at, entries] = find_directory(path, file);
  for (; entries > 0; --entries) {
    const Fields entry(path, file, at, central_bytes);
    if (entry.get<uint32_t>(0) != central_signature) fail(path, "the archive's directory is damaged; get it again");
    const uint64_t name_bytes = entry.get<uint16_t>(28), extra_bytes = entry.get<uint16_t>(30);
    const Fields name(path, file, at + central_bytes, name_bytes);
    const Fields extra(path, file, at + central_bytes + name_bytes, extra_bytes);
    Member member{{reinterpret_cast<const char*>(name.bytes().data()), name_bytes},
                  entry.get<uint16_t>(8),
                  entry.get<uint16_t>(10),
                  entry.get<uint32_t>(16),
                  entry.get<uint32_t>(20),
                  entry.get<uint32_t>(24),
                  entry.get<uint32_t>(42)};
    for (size_t e = 0; e + 4 <= extra_bytes;) {
      const size_t length = extra.get<uint16_t>(e + 2);
      if (e + 4 + length > extra_bytes) fail(path, "a directory entry's extra field is damaged; get it again");
      size_t next = e + 4;
      if (extra.get<uint16_t>(e) == zip64_extra) {
        for (uint64_t* field : {&member.size, &member.packed, &member.header}) {
          if (*field != in_extra || next + sizeof(uint64_t) > e + 4 + length) continue;
          *field = extra.get<uint64_t>(next);
          next += sizeof(uint64_t);
        }
      }
      e += 4 + length;
    }
    zip.members_.push_back(std::move(member));
    at += central_bytes + name_bytes + extra_bytes + entry.get<uint16_t>(32);
  }
  return zip;
}

std::vector<std::string> ZipFile::names() const {
  std::vector<std::string> names;
  for (const Member& member : members_) names.push_back(member.name);
  return names;
}

ZipContents ZipFile::read(std::string_view name) const {
  const auto member = std::ranges::find(members_, name, &Member::name);
  if (member == members_.end())
    fail(path_,
         fmt::format("there is no {}; it holds {}", name,
                     members_.empty() ? "nothing" : fmt::format("{}", fmt::join(names(), ", "))),
         ErrorCode::not_found);
  const std::string source = fmt::format("'{}': {}", path_.string(), name);
  if ((member->flags & encrypted) != 0) throw Error(ErrorCode::unsupported, source + " is encrypted");
  if (member->method != stored && member->method != deflated)
    throw Error(
        ErrorCode::unsupported,
        fmt::format("{} is compressed by method {}; hone reads stored and deflated members", source, member->method));
  const std::span<const std::byte> file = file_.bytes();
  const Fields local(path_, file, member->header, local_bytes);
  if (local.get<uint32_t>(0) != local_signature)
    fail(path_, fmt::format("{} is not where the directory says; get the file again", name));
  const uint64_t at = member->header + local_bytes + local.get<uint16_t>(26) + local.get<uint16_t>(28);
  const std::span<const std::byte> packed = Fields(path_, file, at, member->packed).bytes();
  if (member->method == stored && member->packed != member->size)
    fail(path_,
         fmt::format("{} is stored in {} bytes but has {}; get the file again", name, member->packed, member->size));
  ZipContents contents =
      member->method == stored ? ZipContents(packed) : ZipContents(inflate_raw(packed, member->size, source));
  if (crc32_of(contents.bytes()) != member->checksum)
    fail(path_, fmt::format("{} has another checksum than the archive says; get the file again", name));
  return contents;
}

namespace {

template <class... T>
void put(std::string& to, T... values) {
  (to.append(reinterpret_cast<const char*>(&values), sizeof(values)), ...);
}

// What the local and the central header have in common, with every size in a Zip64 extra field.
void put_common(std::string& to, uint32_t checksum, size_t name_bytes, uint16_t extra_bytes) {
  constexpr uint16_t time = 0, date = 1 << 5 | 1;  // 1980-01-01: the same values, the same bytes
  put(to, version, utf8_names, uint16_t{stored}, time, date, checksum, in_extra, in_extra,
      static_cast<uint16_t>(name_bytes), extra_bytes);
}

}  // namespace

void write_zip(const std::filesystem::path& path, std::span<const ZipEntry> entries) {
  std::vector<std::string> headers(entries.size());
  std::vector<std::string_view> pieces;
  std::set<std::string_view> names;
  std::string directory;
  uint64_t at = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    const ZipEntry& entry = entries[i];
    if (!names.insert(entry.name).second || entry.name.size() > 0xffff)
      fail(path, fmt::format("the name {} occurs twice or is too long", entry.name), ErrorCode::bad_input);
    uint64_t size = 0;
    uint32_t checksum = 0;
    for (const std::string_view part : entry.parts) {
      checksum = crc32_of(std::as_bytes(std::span(part)), checksum);
      size += part.size();
    }
    std::string& header = headers[i];
    put(header, local_signature);
    put_common(header, checksum, entry.name.size(), 20);
    header += entry.name;
    put(header, zip64_extra, uint16_t{16}, size, size);
    put(directory, central_signature, version);
    put_common(directory, checksum, entry.name.size(), 28);
    put(directory, uint16_t{0}, uint16_t{0}, uint16_t{0}, uint32_t{0}, in_extra);
    directory += entry.name;
    put(directory, zip64_extra, uint16_t{24}, size, size, at);
    pieces.push_back(header);
    pieces.insert(pieces.end(), entry.parts.begin(), entry.parts.end());
    at += header.size() + size;
  }
  const uint64_t directory_bytes = directory.size(), count = entries.size(), end64 = at + directory_bytes;
  put(directory, end64_signature, uint64_t{end64_bytes - 12}, version, version, uint32_t{0}, uint32_t{0}, count, count,
      directory_bytes, at);
  put(directory, locator64_signature, uint32_t{0}, end64, uint32_t{1});
  put(directory, end_signature, uint16_t{0}, uint16_t{0}, uint16_t{0xffff}, uint16_t{0xffff}, in_extra, in_extra,
      uint16_t{0});
  pieces.push_back(directory);
  write_file_atomically(path, pieces);
}

}  // namespace hone
