#include "cli/streams.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>

#include "base/files.h"
#include "hone/base.h"

namespace hone::cli {
namespace {

[[noreturn]] void fail(std::string_view action) {
  const int reason = errno;
  const bool full = reason == ENOSPC || reason == EDQUOT || reason == EFBIG;
  const std::string advice = full ? fmt::format("; {}", advice_for(reason)) : "";
  throw Error(ErrorCode::io, fmt::format("cannot {}: {}{}", action, std::strerror(reason), advice));
}

}  // namespace

void reserve_standard_streams() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream)
    if (::fcntl(stream, F_GETFD) < 0) (void)::open("/dev/null", stream == STDOUT_FILENO ? O_RDONLY : O_WRONLY);
}

std::string read_standard_input() {
  std::string text;
  constexpr size_t step = 1 << 20;
  for (size_t got = step; got > 0;) {
    const size_t size = text.size();
    text.resize(size + step);
    got = std::fread(text.data() + size, 1, step, stdin);
    text.resize(size + got);
  }
  if (std::ferror(stdin)) fail("read standard input");
  return text;
}

void flush_standard_output() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) || !std::cout.flush()) fail("write standard output");
}

}  // namespace hone::cli
