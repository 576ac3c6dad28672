#include "adapt/few_shot_prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace hone {
namespace {

// Where `slot` stands in `text`, once.
size_t place_of(std::string_view text, std::string_view slot) {
  const size_t at = text.find(slot);
  if (at == std::string_view::npos || text.find(slot, at + 1) != std::string_view::npos)
    throw Error(ErrorCode::bad_input, fmt::format("template '{}' must name {} once", text, slot));
  return at;
}

bool starts_with(const std::vector<Token>& text, const std::vector<Token>& start) {
  return text.size() >= start.size() && std::equal(start.begin(), start.end(), text.begin());
}

}  // namespace

PromptTemplate::PromptTemplate(std::string_view text) {
  constexpr std::string_view input_slot = "{input}", label_slot = "{label}";
  const size_t input = place_of(text, input_slot), label = place_of(text, label_slot);
  if (label < input)
    throw Error(ErrorCode::bad_input,
                fmt::format("template '{}' has {} before {}; a query ends where its label would stand", text,
                            label_slot, input_slot));
  before_ = text.substr(0, input);
  between_ = text.substr(input + input_slot.size(), label - input - input_slot.size());
  after_ = text.substr(label + label_slot.size());
  const size_t end = between_.find_last_not_of(' ');
  const size_t kept = end == std::string::npos ? 0 : end + 1;
  spaces_ = between_.substr(kept);
  between_.resize(kept);
}

std::vector<Token> PromptTemplate::input(const Tokenizer& tokenizer, std::string_view text) const {
  return tokenizer.encode(fmt::format("{}{}{}", before_, text, between_));
}

std::vector<Token> PromptTemplate::label(const Tokenizer& tokenizer, std::string_view text) const {
  return tokenizer.encode(fmt::format("{}{}", spaces_, text));
}

std::vector<Token> PromptTemplate::after(const Tokenizer& tokenizer) const { return tokenizer.encode(after_); }

std::vector<std::string> labels_of(std::span<const LabelledText> examples) {
  std::vector<std::string> labels;
  for (const LabelledText& example : examples)
    if (std::ranges::find(labels, example.label) == labels.end()) labels.push_back(example.label);
  return labels;
}

LabelTokens distinguishing_tokens(std::span<const std::string> names, std::vector<std::vector<Token>> labels,
                                  std::span<const Token> after) {
  if (labels.size() < 2)
    throw Error(ErrorCode::bad_input,
                labels.empty() ? "there are no labels"
                               : fmt::format("every example has the label '{}', so there is nothing to tell apart; add "
                                             "examples of another label, or name all labels",
                                             names[0]));
  bool nested = false;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i].empty() || names[i].find_first_not_of(" \t\r\n") == std::string::npos)
      throw Error(ErrorCode::bad_input, fmt::format("label '{}' has no text; give it one", names[i]));
    for (size_t j = 0; j < labels.size(); ++j) {
      if (i == j) continue;
      if (names[i] == names[j]) throw Error(ErrorCode::bad_input, fmt::format("label '{}' is given twice", names[i]));
      if (labels[i] == labels[j])
        throw Error(ErrorCode::bad_input,
                    fmt::format("labels '{}' and '{}' are the same tokens to this model", names[i], names[j]));
      nested = nested || starts_with(labels[j], labels[i]);
    }
  }
  if (nested) {
    if (after.empty())
      throw Error(
          ErrorCode::bad_input,
          "one label is the beginning of another, and the template has no text behind {label} that would end it");
    for (std::vector<Token>& label : labels) label.push_back(after.front());
  }
  size_t common = 0;
  const auto agree = [&](const std::vector<Token>& l) {
    return l.size() > common + 1 && l[common] == labels[0][common];
  };
  while (std::ranges::all_of(labels, agree)) ++common;
  const auto end = labels[0].begin() + static_cast<ptrdiff_t>(common);
  LabelTokens result{{labels[0].begin(), end}, {}};
  for (const std::vector<Token>& label : labels)
    result.labels.emplace_back(label.begin() + static_cast<ptrdiff_t>(common), label.end());
  return result;
}

double number_of(const std::string& label) {
  const auto first = label.find_first_not_of(' '), last = label.find_last_not_of(' ');
  double value = 0;
  if (first != std::string::npos) {
    const char *begin = label.data() + first, *end = label.data() + last + 1;
    const auto [stop, error] = std::from_chars(begin, end, value);
    if (error == std::errc() && stop == end && std::isfinite(value)) return value;
  }
  throw Error(ErrorCode::bad_input, fmt::format("label '{}' is not a number; regression needs numbers", label));
}

}  // namespace hone
