// Texts from files: one a line, or a field of JSONL, CSV or TSV.
#pragma once

#include <string>
#include <vector>

#include "cli/command_line.h"

namespace hone::cli {

struct TextSource {
  std::vector<std::string> files;  // "-" is standard input
  std::string format = "auto";     // lines, jsonl, csv, tsv; auto: by the end of the name, else lines
  std::string column;              // the field of JSONL, the column that a table's header names; "": text

  // FILE..., --format and --column.
  void add_to(Command command);
  // The texts of all files, in order. Of lines every one counts, also an empty one. Throws Error{bad_input} naming file
  // and line, Error{not_found, io}; a column where all files are read by lines is bad usage.
  std::vector<std::string> read() const;
};

}  // namespace hone::cli
