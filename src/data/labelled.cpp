#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "data/contents.h"
#include "data/delimited.h"
#include "data/idx.h"
#include "data/npy.h"
#include "data/table.h"
#include "data/zip.h"
#include "hone/data.h"

namespace hone {
namespace {

constexpr std::string_view features_name = "X.npy", labels_name = "y.npy";

[[noreturn]] void refuse(const std::filesystem::path& path, std::string_view why) {
  throw Error(ErrorCode::bad_input, fmt::format("'{}': {}", path.string(), why));
}

std::optional<int64_t> integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

void check_features(const std::filesystem::path& path, ConstMatrixView x, size_t labels) {
  if (x.rows == 0 || x.cols == 0) refuse(path, fmt::format("its features [{}, {}] are empty", x.rows, x.cols));
  if (x.rows != labels) refuse(path, fmt::format("{} rows of features but {} labels", x.rows, labels));
  for (size_t r = 0; r < x.rows; ++r)
    for (size_t c = 0; c < x.cols; ++c)
      if (!std::isfinite(x.row(r)[c]))
        refuse(path,
               fmt::format("row {}, column {} is {}, not a finite number that fp32 can hold; remove or repair the "
                           "row (rows count from 0)",
                           r, c, x.row(r)[c]));
}

LabelledData numbered(const std::filesystem::path& path, Matrix x, std::vector<std::string> texts,
                      const std::vector<std::string>& names) {
  if (names.empty()) refuse(path, "there are no rows");
  if (texts.empty()) check_features(path, x, names.size());
  LabelledData data{std::move(x), std::move(texts), {}, distinct_labels(names)};
  std::map<std::string_view, int> index;
  for (size_t i = 0; i < data.labels.size(); ++i) index[data.labels[i]] = static_cast<int>(i);
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty()) refuse(path, fmt::format("the label of row {} is empty (rows count from 0)", i));
    data.y.push_back(index.at(names[i]));
  }
  return data;
}

std::vector<std::string> decimal(const std::vector<int>& numbers) {
  std::vector<std::string> names;
  names.reserve(numbers.size());
  for (const int number : numbers) names.push_back(fmt::format("{}", number));
  return names;
}

std::vector<std::string> lines(std::string_view text) {
  std::vector<std::string> result;
  for_each_line(text, [&](size_t, std::string_view line) { result.emplace_back(line); });
  return result;
}

std::vector<std::string> read_label_file(const std::filesystem::path& path) {
  const Contents contents(path);
  const std::span<const std::byte> bytes = contents.bytes();
  if (bytes.empty()) refuse(path, "it is empty; give the labels as .npy, IDX or one a line");
  if (is_npy(bytes)) return as_labels(parse_npy(contents.source(), bytes));
  if (is_idx(bytes)) return decimal(idx_labels(bytes, contents.source()));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.find('\0') != std::string_view::npos)
    refuse(path, "these are no labels; give them as .npy, IDX or one a line");
  return lines(text);
}

LabelledData read_npz(const std::filesystem::path& path) {
  const ZipFile zip = ZipFile::open(path);
  const auto source = [&](std::string_view name) { return fmt::format("'{}': {}", path.string(), name); };
  const ZipContents x = zip.read(features_name), y = zip.read(labels_name);
  const std::vector<std::string> names = as_labels(parse_npy(source(labels_name), y.bytes()));
  return numbered(path, as_matrix(parse_npy(source(features_name), x.bytes())), {}, names);
}

}  // namespace

std::vector<std::string> distinct_labels(std::span<const std::string> names) {
  std::vector<std::string> labels(names.begin(), names.end());
  std::ranges::sort(labels);
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  const auto is_integer = [](const std::string& label) { return integer(label).has_value(); };
  if (std::ranges::all_of(labels, is_integer))
    std::ranges::stable_sort(labels, {}, [](const std::string& label) { return *integer(label); });
  return labels;
}

LabelledData read_labelled(const std::filesystem::path& path, const LabelledOptions& options) {
  if (const std::optional<char> separator = separator_of(path)) {
    if (!options.label_file.empty())
      refuse(path, "a table has a column of labels; a file of labels belongs to .npy features and IDX images");
    TableRows rows = read_table(path, *separator, options);
    return numbered(path, std::move(rows.x), std::move(rows.texts), rows.labels);
  }
  if (!options.label_column.empty() || !options.text_column.empty() || !options.header)
    refuse(path, "columns and headers are those of tables, whose names end in .csv or .tsv");
  const Contents contents(path);
  const std::span<const std::byte> bytes = contents.bytes();
  if (bytes.empty()) refuse(path, "it is empty");
  if (is_zip(bytes)) {
    if (!options.label_file.empty()) refuse(path, "an .npz file holds its own labels, y; leave the file of labels out");
    return read_npz(path);
  }
  if (!is_npy(bytes) && !is_idx(bytes))
    refuse(path, "hone does not know these contents; give .npz, .npy, IDX, or a table whose name ends in .csv or .tsv");
  if (options.label_file.empty()) refuse(path, "it holds no labels; give a file of them too");
  const std::vector<std::string> names = read_label_file(options.label_file);
  Matrix x = is_npy(bytes) ? as_matrix(parse_npy(contents.source(), bytes)) : idx_images(bytes, contents.source());
  return numbered(path, std::move(x), {}, names);
}

std::vector<size_t> keep_labels(std::span<const std::string> labels, LabelledData& data) {
  std::vector<size_t> rows;
  for (size_t i = 0; i < data.size(); ++i)
    if (std::ranges::find(labels, data.labels.at(static_cast<size_t>(data.y[i]))) != labels.end()) rows.push_back(i);
  Matrix x = Matrix::uninitialized(data.x.rows() == 0 ? 0 : rows.size(), data.x.cols());
  for (size_t i = 0; i < rows.size(); ++i) {
    data.y[i] = data.y[rows[i]];
    if (data.texts.empty())
      std::ranges::copy(data.x.row(rows[i]), x.row(i).begin());
    else if (rows[i] != i)
      data.texts[i] = std::move(data.texts[rows[i]]);
  }
  data.x = std::move(x);
  data.y.resize(rows.size());
  if (!data.texts.empty()) data.texts.resize(rows.size());
  return rows;
}

std::vector<int> labels_as(std::span<const std::string> labels, const LabelledData& data, std::string_view what) {
  std::map<std::string_view, int> index;
  for (size_t i = 0; i < labels.size(); ++i) index[labels[i]] = static_cast<int>(i);
  std::vector<int> y;
  for (size_t i = 0; i < data.size(); ++i) {
    const std::string& name = data.labels.at(static_cast<size_t>(data.y[i]));
    const auto found = index.find(name);
    if (found == index.end())
      throw Error(ErrorCode::bad_input,
                  fmt::format("{}: row {} has the label '{}', which no training row has; remove such rows, or train on "
                              "data that has them (rows count from 0)",
                              what, i, name));
    y.push_back(found->second);
  }
  return y;
}

}  // namespace hone
