// The safetensors format: a JSON header and raw tensors, over a read-only mapping.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/files.h"
#include "hone/base.h"

namespace hone {

struct SafeTensor {
  std::string dtype;  // as in the file: "F32", "F16", "BF16", "I64", ...
  std::vector<size_t> shape;
  std::span<const std::byte> bytes;
};

class SafeTensors {
 public:
  // Throws Error{not_found, corrupt} naming the file and the entry.
  static SafeTensors open(const std::filesystem::path& path);

  const std::map<std::string, SafeTensor, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // The tensor as fp32 [product of all but the last dimension, last dimension]; F32, F16, BF16, F64, I32 and I64 are
  // converted. Throws Error{not_found, unsupported} naming file and tensor.
  Matrix matrix(std::string_view name) const;

 private:
  std::filesystem::path path_;
  MappedFile file_;
  std::map<std::string, SafeTensor, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

// Writes F32 tensors; atomic. Throws Error{io}, Error{bad_input} for a shape of another number of values.
struct NamedMatrix {
  std::string name;
  ConstMatrixView values;
  std::vector<size_t> shape = {};  // as the file shall say it; empty: [rows, cols]
};
void write_safetensors(const std::filesystem::path& path, std::span<const NamedMatrix> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace hone
