#include "lab/lab_cache.h"

#include <fmt/format.h>

#include "base/files.h"
#include "hone/base.h"

namespace hone::lab {

std::filesystem::path lab_cache(const std::filesystem::path& name) {
  std::filesystem::path path = cache_directory() / "lab" / name;
  std::error_code failure;
  std::filesystem::create_directories(path.parent_path(), failure);
  if (failure)
    throw Error(ErrorCode::io,
                fmt::format("cannot make the folder '{}': {}", path.parent_path().string(), failure.message()));
  return path;
}

}  // namespace hone::lab
