// Walk: the files below some paths, in a fixed order, without what ignore files and hidden names leave out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "hone/base.h"
#include "hone/store.h"

namespace hone::store {

struct WalkedFile {
  std::filesystem::path path;  // below the root as it was given
  std::string location;        // absolute, links in the root resolved: the same for every way to write the path
  uint64_t size = 0;
  int64_t mtime_ns = 0;
};

struct Walk {
  std::vector<WalkedFile> files;        // sorted within each folder; each location once
  std::vector<std::string> roots;       // locations of the given paths
  std::vector<std::string> unreadable;  // locations of folders that could not be listed
  std::vector<IndexReport::Skipped> skipped;
};

// A path that is given is taken even if it is hidden. Below it, hidden names and whatever .gitignore and .ignore files
// (of the folders walked) exclude are left out silently. Links to files are followed; links to folders are not, and
// are reported. Throws Error{not_found} for a path that does not exist, Error{cancelled}.
Walk walk(const std::vector<std::filesystem::path>& paths, const CancelToken& cancel);

// True if `location` is `root` or below it.
bool is_below(std::string_view location, std::string_view root);

}  // namespace hone::store
