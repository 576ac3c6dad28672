#include "cli/texts.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "cli/streams.h"
#include "data/delimited.h"
#include "hone/base.h"

namespace hone::cli {
namespace {

constexpr const char* default_column = "text";

std::string format_of(const std::filesystem::path& file) {
  const std::string extension = file.extension().string();
  if (extension == ".jsonl" || extension == ".ndjson") return "jsonl";
  if (extension == ".csv" || extension == ".tsv") return extension.substr(1);
  return "lines";
}

void read_json_lines(const std::string& file, std::string_view text, const std::string& field,
                     std::vector<std::string>& texts) {
  for_each_line(text, [&](size_t number, std::string_view line) {
    if (line.find_first_not_of(" \t") == std::string_view::npos) return;
    const nlohmann::json object = nlohmann::json::parse(line, nullptr, false);
    if (!object.is_object() || !object.contains(field) || !object[field].is_string())
      refuse_line(file, number,
                  fmt::format("no JSON object with a string \"{}\"; --column names another field", field));
    texts.push_back(object[field].get<std::string>());
  });
}

void read_table_column(const std::string& file, std::string_view text, char separator, const std::string& column,
                       std::vector<std::string>& texts) {
  std::vector<Record> records = delimited_records(file, text, separator);
  if (records.empty()) return;
  const std::vector<std::string>& header = records[0].fields;
  const auto found = std::ranges::find(header, column);
  if (found == header.end())
    refuse_line(
        file, records[0].line,
        fmt::format("there is no column '{}' but {}; --column names another one", column, fmt::join(header, ", ")));
  const auto index = static_cast<size_t>(found - header.begin());
  for (size_t r = 1; r < records.size(); ++r) {
    check_fields(file, records[0], records[r]);
    texts.push_back(std::move(records[r].fields[index]));
  }
}

}  // namespace

void TextSource::add_to(Command command) {
  command.option("FILE", files, "Files of texts; - reads standard input").required();
  command.option("--format", format, "lines, jsonl, csv or tsv (default: by the end of the name, else lines)")
      .one_of({"auto", "lines", "jsonl", "csv", "tsv"});
  command.option("--column", column, "The field of JSONL or the column of a table that is the text")
      .default_text(default_column);
}

std::vector<std::string> TextSource::read() const {
  const auto kind_of = [&](const std::string& file) { return format == "auto" ? format_of(file) : format; };
  if (!column.empty() && std::ranges::all_of(files, [&](const auto& file) { return kind_of(file) == "lines"; }))
    refuse_usage("--column names a field of JSONL or of a table, and these files are read by lines; see --format");
  const std::string field = column.empty() ? default_column : column;
  std::vector<std::string> texts;
  for (const std::string& file : files) {
    const std::string text = file == "-" ? read_standard_input() : read_file(file);
    const std::string kind = kind_of(file);
    if (kind == "jsonl")
      read_json_lines(file, text, field, texts);
    else if (kind == "lines")
      for_each_line(text, [&](size_t, std::string_view line) { texts.emplace_back(line); });
    else
      read_table_column(file, text, kind == "csv" ? ',' : '\t', field, texts);
  }
  return texts;
}

}  // namespace hone::cli
