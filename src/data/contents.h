// A file's bytes: mapped, or decompressed if they are gzip.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "base/files.h"
#include "data/deflate.h"

namespace hone {

class Contents {
 public:
  // Throws Error{not_found, io, corrupt} naming the file.
  explicit Contents(const std::filesystem::path& path) : source_("'" + path.string() + "'"), file_(path) {
    compressed_ = is_gzip(file_.bytes());
    if (compressed_) unpacked_ = gunzip(file_.bytes(), source_);
  }
  std::span<const std::byte> bytes() const { return compressed_ ? std::as_bytes(std::span(unpacked_)) : file_.bytes(); }
  const std::string& source() const { return source_; }  // the path in quotes

 private:
  std::string source_;
  MappedFile file_;
  std::string unpacked_;
  bool compressed_ = false;
};

}  // namespace hone
