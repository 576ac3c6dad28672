#include "lab/lab_cache.h"

#include "base/files.h"

namespace hone::lab {

std::filesystem::path lab_cache(const std::filesystem::path& name) {
  std::filesystem::path path = cache_directory() / "lab" / name;
  make_folder(path.parent_path());
  return path;
}

}  // namespace hone::lab
