// Where experiments keep what takes long to make and does not depend on a run.
#pragma once

#include <filesystem>

namespace hone::lab {

// Below the cache directory (an empty name: its own folder there); the folder is made. Throws Error{io}.
std::filesystem::path lab_cache(const std::filesystem::path& name);

}  // namespace hone::lab
