// Raw rows of an experiment: written as CSV task by task, read back for the report.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace hone::lab {

// Numbers are written with the fewest digits that read back as the same double.
using Cell = std::variant<std::string, int64_t, double>;
using Row = std::vector<Cell>;

// What rows.csv holds, as text. The first column is "task". A report is always made from the file, so that a run that
// was interrupted ends with the same bytes as one that was not.
class Table {
 public:
  explicit Table(std::vector<std::string> columns) : columns_(std::move(columns)) {}

  const std::vector<std::string>& columns() const { return columns_; }
  size_t rows() const { return rows_.size(); }
  // One cell a column. Throws Error{corrupt} for another number of cells.
  void add(std::vector<std::string> row);

  // A cell. Throws std::out_of_range for a column that does not exist, which is a bug, and for a row that does not, as
  // in what where() finds in an edited file.
  const std::string& text(size_t row, std::string_view column) const;
  // Throws Error{corrupt} naming column and row unless the cell is a number.
  double number(size_t row, std::string_view column) const;
  std::vector<double> numbers(std::string_view column) const;  // [rows]
  // As number(), and Error{corrupt} unless it is a whole number from 0 on.
  size_t count(size_t row, std::string_view column) const;

  // The rows whose cell in `column` is `value`, in order.
  Table where(std::string_view column, std::string_view value) const;
  // A column's values, each once, in the order of their first rows.
  std::vector<std::string> distinct(std::string_view column) const;

 private:
  size_t index(std::string_view column) const;

  std::vector<std::string> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// A cell as it is written, before quoting.
std::string text(const Cell& cell);
// One line of CSV, ended by \n. A cell with a comma or a quote is quoted (RFC 4180); a line break becomes a space, so
// that a row is a line.
std::string csv_line(const std::vector<std::string>& cells);
// The cells of a line without its \n. Throws Error{corrupt} for a quote that does not end.
std::vector<std::string> csv_cells(std::string_view line);

}  // namespace hone::lab
