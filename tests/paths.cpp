#include "tests/paths.h"

namespace hone::test {

std::filesystem::path source_directory() { return HONE_SOURCE_DIR; }
std::string program_path() { return HONE_PROGRAM; }

}  // namespace hone::test
