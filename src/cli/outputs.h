// Where a command will write, looked at before it begins to work.
#pragma once

#include <filesystem>

namespace hone::cli {

// Throw Error{io, not_found, bad_input} naming the path if the file could not be written, or the folder not be made and
// written to; nothing is made, and nothing that is there is touched. An empty path is an option that was not given.
void require_writable_file(const std::filesystem::path& file);
void require_writable_folder(const std::filesystem::path& folder);

}  // namespace hone::cli
