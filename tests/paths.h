// Where this checkout and its program are. Declared apart from the tests, so that a test compiles to the same object in
// every checkout.
#pragma once

#include <filesystem>
#include <string>

namespace hone::test {

std::filesystem::path source_directory();
std::string program_path();  // hone, built beside the tests

}  // namespace hone::test
