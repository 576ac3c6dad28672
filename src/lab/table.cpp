#include "lab/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>

#include "hone/base.h"

namespace hone::lab {

void Table::add(std::vector<std::string> row) {
  if (row.size() != columns_.size())
    throw Error(ErrorCode::corrupt,
                fmt::format("row {} has {} cells, {} are needed", rows_.size() + 1, row.size(), columns_.size()));
  rows_.push_back(std::move(row));
}

const std::string& Table::text(size_t row, std::string_view column) const { return rows_.at(row)[index(column)]; }

double Table::number(size_t row, std::string_view column) const {
  const std::string& cell = text(row, column);
  double value = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (error != std::errc() || end != cell.data() + cell.size())
    throw Error(ErrorCode::corrupt, fmt::format("row {}, {}: '{}' is not a number", row + 1, column, cell));
  return value;
}

size_t Table::count(size_t row, std::string_view column) const {
  constexpr double most = 9007199254740992;  // 2⁵³, up to which doubles hold every whole number
  const double value = number(row, column);
  if (!(value >= 0 && value <= most) || value != std::floor(value))
    throw Error(ErrorCode::corrupt,
                fmt::format("row {}, {}: '{}' is not a whole number", row + 1, column, text(row, column)));
  return static_cast<size_t>(value);
}

std::vector<double> Table::numbers(std::string_view column) const {
  std::vector<double> values(rows());
  for (size_t i = 0; i < rows(); ++i) values[i] = number(i, column);
  return values;
}

Table Table::where(std::string_view column, std::string_view value) const {
  Table found(columns_);
  const size_t at = index(column);
  for (const auto& row : rows_)
    if (row[at] == value) found.rows_.push_back(row);
  return found;
}

std::vector<std::string> Table::distinct(std::string_view column) const {
  std::vector<std::string> values;
  const size_t at = index(column);
  for (const auto& row : rows_)
    if (std::find(values.begin(), values.end(), row[at]) == values.end()) values.push_back(row[at]);
  return values;
}

size_t Table::index(std::string_view column) const {
  const auto found = std::find(columns_.begin(), columns_.end(), column);
  if (found == columns_.end()) throw std::out_of_range(fmt::format("no column '{}'", column));
  return static_cast<size_t>(found - columns_.begin());
}

std::string text(const Cell& cell) {
  return std::visit(
      [](const auto& value) -> std::string {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>)
          return value;
        else
          return fmt::format("{}", value);
      },
      cell);
}

std::string csv_line(const std::vector<std::string>& cells) {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) line += ',';
    const bool quoted = cells[i].find_first_of(",\"") != std::string::npos;
    if (quoted) line += '"';
    for (const char c : cells[i]) {
      if (c == '"') line += '"';
      line += c == '\n' || c == '\r' ? ' ' : c;
    }
    if (quoted) line += '"';
  }
  return line + '\n';
}

std::vector<std::string> csv_cells(std::string_view line) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quoted && c == '"' && i + 1 < line.size() && line[i + 1] == '"')
      cells.back() += line[++i];
    else if (c == '"')
      quoted = !quoted;
    else if (c == ',' && !quoted)
      cells.emplace_back();
    else
      cells.back() += c;
  }
  if (quoted) throw Error(ErrorCode::corrupt, fmt::format("a quote does not end: {}", line));
  return cells;
}

}  // namespace hone::lab
