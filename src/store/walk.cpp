#include "store/walk.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "base/files.h"
#include "store/ignore.h"

namespace hone::store {
namespace {

namespace fs = std::filesystem;

// Since 1970, as far as 64 bits reach.
int64_t nanoseconds(const timespec& time) {
  constexpr int64_t a_second = 1'000'000'000, most = std::numeric_limits<int64_t>::max() / a_second - 1;
  return std::clamp<int64_t>(time.tv_sec, -most, most) * a_second + time.tv_nsec;
}

class Walker {
 public:
  Walker(Walk& result, const CancelToken& cancel) : result_(result), cancel_(cancel) {}

  void add_root(const fs::path& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) {
      const bool missing = errno == ENOENT || errno == ENOTDIR;
      throw Error(missing ? ErrorCode::not_found : ErrorCode::io,
                  fmt::format("cannot index '{}': {}; check the path and its permissions", path.string(),
                              std::strerror(errno)));
    }
    std::error_code error;
    const std::string location = fs::canonical(path, error).string();
    if (error) throw Error(ErrorCode::io, fmt::format("cannot index '{}': {}", path.string(), error.message()));
    result_.roots.push_back(location);
    if (S_ISDIR(info.st_mode))
      folder(path, location, "");
    else
      file(path, location, info);
  }

 private:
  struct RulesOfFolder {
    size_t prefix;  // length of the relative path up to and including the folder's '/'
    IgnoreRules rules;
  };

  void skip(const fs::path& path, std::string reason) { result_.skipped.push_back({path.string(), std::move(reason)}); }

  void folder(const fs::path& path, const std::string& location, const std::string& relative) {
    cancel_.check();
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error))
      names.push_back(entry->path().filename().string());
    if (error) {
      skip(path, "cannot be listed: " + error.message());
      result_.unreadable.push_back(location);
    }
    std::sort(names.begin(), names.end());
    rules_.push_back({relative.size(), rules_of(path, names)});
    for (const std::string& name : names) {
      if (name.front() != '.')
        entry(path / name, location == "/" ? "/" + name : location + "/" + name, relative + name);
    }
    rules_.pop_back();
  }

  void entry(const fs::path& path, const std::string& location, const std::string& relative) {
    struct stat link {};
    if (::lstat(path.c_str(), &link) != 0) {
      const int reason = errno;
      if (reason != ENOENT) result_.unreadable.push_back(location);
      return skip(path, std::strerror(reason));
    }
    const bool is_folder = S_ISDIR(link.st_mode);
    if (ignored(relative, is_folder)) return;
    if (is_folder) return folder(path, location, relative + "/");
    struct stat target = link;
    if (S_ISLNK(link.st_mode) && ::stat(path.c_str(), &target) != 0) {
      const int reason = errno;
      if (reason != ENOENT && reason != ELOOP) result_.unreadable.push_back(location);
      return skip(path, fmt::format("a link that leads nowhere: {}", std::strerror(reason)));
    }
    if (S_ISDIR(target.st_mode)) return skip(path, "a link to a folder is not followed; name the folder itself");
    file(path, location, target);
  }

  void file(const fs::path& path, const std::string& location, const struct stat& info) {
    if (!S_ISREG(info.st_mode)) return skip(path, "not a regular file");
    if (!seen_.insert(location).second) return;
    result_.files.push_back({path, location, static_cast<uint64_t>(info.st_size), nanoseconds(info.st_mtim)});
  }

  IgnoreRules rules_of(const fs::path& folder, const std::vector<std::string>& names) {
    IgnoreRules rules;
    for (const char* name : {".gitignore", ".ignore"}) {
      if (!std::binary_search(names.begin(), names.end(), name)) continue;
      std::error_code unknown;
      if (!fs::is_regular_file(folder / name, unknown)) {
        if (unknown) skip(folder / name, unknown.message());
        continue;
      }
      try {
        rules.add(read_file(folder / name));
      } catch (const Error& error) {
        skip(folder / name, error.message);
      }
    }
    return rules;
  }

  // The innermost folder with an opinion decides.
  bool ignored(std::string_view relative, bool is_folder) const {
    for (auto folder = rules_.rbegin(); folder != rules_.rend(); ++folder) {
      const Verdict verdict = folder->rules.judge(relative.substr(folder->prefix), is_folder);
      if (verdict != Verdict::undecided) return verdict == Verdict::ignored;
    }
    return false;
  }

  Walk& result_;
  const CancelToken& cancel_;
  std::vector<RulesOfFolder> rules_;
  std::unordered_set<std::string> seen_;
};

}  // namespace

Walk walk(const std::vector<fs::path>& paths, const CancelToken& cancel) {
  Walk result;
  Walker walker(result, cancel);
  for (const fs::path& path : paths) walker.add_root(path);
  return result;
}

bool is_below(std::string_view location, std::string_view root) {
  if (!location.starts_with(root)) return false;
  return location.size() == root.size() || root.ends_with('/') || location[root.size()] == '/';
}

}  // namespace hone::store
