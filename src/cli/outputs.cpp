#include "cli/outputs.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/files.h"
#include "hone/base.h"

namespace hone::cli {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, std::string_view action, int reason) {
  throw Error(reason == ENOENT ? ErrorCode::not_found : ErrorCode::io,
              fmt::format("cannot {} '{}': {}; {}", action, path.string(), std::strerror(reason), advice_for(reason)));
}

// 0 if files can be made in the folder, otherwise why they cannot.
int obstacle(const fs::path& folder) {
  std::error_code failure;
  const fs::file_status status = fs::status(folder.empty() ? "." : folder, failure);
  if (!fs::exists(status)) return failure ? failure.value() : ENOENT;
  if (!fs::is_directory(status)) return ENOTDIR;
  return ::access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) == 0 ? 0 : errno;
}

}  // namespace

void require_writable_file(const fs::path& file) {
  if (file.empty()) return;
  std::error_code ignored;
  if (!file.has_filename() || fs::is_directory(file, ignored))
    throw Error(ErrorCode::bad_input, fmt::format("'{}' is a folder; give the path of a file", file.string()));
  const bool special = fs::exists(file, ignored) && !fs::is_regular_file(file, ignored);  // a device, a pipe
  if (special && ::access(file.c_str(), W_OK) == 0) return;
  if (const int reason = special ? errno : obstacle(behind_links(file).parent_path())) fail(file, "write", reason);
}

void require_writable_folder(const fs::path& folder) {
  if (folder.empty()) return;
  fs::path place = folder;
  int reason = obstacle(place);
  while (reason == ENOENT && !place.empty()) reason = obstacle(place = place.parent_path());
  if (reason != 0) fail(folder, "make the folder", reason);
}

}  // namespace hone::cli
