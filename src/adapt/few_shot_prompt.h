// Labelled texts as the model reads them: a template, tokens of inputs, and tokens that tell labels apart.
#pragma once

#include "hone/fewshot.h"

namespace hone {

// A prompt template cut at {input} and {label}.
class PromptTemplate {
 public:
  // Throws Error{bad_input} unless it names {input} and {label} once each, in that order.
  explicit PromptTemplate(std::string_view text);

  std::vector<Token> input(const Tokenizer& tokenizer, std::string_view text) const;
  std::vector<Token> label(const Tokenizer& tokenizer, std::string_view text) const;
  // What follows a label; may be empty.
  std::vector<Token> after(const Tokenizer& tokenizer) const;

 private:
  std::string before_, between_, spaces_, after_;
};

// The labels in the order in which they appear.
std::vector<std::string> labels_of(std::span<const LabelledText> examples);

// Tokens in which labels differ: what all have at their beginning is moved to `common`, and where one is the beginning
// of another, all have the first token of `after` at their end.
struct LabelTokens {
  std::vector<Token> common;
  std::vector<std::vector<Token>> labels;
};
// Throws Error{bad_input} for fewer than two labels, labels without tokens or with the same ones.
LabelTokens distinguishing_tokens(std::span<const std::string> names, std::vector<std::vector<Token>> labels,
                                  std::span<const Token> after);

// The number that a label is. Throws Error{bad_input} if it is none or not finite.
double number_of(const std::string& label);

}  // namespace hone
