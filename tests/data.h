// Where tests find real data and models; a test skips with a message where they are absent.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/paths.h"

namespace hone::test {

// Third-party data: $HONE_DATA, else ../shared/data beside the checkout.
inline std::filesystem::path data_directory() {
  if (const char* data = std::getenv("HONE_DATA")) return data;
  return source_directory() / ".." / "shared" / "data";
}

// Models as `hone model get` leaves them: $XDG_CACHE_HOME/hone, else ~/.cache/hone.
inline std::filesystem::path model_path(const std::string& file) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::filesystem::path root =
      cache && *cache ? std::filesystem::path(cache) : std::filesystem::path(home ? home : "/nonexistent") / ".cache";
  return root / "hone" / file;
}

inline std::filesystem::path smollm2() { return model_path("SmolLM2-135M-Instruct.Q4_1.gguf"); }
inline std::filesystem::path minilm() { return model_path("all-MiniLM-L6-v2"); }
inline std::filesystem::path gemma3() { return model_path("gemma-3-270m-q4_k_m.gguf"); }

}  // namespace hone::test

#define HONE_NEED_FILE(path)                                                              \
  do {                                                                                    \
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "needs " << (path) << ": absent"; \
  } while (false)
