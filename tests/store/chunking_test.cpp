#include "store/chunking.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"
#include "hone/base.h"
#include "store/documents.h"
#include "tests/expect_error.h"
#include "tests/fake_tokenizer.h"

namespace hone::store::chunking_test {
namespace {

struct Piece {
  std::string text;
  std::vector<Token> tokens;
};

std::vector<Piece> chunks(std::string_view document, const Tokenizer& tokenizer, size_t limit) {
  std::vector<Piece> result;
  for_each_chunk(document, tokenizer, limit, [&](std::string_view text, std::span<const Token> tokens) {
    result.push_back({std::string(text), {tokens.begin(), tokens.end()}});
  });
  return result;
}

bool is_valid_utf8(std::string text) { return make_valid_utf8(text) == 0; }

std::string spell(const Tokenizer& tokenizer, const std::vector<Token>& tokens) {
  std::string text;
  for (const Token token : tokens) text += tokenizer.piece(token);
  return text;
}

// What holds for every document and every tokenizer whose pieces spell the text.
void expect_sound(std::string_view document, const Tokenizer& tokenizer, size_t limit) {
  std::string whole;
  const std::vector<Piece> result = chunks(document, tokenizer, limit);
  for (const Piece& piece : result) {
    whole += piece.text;
    ASSERT_LE(piece.tokens.size(), limit);
    ASSERT_FALSE(piece.text.empty());
    ASSERT_TRUE(is_valid_utf8(piece.text));
    ASSERT_EQ(spell(tokenizer, piece.tokens), piece.text);
  }
  ASSERT_EQ(whole, document);
}

TEST(Chunking, ShortDocumentIsOneChunk) {
  const test::ByteTokenizer tokenizer;
  EXPECT_EQ(chunks("hello", tokenizer, 16).size(), 1u);
  EXPECT_EQ(chunks(std::string(16, 'x'), tokenizer, 16).size(), 1u);
  EXPECT_TRUE(chunks("", tokenizer, 16).empty());
}

TEST(Chunking, PrefersTheStrongestBoundaryOfTheLastQuarter) {
  const test::ByteTokenizer tokenizer;
  const auto first = [&](const std::string& start) {
    return chunks(start + std::string(200, 'z'), tokenizer, 100).front().text;
  };
  const std::string x(76, 'x');
  EXPECT_EQ(first(x + "a\n\nb\nc. d e"), x + "a\n\n");
  EXPECT_EQ(first(x + "a\n  \nb\nc. d e"), x + "a\n  \n");
  EXPECT_EQ(first(x + "a\nc. d e"), x + "a\n");
  EXPECT_EQ(first(x + "a\n  c. d e"), x + "a\n");
  EXPECT_EQ(first(x + "c. d e"), x + "c. ");
  EXPECT_EQ(first(x + "d e"), x + "d ");
  EXPECT_EQ(first(x + "d\u3002e f"), x + "d\u3002");
  EXPECT_EQ(first(x), x + std::string(24, 'z'));
  EXPECT_EQ(first(std::string(20, 'x') + "\n\n" + std::string(60, 'y')).size(), 100u);
}

// "\n" with the indentation after it is one token in byte-level BPE vocabularies.
class IndentTokenizer : public test::ByteTokenizer {
 public:
  std::vector<Token> encode(std::string_view text, bool = false) const override {
    std::vector<Token> tokens;
    for (size_t i = 0; i < text.size(); ++i) {
      const bool indent = text.substr(i, 4) == "\n   ";
      tokens.push_back(indent ? 256 : static_cast<unsigned char>(text[i]));
      if (indent) i += 3;
    }
    return tokens;
  }
  std::string piece(Token token) const override { return token == 256 ? "\n   " : ByteTokenizer::piece(token); }
};

TEST(Chunking, CutsIndentedCodeAtLines) {
  const IndentTokenizer tokenizer;
  std::string code;
  for (int i = 0; i < 40; ++i) code += "\n    return some thing";
  for (const Piece& piece : chunks(code, tokenizer, 100)) {
    const size_t last = piece.text.find_last_not_of(' ');
    EXPECT_TRUE(piece.text[last] == '\n' || piece.text.ends_with("thing")) << piece.text;
  }
}

TEST(Chunking, ShortTailJoinsTheChunkBefore) {
  const test::ByteTokenizer tokenizer;
  const std::string head(80, 'x');
  EXPECT_EQ(chunks(head + "\n\n" + std::string(15, 'y') + "\nabcd", tokenizer, 100).size(), 2u);
  const auto merged = chunks(head + "\n" + std::string(15, 'y'), tokenizer, 100);
  EXPECT_EQ(merged.size(), 1u);
  const auto kept = chunks(std::string(105, 'y'), tokenizer, 100);
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_EQ(kept[1].text.size(), 5u);
}

TEST(Chunking, TailThatFitsIsMergedAfterAnEarlyCut) {
  const test::WordTokenizer tokenizer;
  std::string document;
  for (int i = 0; i < 77; ++i) document += " w";
  document += "\n\n";
  for (int i = 0; i < 25; ++i) document += " v";
  const auto result = chunks(document, tokenizer, 100);
  ASSERT_EQ(result.size(), 2u);
  EXPECT_EQ(result[0].tokens.size(), 79u);
  EXPECT_EQ(result[1].tokens.size(), 25u);
}

TEST(Chunking, NeverSplitsACharacter) {
  const test::ByteTokenizer tokenizer;
  std::string document;
  for (int i = 0; i < 500; ++i) document += i % 3 ? "\U0001F600" : "\u00E9";
  for (const size_t limit : {16, 17, 18, 19, 33}) expect_sound(document, tokenizer, limit);
}

TEST(Chunking, HoldsForRandomDocuments) {
  RandomStream random(7, "chunking");
  const std::vector<std::string> parts = {"a",      "word",       " ",  "\n",   "\n\n", ". ",
                                          "\u00E9", "\U0001F600", "\t", "\r\n", "!"};
  const test::ByteTokenizer bytes;
  const test::WordTokenizer words;
  for (int i = 0; i < 400; ++i) {
    std::string document;
    for (uint64_t n = random.below(600); n > 0; --n) document += parts[random.below(parts.size())];
    const size_t limit = 16 + random.below(60);
    expect_sound(document, bytes, limit);
    expect_sound(document, words, limit);
    if (HasFatalFailure()) return;
  }
}

TEST(Chunking, TokensAreThoseOfTheWholeDocument) {
  const test::WordTokenizer tokenizer;
  std::string document;
  for (int i = 0; i < 30000; ++i) document += (i % 11 == 0 ? "\n" : " ") + ("w" + std::to_string(i % 997));
  ASSERT_GT(document.size(), size_t{128} << 10);
  std::vector<Token> all;
  for (const Piece& piece : chunks(document, tokenizer, 64))
    all.insert(all.end(), piece.tokens.begin(), piece.tokens.end());
  EXPECT_EQ(all, tokenizer.encode(document));
}

TEST(Chunking, CopesWithATokenizerThatCannotSpellTheText) {
  const test::PoorTokenizer tokenizer;
  std::string document = "na\u00EFve \U0001F600\U0001F600 text, ";
  for (int i = 0; i < 6; ++i) document += document;
  std::string whole;
  for (const Piece& piece : chunks(document, tokenizer, 32)) {
    whole += piece.text;
    EXPECT_TRUE(is_valid_utf8(piece.text));
    EXPECT_LE(piece.tokens.size(), 34u);
  }
  EXPECT_EQ(whole, document);
}

// As SmolLM2's vocabulary lacks some control characters.
TEST(Chunking, KeepsBytesThatHaveNoToken) {
  class WithoutControls : public test::ByteTokenizer {
   public:
    std::vector<Token> encode(std::string_view text, bool = false) const override {
      std::vector<Token> tokens;
      for (const char c : text)
        if (c != '\x04') tokens.push_back(static_cast<unsigned char>(c));
      return tokens;
    }
  };
  const WithoutControls tokenizer;
  for (const size_t length : {5, 16, 17, 32, 40, 63}) {
    const std::string document = "\x04" + std::string(length, 'x') + "\x04\x04";
    std::string whole;
    for (const Piece& piece : chunks(document, tokenizer, 16)) whole += piece.text;
    EXPECT_EQ(whole, document) << length;
  }
}

TEST(Chunking, OneLineOfTwentyMegabytes) {
  const test::ByteTokenizer tokenizer;
  const std::string document(20 << 20, 'x');
  size_t bytes = 0;
  for_each_chunk(document, tokenizer, 256,
                 [&](std::string_view text, std::span<const Token>) { bytes += text.size(); });
  EXPECT_EQ(bytes, document.size());
}

TEST(Chunking, RefusesTinyChunks) {
  const test::ByteTokenizer tokenizer;
  HONE_EXPECT_ERROR(chunks("x", tokenizer, 15), ErrorCode::bad_input, "16");
}

TEST(Documents, ReplacesInvalidUtf8) {
  const std::pair<std::string, std::string> cases[] = {
      {"ok \u00E9\U0001F600", "ok \u00E9\U0001F600"},
      {"a\xFF"
       "b",
       "a\uFFFD"
       "b"},
      {"\xE2\x82", "\uFFFD"},
      {"\xC0\x80", "\uFFFD\uFFFD"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xE2\x28\xA1", "\uFFFD(\uFFFD"},
  };
  for (auto [given, expected] : cases) {
    make_valid_utf8(given);
    EXPECT_EQ(given, expected);
  }
}

struct Scanned {
  std::vector<std::string> texts;
  std::string skipped;
};

Scanned scan(const std::string& name, std::string contents) {
  Scanned result;
  const DocumentScan outcome =
      for_each_document(name, std::move(contents), [&](std::string_view text) { result.texts.emplace_back(text); });
  EXPECT_EQ(outcome.documents, result.texts.size());
  result.skipped = outcome.skipped;
  return result;
}

using Texts = std::vector<std::string>;

TEST(Documents, PlainText) {
  EXPECT_EQ(scan("a.md", "\xEF\xBB\xBFhello\n").texts, (Texts{"hello\n"}));
  EXPECT_EQ(scan("a.md", " \n").skipped, "empty");
  EXPECT_NE(scan("a.md", std::string("a\0b", 3)).skipped.find("binary"), std::string::npos);
  EXPECT_NE(scan("a.md", "\x80\x81\xFE\xFF text").skipped.find("binary"), std::string::npos);
  EXPECT_EQ(scan("a.txt", "caf\xE9 au lait").texts, (Texts{"caf\uFFFD au lait"}));
}

TEST(Documents, JsonLines) {
  const Scanned result = scan("a.jsonl",
                              "{\"text\": \"one\", \"meta\": {\"text\": \"not this\"}}\n"
                              "\n"
                              "{\"id\": 3}\n"
                              "{\"text\": 5}\n"
                              "not json\n"
                              "[\"text\"]\n"
                              "{\"text\": [\"no\"]}\r\n"
                              "{\"text\": \"  \"}\n"
                              "{\"text\": \"\\ud83d\\ude00 two\\u0000\"}");
  EXPECT_EQ(result.texts, (Texts{"one", std::string("\U0001F600 two\0", 9)}));
  EXPECT_NE(result.skipped.find("line 3: no \"text\" field"), std::string::npos) << result.skipped;
  EXPECT_NE(result.skipped.find("line 5: not valid JSON"), std::string::npos) << result.skipped;
  EXPECT_NE(result.skipped.find("3 more"), std::string::npos) << result.skipped;
  EXPECT_EQ(scan("a.ndjson", "\n").skipped, "empty");
}

TEST(Documents, DeepJsonDoesNotOverflowTheStack) {
  const Scanned result = scan("a.jsonl", "{\"a\": " + std::string(1 << 20, '[') + "\n{\"text\": \"x\"}\n");
  EXPECT_EQ(result.texts, (Texts{"x"}));
}

TEST(Documents, SurviveRandomBytes) {
  RandomStream random(3, "documents");
  const std::string letters = "{}[]\":,\\ntexu0 \xC3\xA9\xFF\n";
  for (int i = 0; i < 5000; ++i) {
    std::string contents;
    for (uint64_t n = random.below(60); n > 0; --n) contents += letters[random.below(letters.size())];
    for (const std::string& text : scan("a.jsonl", contents).texts) EXPECT_TRUE(is_valid_utf8(text));
  }
}

}  // namespace
}  // namespace hone::store::chunking_test
