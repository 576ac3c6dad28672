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
  for_each_line(text, [&](size_t line, std::string_view row) {
    if (row.find_first_not_of(" \t\r") == std::string_view::npos) return;
    const nlohmann::json object = nlohmann::json::parse(row, nullptr, false);
    if (!object.is_object()) refuse_line(file, line, R"(not a JSON object; write {"input": "...", "label": "..."})");
    const auto input = object.find("input"), label = object.find("label");
    if (input == object.end() || !input->is_string()) refuse_line(file, line, "no \"input\" that is a string");
    if (label == object.end() || !(label->is_string() || label->is_number()))
      refuse_line(file, line, "no \"label\" that is a string or a number");
    examples.push_back({*input, label->is_string() ? label->get<std::string>() : label->dump()});
  });
  return examples;
}

}  // namespace

std::vector<LabelledText> read_examples(const std::filesystem::path& file) {
  const std::string text = read_file(file);
  const std::optional<char> separator = separator_of(file);
  return separator ? from_table(file, text, *separator) : from_jsonl(file, text);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for_each_line(text, [&](size_t, std::string_view line) {
    if (line.find_first_not_of(" \t") != std::string_view::npos) lines.emplace_back(line);
  });
  return lines;
}

}  // namespace hone::cli
