#include "cli/examples.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "data/delimited.h"

namespace hone::cli {
namespace {

std::vector<LabelledText> from_table(const std::filesystem::path& file, std::string_view text, char separator) {
  const std::vector<Record> records = delimited_records(file, text, separator);
  if (records.empty()) return {};
  const auto column = [&](std::string_view name) {
    const auto& header = records[0].fields;
    const auto found = std::ranges::find(header, name);
    if (found == header.end())
      refuse_line(file, records[0].line, fmt::format("the header has no column '{}'; it needs input and label", name));
    return static_cast<size_t>(found - header.begin());
  };
  const size_t input = column("input"), label = column("label");
  std::vector<LabelledText> examples;
  for (size_t r = 1; r < records.size(); ++r) {
    const std::vector<std::string>& fields = records[r].fields;
    check_fields(file, records[0], records[r]);
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
    if (!object.is_object()) refuse_line(file, line, R"(not a JSON object; write {"input": "...", "label": "..."})");
    const auto input = object.find("input"), label = object.find("label");
    if (input == object.end() || !input->is_string()) refuse_line(file, line, "no \"input\" that is a string");
    if (label == object.end() || !(label->is_string() || label->is_number()))
      refuse_line(file, line, "no \"label\" that is a string or a number");
    examples.push_back({*input, label->is_string() ? label->get<std::string>() : label->dump()});
  }
  return examples;
}

}  // namespace

std::vector<LabelledText> read_examples(const std::filesystem::path& file) {
  const std::string contents = read_file(file);
  std::string_view text = contents;
  if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
  if (file.extension() == ".csv") return from_table(file, text, ',');
  if (file.extension() == ".tsv") return from_table(file, text, '\t');
  return from_jsonl(file, text);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = text.starts_with(byte_order_mark) ? byte_order_mark.size() : 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos) lines.push_back(std::move(line));
    at = end + 1;
  }
  return lines;
}

}  // namespace hone::cli
