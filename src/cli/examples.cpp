#include "cli/examples.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/files.h"

namespace hone::cli {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& file, size_t line, std::string_view why) {
  throw Error(ErrorCode::bad_input, fmt::format("'{}', line {}: {}", file.string(), line, why));
}

struct Record {
  size_t line = 0;  // where it starts
  std::vector<std::string> fields;
};

// RFC 4180: fields between commas, in quotes where they hold commas, quotes (doubled) or ends of lines.
std::vector<Record> csv_records(const std::filesystem::path& file, std::string_view text) {
  std::vector<Record> records;
  size_t line = 1;
  for (size_t at = 0; at < text.size();) {
    Record record{line, {}};
    for (bool more = true; more;) {
      std::string field;
      if (at < text.size() && text[at] == '"') {
        for (++at;; ++at) {
          if (at >= text.size()) refuse(file, record.line, "a quoted field does not end");
          if (text[at] == '"' && (at + 1 >= text.size() || text[++at] != '"')) break;
          line += text[at] == '\n' ? 1 : 0;
          field += text[at];
        }
        if (at + 1 == text.size() && text[at] == '"') ++at;
      } else {
        while (at < text.size() && text[at] != ',' && text[at] != '\n' && text[at] != '\r') field += text[at++];
      }
      record.fields.push_back(std::move(field));
      if (text.substr(std::min(at, text.size()), 2) == "\r\n") ++at;
      more = at < text.size() && text[at] == ',';
      if (at < text.size() && !more && text[at] != '\n')
        refuse(file, line,
               "text behind a quoted field, or an end of line that is none; quotes inside a field are doubled");
      ++at;
    }
    ++line;
    if (record.fields.size() > 1 || !record.fields[0].empty()) records.push_back(std::move(record));
  }
  return records;
}

std::vector<LabelledText> from_csv(const std::filesystem::path& file, std::string_view text) {
  const std::vector<Record> records = csv_records(file, text);
  if (records.empty()) return {};
  const auto column = [&](std::string_view name) {
    const auto& header = records[0].fields;
    const auto found = std::ranges::find(header, name);
    if (found == header.end())
      refuse(file, records[0].line, fmt::format("the header has no column '{}'; it needs input and label", name));
    return static_cast<size_t>(found - header.begin());
  };
  const size_t input = column("input"), label = column("label");
  std::vector<LabelledText> examples;
  for (size_t r = 1; r < records.size(); ++r) {
    const auto& [line, fields] = records[r];
    if (fields.size() != records[0].fields.size())
      refuse(file, line, fmt::format("{} fields under a header of {}", fields.size(), records[0].fields.size()));
    examples.push_back({fields[input], fields[label]});
  }
  return examples;
}

std::vector<LabelledText> from_jsonl(const std::filesystem::path& file, std::string_view text) {
  std::vector<LabelledText> examples;
  for (size_t line = 1; !text.empty(); ++line) {
    const std::string_view row = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(row.size() + 1, text.size()));
    if (row.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const nlohmann::json object = nlohmann::json::parse(row, nullptr, false);
    if (!object.is_object()) refuse(file, line, R"(not a JSON object; write {"input": "...", "label": "..."})");
    const auto input = object.find("input"), label = object.find("label");
    if (input == object.end() || !input->is_string()) refuse(file, line, "no \"input\" that is a string");
    if (label == object.end() || !(label->is_string() || label->is_number()))
      refuse(file, line, "no \"label\" that is a string or a number");
    examples.push_back({*input, label->is_string() ? label->get<std::string>() : label->dump()});
  }
  return examples;
}

}  // namespace

std::vector<LabelledText> read_examples(const std::filesystem::path& file) {
  const std::string contents = read_file(file);
  std::string_view text = contents;
  constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
  if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
  return file.extension() == ".csv" ? from_csv(file, text) : from_jsonl(file, text);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos) lines.push_back(std::move(line));
    at = end + 1;
  }
  return lines;
}

}  // namespace hone::cli
