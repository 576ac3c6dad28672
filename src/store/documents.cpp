#include "store/documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

namespace hone::store {
namespace {

constexpr size_t lines_named = 3;

struct Sequence {
  size_t length;
  bool valid;
};

// Unicode table 3-7: which bytes may follow which. An invalid sequence ends before the first byte that does not fit.
Sequence next_sequence(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (size_t i = 1; i < length; ++i) {
    if (i >= text.size() || byte(i) < low || byte(i) > high) return {i, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true};
}

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos; }

// Reads the top-level "text" field and nothing else, without building the rest of the object.
class TextField : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool is_object = false;
  std::optional<std::string> text;

  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(number_integer_t) override { return other(); }
  bool number_unsigned(number_unsigned_t) override { return other(); }
  bool number_float(number_float_t, const string_t&) override { return other(); }
  bool binary(binary_t&) override { return other(); }
  bool string(string_t& value) override {
    if (wanted_ && depth_ == 1) text = std::move(value);
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ == 1) wanted_ = name == "text";
    return true;
  }
  bool start_object(size_t) override {
    if (depth_ == 0) is_object = true;
    return deeper();
  }
  bool start_array(size_t) override { return deeper(); }
  bool end_object() override { return shallower(); }
  bool end_array() override { return shallower(); }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception&) override { return false; }

 private:
  bool other() {
    if (wanted_ && depth_ == 1) text.reset();
    return true;
  }
  bool deeper() {
    other();
    ++depth_;
    return true;
  }
  bool shallower() {
    --depth_;
    return true;
  }

  size_t depth_ = 0;
  bool wanted_ = false;
};

// The text of one line, or why it has none.
struct Line {
  std::string text;
  std::string_view problem;
};

Line parse_line(std::string_view line) {
  TextField field;
  if (!nlohmann::json::sax_parse(line, &field)) return {"", "not valid JSON"};
  if (!field.is_object) return {"", "not a JSON object"};
  if (!field.text) return {"", "no \"text\" field that is a string"};
  if (is_blank(*field.text)) return {"", "its \"text\" is blank"};
  return {std::move(*field.text), ""};
}

DocumentScan scan_lines(std::string_view contents, const std::function<void(std::string_view)>& take) {
  DocumentScan scan;
  size_t number = 0;
  size_t problems = 0;
  std::string details;
  while (!contents.empty()) {
    const size_t end = std::min(contents.find('\n'), contents.size());
    const std::string_view line = contents.substr(0, end);
    contents.remove_prefix(std::min(end + 1, contents.size()));
    ++number;
    if (is_blank(line)) continue;
    const Line parsed = parse_line(line);
    if (parsed.problem.empty()) {
      ++scan.documents;
      take(parsed.text);
    } else if (++problems <= lines_named) {
      details += fmt::format("{}line {}: {}", details.empty() ? "" : "; ", number, parsed.problem);
    }
  }
  if (problems > lines_named) details += fmt::format("; and {} more lines", problems - lines_named);
  scan.skipped = scan.documents == 0 && problems == 0 ? "empty" : details;
  return scan;
}

}  // namespace

size_t make_valid_utf8(std::string& text) {
  std::string valid;
  size_t replaced = 0;
  size_t copied = 0;
  for (size_t i = 0; i < text.size();) {
    const Sequence sequence = next_sequence(std::string_view(text).substr(i));
    if (!sequence.valid) {
      valid.append(text, copied, i - copied);
      valid += "\xEF\xBF\xBD";
      copied = i + sequence.length;
      replaced += sequence.length;
    }
    i += sequence.length;
  }
  if (replaced == 0) return 0;
  valid.append(text, copied);
  text = std::move(valid);
  return replaced;
}

DocumentScan for_each_document(const std::filesystem::path& path, std::string contents,
                               const std::function<void(std::string_view)>& take) {
  if (contents.find('\0') != std::string::npos)
    return {0, "binary (holds NUL bytes; text in UTF-16 must be converted to UTF-8)"};
  const size_t bytes = contents.size();
  if (make_valid_utf8(contents) * 4 > bytes) return {0, "binary (mostly not UTF-8)"};
  std::string_view text = contents;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const std::string extension = path.extension().string();
  if (extension == ".jsonl" || extension == ".ndjson") return scan_lines(text, take);
  if (is_blank(text)) return {0, "empty"};
  take(text);
  return {1, ""};
}

}  // namespace hone::store
