// How much of a text stands in another one word for word: what tells a near-duplicate from a neighbour.
#pragma once

#include <set>
#include <span>
#include <vector>

#include "hone/tokenizer.h"

namespace hone {

class TextGrams {
 public:
  explicit TextGrams(std::span<const Token> text);
  // The share of the text's distinct 13-grams that `tokens` holds too; 0 if the text has none.
  double share_in(std::span<const Token> tokens) const;

 private:
  std::set<std::vector<Token>> grams_;
};

}  // namespace hone
