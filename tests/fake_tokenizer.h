// Tokenizers that need no model file.
#pragma once

#include <cctype>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "hone/tokenizer.h"

namespace hone::test {

// One token a byte.
class ByteTokenizer : public Tokenizer {
 public:
  std::vector<Token> encode(std::string_view text, bool = false) const override {
    std::vector<Token> tokens;
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  std::string piece(Token token) const override { return std::string(1, static_cast<char>(token)); }
  size_t vocabulary_size() const override { return 256; }
  bool ends_generation(Token) const override { return false; }
  Token bos() const override { return -1; }
  bool adds_bos() const override { return false; }
};

// One token a word with the space before it; other bytes stand alone. The vocabulary grows as words are met.
class WordTokenizer : public ByteTokenizer {
 public:
  std::vector<Token> encode(std::string_view text, bool = false) const override {
    std::vector<Token> tokens;
    for (size_t i = 0; i < text.size();) {
      size_t end = i + 1;
      if (text[i] == ' ' || is_letter(text[i])) {
        while (end < text.size() && is_letter(text[end])) ++end;
      }
      tokens.push_back(id_of(std::string(text.substr(i, end - i))));
      i = end;
    }
    return tokens;
  }
  std::string piece(Token token) const override {
    const std::lock_guard lock(mutex_);
    return pieces_.at(static_cast<size_t>(token));
  }
  size_t vocabulary_size() const override {
    const std::lock_guard lock(mutex_);
    return pieces_.size();
  }

 private:
  static bool is_letter(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }
  Token id_of(const std::string& piece) const {
    const std::lock_guard lock(mutex_);
    const auto [known, added] = ids_.emplace(piece, static_cast<Token>(pieces_.size()));
    if (added) pieces_.push_back(piece);
    return known->second;
  }

  mutable std::mutex mutex_;
  mutable std::map<std::string, Token> ids_;
  mutable std::vector<std::string> pieces_;
};

// Knows ASCII bytes only, puts a space before every text, and spells any other character with two unknown tokens.
class PoorTokenizer : public ByteTokenizer {
 public:
  std::vector<Token> encode(std::string_view text, bool = false) const override {
    std::vector<Token> tokens = {' '};
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x80) tokens.push_back(byte);
      if (byte >= 0xC0) tokens.insert(tokens.end(), {300, 300});
    }
    return tokens;
  }
  std::string piece(Token token) const override { return token < 256 ? ByteTokenizer::piece(token) : ""; }
};

}  // namespace hone::test
