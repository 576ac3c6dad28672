// Files: read-only mappings, atomic writes, hashes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hone {

// A whole file mapped PROT_READ. An empty file is an empty span. Moves only.
class MappedFile {
 public:
  MappedFile() = default;
  // Throws Error{not_found, io} naming the path.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Gives the pages that were read back to the system; reading them again is slower, nothing else changes.
  void drop_pages() const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// What to do about a file that the system refused with this errno: "check its permissions".
std::string_view advice_for(int reason);

// The whole file. Throws Error{not_found, io} naming the path.
std::string read_file(const std::filesystem::path& path);

// Where a file of this name is or would be made: the end of the links that begin here. Throws Error{io} naming it for
// links that lead in a circle or cannot be read.
std::filesystem::path behind_links(const std::filesystem::path& path);

// Writes beside the file, flushes to disk, renames: afterwards the old file or the new one is there, never half of one.
// Links stay, the file behind them is replaced; a device or a pipe is written to as it stands. Throws Error{not_found,
// io} naming the path (full disk, permissions); the old file is then untouched.
void write_file_atomically(const std::filesystem::path& path, std::string_view contents);
// The parts one after the other.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::string_view> parts);

// Cuts the file at `offset`, writes `contents` there and flushes to disk. Throws Error{not_found, io} naming the path;
// what stood before `offset` is then untouched.
void write_file_from(const std::filesystem::path& path, uint64_t offset, std::string_view contents);

// Writes all of `bytes` to an open file; false with errno where the system refuses.
bool write_all(int fd, std::string_view bytes);

// Whether it is there; false where the system cannot say.
bool is_there(const std::filesystem::path& path);

// Makes the folder and those above it, unless it is there. Throws Error{io} naming it.
void make_folder(const std::filesystem::path& folder);

// The entries of a folder by name, none if there is no such folder. Throws Error{io} naming it.
std::vector<std::filesystem::path> folder_entries(const std::filesystem::path& folder);

// 32 lowercase hex digits of XXH3-128.
std::string content_hash(std::span<const std::byte> bytes);
std::string content_hash(std::string_view text);

// 64 lowercase hex digits.
std::string sha256(const std::filesystem::path& path);

// $XDG_CACHE_HOME/hone, else ~/.cache/hone.
std::filesystem::path cache_directory();

}  // namespace hone
