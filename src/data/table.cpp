#include "data/table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/files.h"
#include "data/delimited.h"

namespace hone {
namespace {

// A whole field as a number; blanks around it and a plus sign are allowed.
std::optional<float> number(std::string_view field) {
  constexpr std::string_view blanks = " \t";
  field.remove_prefix(std::min(field.find_first_not_of(blanks), field.size()));
  field = field.substr(0, field.find_last_not_of(blanks) + 1);
  if (field.starts_with('+') && !field.starts_with("+-")) field.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (field.empty() || error != std::errc() || end != field.data() + field.size()) return std::nullopt;
  return static_cast<float>(std::abs(value) < 0x1p128 ? value : std::copysign(INFINITY, value));
}

class TableReader {
 public:
  TableReader(const std::filesystem::path& path, char separator, const LabelledOptions& options)
      : path_(path), options_(options), records_(delimited_records(path, read_file(path), separator)) {}

  TableRows read() {
    if (records_.empty()) refuse(1, "the file is empty; a table has a line for each row");
    if (first().fields.size() < 2)
      refuse(first().line, "it has one field; a table has a label and at least one other column");
    for (const Record& record : records_) check_fields(path_, first(), record, options_.header);
    label_ = options_.label_column.empty() ? first().fields.size() - 1 : column(options_.label_column);
    if (options_.header && options_.label_column.empty() && options_.text_column.empty() && looks_like_data(first()))
      refuse(first().line,
             "its fields are numbers, where names of columns are expected; if it is data, say that there is no header, "
             "otherwise name the label's column");
    if (records_.size() == first_row()) refuse(first().line, "no row follows the header");
    TableRows rows;
    for (size_t r = first_row(); r < records_.size(); ++r) {
      if (records_[r].fields[label_].empty()) refuse(records_[r].line, "the label is empty");
      rows.labels.push_back(records_[r].fields[label_]);
    }
    if (const std::optional<size_t> text = text_column()) {
      for (size_t r = first_row(); r < records_.size(); ++r) rows.texts.push_back(records_[r].fields[*text]);
    } else {
      rows.x = features();
    }
    return rows;
  }

 private:
  [[noreturn]] void refuse(size_t line, std::string_view why) const { refuse_line(path_, line, why); }
  const Record& first() const { return records_.front(); }
  size_t first_row() const { return options_.header ? 1 : 0; }

  size_t column(std::string_view name) const {
    if (!options_.header) refuse(first().line, fmt::format("there is no header that could name a column '{}'", name));
    const auto& header = first().fields;
    const auto found = std::ranges::count(header, name);
    if (found != 1)
      refuse(first().line,
             fmt::format("the header has {} '{}'; its columns are {}",
                         found == 0 ? "no column" : "more than one column", name, fmt::join(header, ", ")));
    return static_cast<size_t>(std::ranges::find(header, name) - header.begin());
  }

  bool looks_like_data(const Record& record) const {
    for (size_t c = 0; c < record.fields.size(); ++c)
      if (c != label_ && !number(record.fields[c])) return false;
    return true;
  }

  std::optional<size_t> text_column() const {
    if (!options_.text_column.empty()) {
      const size_t text = column(options_.text_column);
      if (text == label_)
        refuse(first().line, fmt::format("'{}' cannot be both the text and the label", options_.text_column));
      return text;
    }
    if (first().fields.size() != 2) return std::nullopt;
    for (size_t r = first_row(); r < records_.size(); ++r)
      if (!number(records_[r].fields[1 - label_])) return 1 - label_;
    return std::nullopt;
  }

  Matrix features() const {
    Matrix x = Matrix::uninitialized(records_.size() - first_row(), first().fields.size() - 1);
    for (size_t r = 0; r < x.rows(); ++r) {
      const Record& record = records_[first_row() + r];
      for (size_t c = 0, to = 0; c < record.fields.size(); ++c) {
        if (c == label_) continue;
        const std::optional<float> value = number(record.fields[c]);
        if (!value || !std::isfinite(*value))
          refuse(record.line,
                 fmt::format("column {} holds '{}', not a finite number{}", name_of(c), record.fields[c].substr(0, 40),
                             value ? "" : "; name the text's column if the features are texts"));
        x.row(r)[to++] = *value;
      }
    }
    return x;
  }

  std::string name_of(size_t column) const {
    return options_.header ? fmt::format("'{}'", first().fields[column]) : fmt::format("{}", column + 1);
  }

  const std::filesystem::path& path_;
  const LabelledOptions& options_;
  std::vector<Record> records_;
  size_t label_ = 0;
};

}  // namespace

TableRows read_table(const std::filesystem::path& path, char separator, const LabelledOptions& options) {
  return TableReader(path, separator, options).read();
}

}  // namespace hone
