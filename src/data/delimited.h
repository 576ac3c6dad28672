// Tables of text: RFC 4180, with commas or another character between the fields.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/lines.h"

namespace hone {

// What stands between a table's fields if the name ends in .csv or .tsv; nothing for other files, which are no tables.
std::optional<char> separator_of(const std::filesystem::path& file);

struct Record {
  size_t line = 0;  // where it starts
  std::vector<std::string> fields;
};

// Fields in quotes where they hold the separator, quotes (doubled) or ends of lines. Lines end in \n or \r\n; empty
// ones and a byte order mark are left out. A line of "" alone is not empty: it has one field, which is. Throws
// Error{bad_input} naming `file` and the line.
std::vector<Record> delimited_records(const std::filesystem::path& file, std::string_view text, char separator = ',');

// Throws Error{bad_input}: "'file', line 3: why".
[[noreturn]] void refuse_line(const std::filesystem::path& file, size_t line, std::string_view why);

// Throws Error{bad_input} for a record of other than the first one's number of fields.
void check_fields(const std::filesystem::path& file, const Record& first, const Record& record, bool header = true);

}  // namespace hone
