#include "model/spm_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "model/utf8.h"

namespace hone {
namespace {

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  result.reserve(text.size() + text.size() / 4);
  for (size_t at = 0;;) {
    const size_t found = text.find(from, at);
    result += text.substr(at, found - at);
    if (found == std::string_view::npos) return result;
    result += to;
    at = found + from.size();
  }
}

std::string_view character_at(std::string_view text, size_t at) {
  return text.substr(at, std::max<size_t>(1, utf8_length(text, at)));
}

uint64_t packed(std::string_view character) {
  uint64_t value = 0;
  for (const char byte : character) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}

uint64_t neighbours(std::string_view left, std::string_view right) { return packed(left) << 32 | packed(right); }

// "<0xXX>", or -1.
int byte_value(const std::string& text) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return -1;
  const size_t high = digits.find(text[3]);
  const size_t low = digits.find(text[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) return -1;
  return static_cast<int>(high << 4 | low);
}

}  // namespace

SpmTokenizer::SpmTokenizer(const Gguf& file)
    : VocabularyTokenizer(Vocabulary::read(file, true)),
      add_space_prefix_(file.boolean_or("tokenizer.ggml.add_space_prefix", true)) {
  pieces_.resize(vocabulary_.size());
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const std::string& text = vocabulary_.texts[i];
    escaped_.push_back(replaced(text, " ", word_start));
    if (vocabulary_.is_text(i)) pieces_[i] = replaced(text, word_start, " ");
    if (vocabulary_.kinds[i] == TokenKind::user_defined) user_defined_.add(escaped_[i], static_cast<Token>(i));
    if (vocabulary_.kinds[i] == TokenKind::control) control_.add(text, static_cast<Token>(i));
  }
  read_bytes();
  read_mergeable(file);
}

void SpmTokenizer::read_bytes() {
  byte_tokens_.fill(-1);
  for (size_t i = 0; i < vocabulary_.size(); ++i) {
    const int byte = vocabulary_.kinds[i] == TokenKind::byte ? byte_value(vocabulary_.texts[i]) : -1;
    if (byte < 0) continue;
    byte_tokens_[static_cast<size_t>(byte)] = static_cast<Token>(i);
    pieces_[i] = std::string(1, static_cast<char>(byte));
  }
  const auto missing = std::ranges::find(byte_tokens_, -1);
  if (missing != byte_tokens_.end())
    throw Error(
        ErrorCode::unsupported,
        fmt::format("'{}': tokenizer.ggml.tokens has no byte token <0x{:02X}>; hone needs a vocabulary with byte "
                    "fallback",
                    vocabulary_.file, missing - byte_tokens_.begin()));
}

void SpmTokenizer::read_mergeable(const Gguf& file) {
  const std::vector<double>& scores = file.reals("tokenizer.ggml.scores");
  if (scores.size() != vocabulary_.size() ||
      std::ranges::any_of(scores, [](double score) { return std::isnan(score); }))
    throw Error(ErrorCode::corrupt,
                fmt::format("'{}': tokenizer.ggml.scores has {} numbers for {} tokens, or one that is not a number; "
                            "download or convert the model again",
                            vocabulary_.file, scores.size(), vocabulary_.size()));
  std::vector<double> best_first = scores;
  std::ranges::sort(best_first, std::greater<>());
  best_first.erase(std::unique(best_first.begin(), best_first.end()), best_first.end());

  for (size_t i = 0; i < vocabulary_.size(); ++i) {
    const std::string_view text = escaped_[i];
    if (!vocabulary_.is_text(i) || text.empty()) continue;
    const auto rank = std::ranges::lower_bound(best_first, scores[i], std::greater<>()) - best_first.begin();
    mergeable_.try_emplace(text, PairMerge{static_cast<uint32_t>(rank), static_cast<Token>(i)});
    longest_mergeable_ = std::max(longest_mergeable_, text.size());
    for (size_t at = character_at(text, 0).size(), previous = 0; at < text.size();) {
      const std::string_view character = character_at(text, at);
      neighbours_.insert(neighbours(character_at(text, previous), character));
      previous = at;
      at += character.size();
    }
  }
}

std::vector<Token> SpmTokenizer::encode(std::string_view text, bool special) const {
  std::vector<Token> tokens;
  PairMerger merger;
  if (special)
    control_.partition(
        text, [&](std::string_view plain) { encode_text(plain, merger, tokens); },
        [&](Token token) { tokens.push_back(token); });
  else if (!text.empty())
    encode_text(text, merger, tokens);
  return tokens;
}

void SpmTokenizer::encode_text(std::string_view text, PairMerger& merger, std::vector<Token>& out) const {
  std::string escaped = replaced(text, " ", word_start);
  if (add_space_prefix_) escaped.insert(0, word_start);
  user_defined_.partition(
      escaped, [&](std::string_view plain) { encode_escaped(plain, merger, out); },
      [&](Token token) { out.push_back(token); });
}

void SpmTokenizer::encode_escaped(std::string_view text, PairMerger& merger, std::vector<Token>& out) const {
  size_t begin = 0;
  std::string_view previous = character_at(text, 0);
  for (size_t at = previous.size(); at < text.size();) {
    const std::string_view character = character_at(text, at);
    if (!neighbours_.contains(neighbours(previous, character))) {
      encode_segment(text.substr(begin, at - begin), merger, out);
      begin = at;
    }
    previous = character;
    at += character.size();
  }
  encode_segment(text.substr(begin), merger, out);
}

void SpmTokenizer::encode_segment(std::string_view segment, PairMerger& merger, std::vector<Token>& out) const {
  const auto find = [&](size_t begin, size_t end) -> std::optional<PairMerge> {
    if (end - begin > longest_mergeable_) return std::nullopt;
    const auto found = mergeable_.find(segment.substr(begin, end - begin));
    if (found == mergeable_.end()) return std::nullopt;
    return found->second;
  };
  merger.start(segment.size());
  for (size_t at = 0; at < segment.size();) {
    const size_t length = character_at(segment, at).size();
    merger.add(at, find(at, at + length).value_or(PairMerge{}).token);
    at += length;
  }
  merger.merge([&](Token, Token, uint32_t begin, uint32_t end) { return find(begin, end); });
  merger.for_each([&](Token token, uint32_t begin, uint32_t end) {
    if (token >= 0) return out.push_back(token);
    for (const char byte : segment.substr(begin, end - begin))
      out.push_back(byte_tokens_[static_cast<unsigned char>(byte)]);
  });
}

}  // namespace hone
