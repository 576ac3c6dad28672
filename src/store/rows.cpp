#include "store/rows.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <system_error>
#include <tuple>

#include "base/checksum.h"
#include "base/files.h"
#include "hone/base.h"

namespace hone::store {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view temporary_prefix = "tmp-";
constexpr int64_t abandoned_seconds = 3600;
constexpr std::array<char, 8> rows_magic = {'H', 'O', 'N', 'E', 'G', 'R', 'O', 'W'};
constexpr uint32_t rows_format = 1;

// A file is this, then the key, then the row.
struct Header {
  std::array<char, 8> magic = rows_magic;
  uint32_t format = rows_format;
  uint32_t key_bytes = 0;
  uint64_t row_bytes = 0;
  uint64_t checksum = 0;  // XXH3 of key and row
};
static_assert(sizeof(Header) == 32);

fs::path file_of(const fs::path& folder, const std::string& key) { return folder / content_hash(key); }

enum class State { good, other_key, damaged };

State judge(std::string_view file, const std::string& key) {
  Header header;
  if (file.size() < sizeof header) return State::damaged;
  std::memcpy(&header, file.data(), sizeof header);
  const std::string_view contents = file.substr(sizeof header);
  const bool whole = header.magic == rows_magic && header.format == rows_format &&
                     header.key_bytes <= contents.size() && header.row_bytes == contents.size() - header.key_bytes &&
                     header.checksum == checksum(contents);
  if (!whole) return State::damaged;
  return contents.substr(0, header.key_bytes) == key ? State::good : State::other_key;
}

// The kernel's own time stamps tick too slowly to order quick uses.
timespec now() {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return time;
}

void mark_used(const fs::path& file) {
  const std::array<timespec, 2> times = {now(), now()};
  ::utimensat(AT_FDCWD, file.c_str(), times.data(), 0);
}

bool write_row(const fs::path& folder, const fs::path& file, std::string_view bytes) {
  std::string temporary = (folder / (std::string(temporary_prefix) + "XXXXXX")).string();
  const int fd = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) return false;
  const bool written = write_all(fd, bytes) && ::fchmod(fd, 0644) == 0;
  const bool closed = ::close(fd) == 0;
  if (written && closed) mark_used(temporary);
  if (written && closed && ::rename(temporary.c_str(), file.c_str()) == 0) return true;
  ::unlink(temporary.c_str());
  return false;
}

struct Entry {
  int64_t seconds;
  int64_t nanoseconds;
  std::string name;
  uint64_t size;
};

// The rows in the folder; temporaries that a killed process left are deleted on the way.
std::vector<Entry> rows_in(const fs::path& folder) {
  std::vector<Entry> rows;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    struct stat info {};
    const std::string name = entry->path().filename().string();
    if (::lstat(entry->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    if (!name.starts_with(temporary_prefix))
      rows.push_back({info.st_mtim.tv_sec, info.st_mtim.tv_nsec, name, static_cast<uint64_t>(info.st_size)});
    else if (info.st_mtim.tv_sec < now().tv_sec - abandoned_seconds)
      ::unlink(entry->path().c_str());
  }
  return rows;
}

void delete_beyond(const fs::path& folder, uint64_t budget_bytes) {
  std::vector<Entry> rows = rows_in(folder);
  uint64_t sum = 0;
  for (const Entry& row : rows) sum += row.size;
  if (sum <= budget_bytes) return;
  std::sort(rows.begin(), rows.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.seconds, a.nanoseconds, a.name) < std::tie(b.seconds, b.nanoseconds, b.name);
  });
  for (const Entry& row : rows) {
    if (sum <= budget_bytes) return;
    ::unlink((folder / row.name).c_str());
    sum -= row.size;
  }
}

// The hash of the chunk that the row in this file belongs to, if it belongs to one.
std::optional<std::string> chunk_of_row(const fs::path& file) {
  try {
    const MappedFile mapped(file);
    const std::string_view bytes(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size());
    Header header;
    if (bytes.size() < sizeof header) return std::nullopt;
    std::memcpy(&header, bytes.data(), sizeof header);
    if (header.magic != rows_magic || header.format != rows_format) return std::nullopt;
    const std::string_view key = bytes.substr(sizeof header, header.key_bytes);
    const size_t end = key.find('/');
    if (end == std::string_view::npos) return std::nullopt;
    return std::string(key.substr(0, end));
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

std::optional<StoredRow> find_row(const fs::path& folder, const std::string& key) {
  const fs::path file = file_of(folder, key);
  std::shared_ptr<const MappedFile> mapped;
  try {
    mapped = std::make_shared<MappedFile>(file);
  } catch (const Error&) {
    return std::nullopt;
  }
  const std::span<const std::byte> bytes = mapped->bytes();
  const State state = judge({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, key);
  if (state == State::damaged) ::unlink(file.c_str());
  if (state != State::good) return std::nullopt;
  mark_used(file);
  mapped->drop_pages();
  return StoredRow(mapped, bytes.size() - sizeof(Header) - key.size());
}

uint64_t bytes_of_row(const std::string& key, size_t row_bytes) { return sizeof(Header) + key.size() + row_bytes; }

bool keep_row(const fs::path& folder, const std::string& key, std::span<const std::byte> row, uint64_t budget_bytes) {
  if (bytes_of_row(key, row.size()) > budget_bytes) return false;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return false;
  std::string bytes(sizeof(Header), '\0');
  bytes += key;
  bytes.append(reinterpret_cast<const char*>(row.data()), row.size());
  Header header;
  header.key_bytes = static_cast<uint32_t>(key.size());
  header.row_bytes = row.size();
  header.checksum = checksum(std::string_view(bytes).substr(sizeof header));
  std::memcpy(bytes.data(), &header, sizeof header);
  if (!write_row(folder, file_of(folder, key), bytes)) return false;
  delete_beyond(folder, budget_bytes);
  return true;
}

void delete_rows_of_gone_chunks(const fs::path& folder, const std::function<bool(std::string_view)>& is_stored) {
  for (const Entry& row : rows_in(folder))
    if (const std::optional<std::string> chunk = chunk_of_row(folder / row.name); chunk && !is_stored(*chunk))
      ::unlink((folder / row.name).c_str());
}

}  // namespace hone::store
