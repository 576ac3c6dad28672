#include "model/bpe_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "model/utf8.h"

namespace hone {
namespace {

// GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others for U+0100 and on, in their order.
const std::map<std::string, char, std::less<>>& byte_alphabet() {
  static const auto alphabet = [] {
    std::map<std::string, char, std::less<>> bytes;
    int moved = 0;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
      const int point = printable ? byte : 0x100 + moved++;
      const std::string text =
          point < 0x80 ? std::string(1, static_cast<char>(point))
                       : std::string{static_cast<char>(0xC0 | point >> 6), static_cast<char>(0x80 | (point & 0x3F))};
      bytes.emplace(text, static_cast<char>(byte));
    }
    return bytes;
  }();
  return alphabet;
}

// Characters outside the alphabet stay as they are.
std::string bytes_of(std::string_view text) {
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const std::string_view character = text.substr(at, std::max<size_t>(1, utf8_length(text, at)));
    const auto found = byte_alphabet().find(character);
    if (found == byte_alphabet().end())
      bytes += character;
    else
      bytes += found->second;
    at += character.size();
  }
  return bytes;
}

std::string pre_tokenizer_name(const Gguf& file) {
  std::string name = file.string_or("tokenizer.ggml.pre", "");
  if (!PreTokenizer::is_known(name))
    throw Error(ErrorCode::unsupported,
                fmt::format("'{}': tokenizer.ggml.pre is '{}'; hone knows smollm, gpt-2, llama-bpe and qwen2",
                            file.path().string(), name));
  return name;
}

}  // namespace

BpeTokenizer::BpeTokenizer(const Gguf& file)
    : VocabularyTokenizer(Vocabulary::read(file, pre_tokenizer_name(file) == "llama-bpe")),
      pre_tokenizer_(pre_tokenizer_name(file)),
      ignore_merges_(pre_tokenizer_name(file) == "llama-bpe") {
  pieces_.resize(vocabulary_.size());
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const std::string& text = vocabulary_.texts[i];
    const auto token = static_cast<Token>(i);
    switch (vocabulary_.kinds[i]) {
      case TokenKind::normal:
        pieces_[i] = bytes_of(text);
        by_bytes_.emplace(pieces_[i], token);
        break;
      case TokenKind::user_defined:
        pieces_[i] = text;
        user_defined_.add(text, token);
        user_defined_and_control_.add(text, token);
        break;
      case TokenKind::control: user_defined_and_control_.add(text, token); break;
      default: break;
    }
  }
  for (size_t byte = 0; byte < byte_tokens_.size(); ++byte) {
    const char text = static_cast<char>(byte);
    const auto found = by_bytes_.find(std::string_view(&text, 1));
    byte_tokens_[byte] = found == by_bytes_.end() ? -1 : found->second;
  }
  read_merges(file);
}

void BpeTokenizer::read_merges(const Gguf& file) {
  const std::vector<std::string>& lines = file.strings("tokenizer.ggml.merges");
  merges_.reserve(lines.size());
  const auto find = [&](const std::string& bytes) -> std::optional<Token> {
    const auto found = by_bytes_.find(bytes);
    if (found == by_bytes_.end()) return std::nullopt;
    return found->second;
  };
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string_view line = lines[i];
    const size_t space = line.find(' ', 1);
    std::optional<Token> left, right, both;
    if (space != std::string_view::npos) {
      const std::string first = bytes_of(line.substr(0, space));
      const std::string second = bytes_of(line.substr(space + 1));
      left = find(first);
      right = find(second);
      both = find(first + second);
    }
    if (!left || !right || !both)
      throw Error(ErrorCode::corrupt,
                  fmt::format("'{}': tokenizer.ggml.merges: entry {} ('{}') does not join two tokens to a third; "
                              "download or convert the model again",
                              vocabulary_.file, i, line));
    merges_.try_emplace(uint64_t{static_cast<uint32_t>(*left)} << 32 | static_cast<uint32_t>(*right),
                        PairMerge{static_cast<uint32_t>(i), *both});
  }
}

std::vector<Token> BpeTokenizer::encode(std::string_view text, bool special) const {
  std::vector<Token> tokens;
  PairMerger merger;
  const LiteralTrie& literals = special ? user_defined_and_control_ : user_defined_;
  literals.partition(
      text,
      [&](std::string_view plain) {
        pre_tokenizer_.split(plain, [&](std::string_view word) { encode_word(word, merger, tokens); });
      },
      [&](Token token) { tokens.push_back(token); });
  return tokens;
}

void BpeTokenizer::encode_word(std::string_view word, PairMerger& merger, std::vector<Token>& out) const {
  if (ignore_merges_) {
    if (const auto whole = by_bytes_.find(word); whole != by_bytes_.end()) {
      out.push_back(whole->second);
      return;
    }
  }
  merger.start(word.size());
  for (size_t i = 0; i < word.size(); ++i) {
    const Token token = byte_tokens_[static_cast<unsigned char>(word[i])];
    if (token >= 0) merger.add(i, token);
  }
  merger.merge([&](Token left, Token right, uint32_t, uint32_t) -> std::optional<PairMerge> {
    const auto found = merges_.find(uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right));
    if (found == merges_.end()) return std::nullopt;
    return found->second;
  });
  merger.for_each([&](Token token, uint32_t, uint32_t) { out.push_back(token); });
}

}  // namespace hone
