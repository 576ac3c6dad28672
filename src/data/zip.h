// Zip archives (PKWARE APPNOTE 6.3, Zip64 included) of stored or deflated members, as numpy.savez writes them.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"
#include "hone/base.h"

namespace hone {

bool is_zip(std::span<const std::byte> bytes);

// A member's bytes: part of the mapped file, or inflated.
class ZipContents {
 public:
  explicit ZipContents(std::span<const std::byte> stored) : stored_(stored) {}
  explicit ZipContents(std::string inflated) : inflated_(std::move(inflated)) {}
  std::span<const std::byte> bytes() const { return stored_.data() ? stored_ : std::as_bytes(std::span(inflated_)); }

 private:
  std::span<const std::byte> stored_;
  std::string inflated_;
};

// Immutable.
class ZipFile {
 public:
  // Reads the directory. Throws Error{not_found, io, corrupt} naming the file.
  static ZipFile open(const std::filesystem::path& path);

  std::vector<std::string> names() const;
  // Valid while this object lives. Throws Error{not_found} listing the names, Error{corrupt} for a wrong checksum,
  // Error{unsupported} for encryption and other methods.
  ZipContents read(std::string_view name) const;

 private:
  struct Member {
    std::string name;
    unsigned flags = 0, method = 0;
    uint32_t checksum = 0;
    uint64_t packed = 0, size = 0, header = 0;  // bytes in the file and unpacked, offset of the local header
  };

  std::filesystem::path path_;
  MappedFile file_;
  std::vector<Member> members_;
};

// A member to be stored: its bytes are the parts one after the other.
struct ZipEntry {
  std::string name;
  std::vector<std::string_view> parts;
};
// Atomic. Throws Error{io}, Error{bad_input} for a name twice.
void write_zip(const std::filesystem::path& path, std::span<const ZipEntry> entries);

}  // namespace hone
