#include "adapt/near_duplicates.h"

namespace hone {
namespace {

constexpr size_t gram_length = 13;

std::set<std::vector<Token>> grams(std::span<const Token> tokens) {
  std::set<std::vector<Token>> result;
  for (size_t i = 0; i + gram_length <= tokens.size(); ++i)
    result.emplace(tokens.begin() + static_cast<ptrdiff_t>(i),
                   tokens.begin() + static_cast<ptrdiff_t>(i + gram_length));
  return result;
}

}  // namespace

TextGrams::TextGrams(std::span<const Token> text) : grams_(grams(text)) {}

double TextGrams::share_in(std::span<const Token> tokens) const {
  if (grams_.empty()) return 0;
  size_t shared = 0;
  for (const std::vector<Token>& gram : grams(tokens)) shared += grams_.count(gram);
  return static_cast<double>(shared) / static_cast<double>(grams_.size());
}

}  // namespace hone
