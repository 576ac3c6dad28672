// The program's standard input and output: whole, or an error.
#pragma once

#include <string>

namespace hone::cli {

// A stream that the caller has closed stays unusable, instead of going to the first file that the program opens.
void reserve_standard_streams();

// Throws Error{io}.
std::string read_standard_input();

// Throws Error{io} if anything that was printed could not be written.
void flush_standard_output();

}  // namespace hone::cli
