#include "model/literal_trie.h"

namespace hone {

void LiteralTrie::add(std::string_view literal, Token token) {
  if (literal.empty()) return;
  first_bytes_.set(static_cast<unsigned char>(literal.front()));
  uint32_t node = 0;
  for (const char byte : literal) {
    const auto [next, added] = edges_.try_emplace(edge(node, byte), static_cast<uint32_t>(tokens_.size()));
    if (added) tokens_.push_back(-1);
    node = next->second;
  }
  tokens_[node] = token;
}

LiteralTrie::Match LiteralTrie::longest(std::string_view text, size_t at) const {
  Match best;
  if (!first_bytes_.test(static_cast<unsigned char>(text[at]))) return best;
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto next = edges_.find(edge(node, text[i]));
    if (next == edges_.end()) break;
    node = next->second;
    if (tokens_[node] >= 0) best = {tokens_[node], i + 1 - at};
  }
  return best;
}

}  // namespace hone
