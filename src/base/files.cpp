#include "base/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "hone/base.h"

namespace hone {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void fail(const std::filesystem::path& path, std::string_view action) {
  const int reason = errno;
  const ErrorCode code = reason == ENOENT ? ErrorCode::not_found : ErrorCode::io;
  throw Error(code,
              fmt::format("cannot {} '{}': {}; {}", action, path.string(), std::strerror(reason), advice_for(reason)));
}

size_t open_regular(const std::filesystem::path& path, int fd) {
  struct stat info {};
  if (fd < 0 || ::fstat(fd, &info) != 0) fail(path, "open");
  if (!S_ISREG(info.st_mode))
    throw Error(ErrorCode::bad_input,
                fmt::format("'{}' is not a regular file; give the path of a file", path.string()));
  return static_cast<size_t>(info.st_size);
}

// A new file beside `path`, with the permissions that a new file has here; -1 with errno where the system refuses.
int open_beside(const std::filesystem::path& path, std::string& temporary) {
  constexpr int most = 1000;
  for (int attempt = 0; attempt < most; ++attempt) {
    temporary = fmt::format("{}.{}-{}", path.string(), ::getpid(), attempt);
    const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

// A device or a pipe: there is nothing to put in its place.
void write_as_it_stands(const std::filesystem::path& path, std::span<const std::string_view> parts) {
  const Descriptor fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd < 0 || !std::ranges::all_of(parts, [&](std::string_view part) { return write_all(fd, part); }))
    fail(path, "write");
}

template <class Digest>
std::string hex(const Digest& digest) {
  std::string text;
  for (unsigned char byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace

std::string_view advice_for(int reason) {
  switch (reason) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG: return "check the path";
    case EACCES:
    case EPERM: return "check its permissions";
    case EROFS: return "choose a place that can be written";
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return "free some space and run it again";
    default: return "check its disk";
  }
}

MappedFile::MappedFile(const std::filesystem::path& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  size_ = open_regular(path, fd);
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
  if (address == MAP_FAILED) fail(path, "map");
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::drop_pages() const {
  if (data_) ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::string read_file(const std::filesystem::path& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string contents(open_regular(path, fd), '\0');
  size_t done = 0;
  while (done < contents.size()) {
    const ssize_t got = ::read(fd, contents.data() + done, contents.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path, "read");
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  contents.resize(done);
  return contents;
}

std::filesystem::path behind_links(const std::filesystem::path& path) {
  constexpr int most_links = 40;  // as the system
  struct stat info {};
  // Where the system does not follow a link, as one that a stranger put into a shared folder, neither do we.
  if (::stat(path.c_str(), &info) != 0 && errno != ENOENT) fail(path, "write");
  std::filesystem::path place = path;
  for (int i = 0; i <= most_links; ++i) {
    std::error_code failure;
    if (!std::filesystem::is_symlink(std::filesystem::symlink_status(place, failure))) return place;
    place = place.parent_path() / std::filesystem::read_symlink(place, failure);  // an absolute one takes its place
    if (failure) {
      errno = failure.value();
      fail(path, "write");
    }
  }
  errno = ELOOP;
  fail(path, "write");
}

void write_file_atomically(const std::filesystem::path& path, std::string_view contents) {
  write_file_atomically(path, std::span(&contents, 1));
}

void write_file_atomically(const std::filesystem::path& path, std::span<const std::string_view> parts) {
  struct stat before {};
  const bool replaces = ::stat(path.c_str(), &before) == 0;
  if (replaces && !S_ISREG(before.st_mode)) return write_as_it_stands(path, parts);
  const std::filesystem::path file = behind_links(path);
  std::string temporary;
  const Descriptor fd(open_beside(file, temporary));
  if (fd < 0) fail(path, "write beside");
  const auto write = [&](std::string_view part) { return write_all(fd, part); };
  if (!std::ranges::all_of(parts, write) || (replaces && ::fchmod(fd, before.st_mode & 07777) != 0) ||
      ::fsync(fd) != 0 || ::rename(temporary.c_str(), file.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary.c_str());
    errno = reason;
    fail(path, "write");
  }
}

void write_file_from(const std::filesystem::path& path, uint64_t offset, std::string_view contents) {
  const Descriptor fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  const auto at = static_cast<off_t>(offset);
  if (fd < 0 || ::ftruncate(fd, at) != 0 || ::lseek(fd, at, SEEK_SET) != at || !write_all(fd, contents) ||
      ::fsync(fd) != 0)
    fail(path, "write");
}

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(put));
  }
  return true;
}

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

void make_folder(const std::filesystem::path& folder) {
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  if (failure)
    throw Error(ErrorCode::io, fmt::format("cannot make the folder '{}': {}; {}", folder.string(), failure.message(),
                                           advice_for(failure.value())));
}

std::vector<std::filesystem::path> folder_entries(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> entries;
  std::error_code failure;
  for (std::filesystem::directory_iterator at(folder, failure), end; !failure && at != end; at.increment(failure))
    entries.push_back(at->path());
  if (failure && failure != std::errc::no_such_file_or_directory)
    throw Error(ErrorCode::io, fmt::format("cannot read the folder '{}': {}; {}", folder.string(), failure.message(),
                                           advice_for(failure.value())));
  std::ranges::sort(entries);
  return entries;
}

std::string content_hash(std::span<const std::byte> bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  return hex(canonical.digest);
}

std::string content_hash(std::string_view text) { return content_hash(std::as_bytes(std::span(text))); }

std::string sha256(const std::filesystem::path& path) {
  const MappedFile file(path);
  std::array<unsigned char, 32> digest{};
  unsigned int length = 0;
  if (EVP_Digest(file.bytes().data(), file.bytes().size(), digest.data(), &length, EVP_sha256(), nullptr) != 1)
    throw Error(ErrorCode::io, fmt::format("cannot hash '{}'", path.string()));
  return hex(digest);
}

std::filesystem::path cache_directory() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache) return std::filesystem::path(cache) / "hone";
  if (const char* home = std::getenv("HOME"); home && *home) return std::filesystem::path(home) / ".cache" / "hone";
  throw Error(ErrorCode::bad_input, "neither XDG_CACHE_HOME nor HOME is set; set one of them");
}

}  // namespace hone
