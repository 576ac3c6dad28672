#include "lab/rows_file.h"

#include <fmt/format.h>

#include <stdexcept>

#include "base/files.h"
#include "hone/base.h"

namespace hone::lab {
namespace {

std::vector<std::string> with_counts(std::vector<std::string> columns) {
  columns.insert(columns.begin(), {"task", "rows_left"});
  return columns;
}

}  // namespace

RowsFile::RowsFile(std::filesystem::path path, std::vector<std::string> columns)
    : path_(std::move(path)), table_(with_counts(std::move(columns))) {
  const std::string header = csv_line(table_.columns());
  if (!is_there(path_)) write_file_atomically(path_, header);
  const std::string contents = read_file(path_);
  if (!contents.starts_with(header))
    throw Error(
        ErrorCode::corrupt,
        fmt::format("'{}' does not begin with the columns of this experiment; it was written by something else. "
                    "Give another folder",
                    path_.string()));
  end_ = header.size();
  read(contents);
}

void RowsFile::append(const std::vector<Row>& rows) {
  if (rows.empty()) throw std::logic_error("a task without rows");
  std::string lines;
  std::vector<std::vector<std::string>> texts;
  for (size_t i = 0; i < rows.size(); ++i) {
    std::vector<std::string> cells = {fmt::format("{}", tasks_), fmt::format("{}", rows.size() - 1 - i)};
    for (const Cell& cell : rows[i]) cells.push_back(text(cell));
    if (cells.size() != table_.columns().size())
      throw std::logic_error(fmt::format("a row of {} cells for {} columns", cells.size(), table_.columns().size()));
    lines += csv_line(cells);
    texts.push_back(std::move(cells));
  }
  write_file_from(path_, end_, lines);
  for (auto& cells : texts) table_.add(std::move(cells));
  end_ += lines.size();
  ++tasks_;
}

// Lines are taken task by task; a last task without all its lines is left out, and overwritten by what comes next.
void RowsFile::read(std::string_view contents) {
  std::vector<std::vector<std::string>> rows;
  double left = 0;
  size_t line = 1, begin = end_;
  for (size_t end = contents.find('\n', begin); end != std::string_view::npos; end = contents.find('\n', begin)) {
    ++line;
    try {
      Table one(table_.columns());
      one.add(csv_cells(contents.substr(begin, end - begin)));
      const double expected = left - 1;
      left = one.number(0, "rows_left");
      if (one.number(0, "task") != static_cast<double>(tasks_) || (!rows.empty() && left != expected))
        throw Error(ErrorCode::corrupt, "it does not follow from the line before");
    } catch (const Error& error) {
      throw Error(ErrorCode::corrupt, fmt::format("'{}' line {}: {}; remove the file to run its tasks again",
                                                  path_.string(), line, error.message));
    }
    rows.push_back(csv_cells(contents.substr(begin, end - begin)));
    begin = end + 1;
    if (left > 0) continue;
    for (auto& row : rows) table_.add(std::move(row));
    rows.clear();
    ++tasks_;
    end_ = begin;
  }
}

}  // namespace hone::lab
