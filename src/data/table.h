// A table of labelled rows.
#pragma once

#include "hone/data.h"

namespace hone {

// Features or texts, and one label a row, not yet numbered.
struct TableRows {
  Matrix x;
  std::vector<std::string> texts;
  std::vector<std::string> labels;
};

// Throws Error{bad_input} naming file, line and column.
TableRows read_table(const std::filesystem::path& path, char separator, const LabelledOptions& options);

}  // namespace hone
