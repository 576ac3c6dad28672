#include "data/delimited.h"

#include <fmt/format.h>

#include <algorithm>

#include "hone/base.h"

namespace hone {

std::optional<char> separator_of(const std::filesystem::path& file) {
  if (file.extension() == ".csv") return ',';
  if (file.extension() == ".tsv") return '\t';
  return std::nullopt;
}

void refuse_line(const std::filesystem::path& file, size_t line, std::string_view why) {
  throw Error(ErrorCode::bad_input, fmt::format("'{}', line {}: {}", file.string(), line, why));
}

void check_fields(const std::filesystem::path& file, const Record& first, const Record& record, bool header) {
  if (record.fields.size() != first.fields.size())
    refuse_line(file, record.line,
                fmt::format("{} fields under {} of {}", record.fields.size(), header ? "a header" : "a first line",
                            first.fields.size()));
}

std::vector<Record> delimited_records(const std::filesystem::path& file, std::string_view text, char separator) {
  if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
  std::vector<Record> records;
  size_t line = 1;
  for (size_t at = 0; at < text.size();) {
    Record record{line, {}};
    bool quoted = false;
    for (bool more = true; more;) {
      std::string field;
      if (at < text.size() && text[at] == '"') {
        quoted = true;
        for (++at;; ++at) {
          if (at >= text.size()) refuse_line(file, record.line, "a quoted field does not end");
          if (text[at] == '"' && (at + 1 >= text.size() || text[++at] != '"')) break;
          line += text[at] == '\n' ? 1 : 0;
          field += text[at];
        }
        if (at + 1 == text.size() && text[at] == '"') ++at;
      } else {
        while (at < text.size() && text[at] != separator && text[at] != '\n' && text[at] != '\r') field += text[at++];
      }
      record.fields.push_back(std::move(field));
      if (text.substr(std::min(at, text.size()), 2) == "\r\n") ++at;
      more = at < text.size() && text[at] == separator;
      if (at < text.size() && !more && text[at] != '\n')
        refuse_line(file, line,
                    "text behind a quoted field, or an end of line that is none; quotes inside a field are doubled");
      ++at;
    }
    ++line;
    if (record.fields.size() > 1 || quoted || !record.fields[0].empty()) records.push_back(std::move(record));
  }
  return records;
}

}  // namespace hone
