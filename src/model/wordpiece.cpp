#include "model/wordpiece.h"

#include <algorithm>

#include "model/utf8.h"

namespace hone {
namespace {

size_t characters_of(std::string_view word) {
  return static_cast<size_t>(std::ranges::count_if(word, [](char byte) { return (byte & 0xC0) != 0x80; }));
}

}  // namespace

WordPieceTokenizer::WordPieceTokenizer(Definition definition)
    : VocabularyTokenizer(std::move(definition.vocabulary)),
      unknown_(definition.unknown),
      sep_(definition.sep),
      basic_(definition.words),
      longest_word_(definition.longest_word) {
  pieces_.resize(vocabulary_.size());
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const std::string_view text = vocabulary_.texts[i];
    const auto token = static_cast<Token>(i);
    if (vocabulary_.kinds[i] == TokenKind::control) control_.add(text, token);
    if (!vocabulary_.is_text(i)) continue;
    const bool starts = text.starts_with(word_start);
    pieces_[i] = starts ? " " + std::string(text.substr(word_start.size())) : text;
    const std::string_view piece = std::string_view(pieces_[i]).substr(starts ? 1 : 0);
    if (piece.empty()) continue;
    (starts ? starts_ : continues_).insert_or_assign(piece, token);
    longest_piece_ = std::max(longest_piece_, piece.size());
  }
}

std::vector<Token> WordPieceTokenizer::encode(std::string_view text, bool special) const {
  std::vector<Token> tokens;
  const auto encode_text = [&](std::string_view plain) {
    basic_.split(plain, [&](std::string_view word) { encode_word(word, tokens); });
  };
  if (special)
    control_.partition(text, encode_text, [&](Token token) { tokens.push_back(token); });
  else
    encode_text(text);
  return tokens;
}

void WordPieceTokenizer::encode_word(std::string_view word, std::vector<Token>& out) const {
  const size_t before = out.size();
  bool known = word.size() <= longest_word_ || characters_of(word) <= longest_word_;
  for (size_t at = 0; known && at < word.size();) {
    const auto& pieces = at == 0 ? starts_ : continues_;
    size_t length = std::min(word.size() - at, longest_piece_);
    auto found = pieces.end();
    for (; length > 0 && found == pieces.end(); --length) found = pieces.find(word.substr(at, length));
    known = found != pieces.end();
    if (!known) break;
    out.push_back(found->second);
    at += found->first.size();
  }
  if (known) return;
  out.resize(before);
  out.push_back(unknown_);
}

}  // namespace hone
