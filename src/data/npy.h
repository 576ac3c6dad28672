// One array as numpy.save writes it (NEP 1): a header that is a Python dictionary, and the elements.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "hone/base.h"

namespace hone {

// A view of the elements; the bytes belong to whoever read the file.
struct NpyArray {
  std::string source;          // what messages call it
  std::string type;            // as in the file: "<f4", "|u1", "<U12"
  char kind = 'f';             // f float, i and u integers, b boolean, U UTF-32 text, S bytes
  size_t width = 4;            // bytes of an element
  bool swapped = false;        // big-endian
  bool fortran_order = false;  // the first index moves fastest
  std::vector<size_t> shape;
  std::span<const std::byte> elements;

  bool numeric() const { return kind != 'U' && kind != 'S'; }
  size_t rows() const { return shape[0]; }
  size_t cols() const { return shape.size() == 1 ? 1 : shape[1]; }
  // Rows [first, first + out.rows) as fp32; they exist, and `out` has cols() columns.
  void read(size_t first, MatrixView out) const;
};

bool is_npy(std::span<const std::byte> bytes);

// Throws Error{corrupt, unsupported} saying what `source` is.
NpyArray parse_npy(std::string source, std::span<const std::byte> bytes);

// Throws Error{bad_input} unless the array has one or two dimensions; Error{unsupported} for text.
void check_matrix(const NpyArray& array);
Matrix as_matrix(const NpyArray& array);
// Integers as decimal numbers, text as it is. Throws Error{bad_input} for other arrays than one-dimensional (or one
// column of) integers or text.
std::vector<std::string> as_labels(const NpyArray& array);

// The bytes that stand before the elements of a C-ordered array.
std::string npy_header(std::string_view type, std::span<const size_t> shape);

}  // namespace hone
