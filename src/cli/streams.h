// The program's standard input and output: whole, or an error. What it says beside them is lost where it cannot be
// said.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>

namespace hone::cli {

// Streams that the caller has closed do not go to the first file that the program opens: what is printed or read is an
// error, what is remarked is lost.
void reserve_standard_streams();

// To standard error. A terminal that has gone is no error: what was asked for goes on.
template <class... Values>
void remark(fmt::format_string<Values...> format, Values&&... values) {
  (void)std::fputs(fmt::format(format, std::forward<Values>(values)...).c_str(), stderr);
}

// Throws Error{io}.
std::string read_standard_input();

// Throws Error{io} if anything that was printed could not be written.
void flush_standard_output();

}  // namespace hone::cli
