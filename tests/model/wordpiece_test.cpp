#include "model/wordpiece.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/files.h"
#include "tests/data.h"
#include "tests/expect_error.h"
#include "tests/golden.h"
#include "tests/temporary_folder.h"
#include "tests/vocabulary_file.h"

namespace hone::wordpiece_test {
namespace {

using Words = std::vector<std::string>;
using Tokens = std::vector<Token>;
using nlohmann::json;

Words split(std::string_view text, BasicTokenizer::Options options = {}) {
  Words words;
  BasicTokenizer(options).split(text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

TEST(BasicTokenizer, WordsAndPunctuation) {
  EXPECT_EQ(split("Don't  stop, NOW!\n"), (Words{"don", "'", "t", "stop", ",", "now", "!"}));
  EXPECT_EQ(split("a$b+c^d`e|f~"), (Words{"a", "$", "b", "+", "c", "^", "d", "`", "e", "|", "f", "~"}));
  EXPECT_EQ(split("«a»—b。"), (Words{"«", "a", "»", "—", "b", "。"}));
  EXPECT_EQ(split("1€ 2+2"), (Words{"1€", "2", "+", "2"})) << "outside ASCII a symbol is no punctuation";
  EXPECT_EQ(split(""), Words{});
  EXPECT_EQ(split(" \t\r\n\u00A0\u2003\u3000\u2028"), Words{});
}

TEST(BasicTokenizer, AccentsAndCase) {
  EXPECT_EQ(split("Ünïcödé CAFÉ Việt Ἀθῆναι"), (Words{"unicode", "cafe", "viet", "αθηναι"}));
  EXPECT_EQ(split("e\u0301a\u0323\u0302 İI Straße ΣΑΣ"), (Words{"ea", "ii", "straße", "σασ"}));
  const BasicTokenizer::Options cased{.lower_case = false, .strip_accents = false};
  EXPECT_EQ(split("Café ÉTÉ", cased), (Words{"Café", "ÉTÉ"}));
  const BasicTokenizer::Options accents{.lower_case = true, .strip_accents = false};
  EXPECT_EQ(split("Café İ", accents), (Words{"café", "i\u0307"}));
  EXPECT_EQ(split("각", {.lower_case = false}), (Words{"\u1100\u1161\u11A8"})) << "canonical decomposition";
}

TEST(BasicTokenizer, Ideographs) {
  EXPECT_EQ(split("ab中文cd\U00020000"), (Words{"ab", "中", "文", "cd", "\U00020000"}));
  EXPECT_EQ(split("ab中文cd", {.split_ideographs = false}), (Words{"ab中文cd"}));
  EXPECT_EQ(split("ひらカタ"), (Words{"ひらカタ"}));
}

TEST(BasicTokenizer, WhatIsLeftOut) {
  using namespace std::string_literals;
  EXPECT_EQ(split("a\0b\x01\x7F\v\f c"s), (Words{"ab", "c"}));
  EXPECT_EQ(split("a\u200Db\uFFFDc\u0085d\uFEFF"), (Words{"abcd"}));
  EXPECT_EQ(split("a\xFF"
                  "b\xC3 \xE2\x82 é"),
            (Words{"ab", "e"}));
  EXPECT_EQ(split("\xED\xA0\x80\xF4\x90\x80\x80x"), (Words{"x"}));
}

// A folder with a small vocabulary.
class WordPiece : public ::testing::Test {
 protected:
  static constexpr const char* small =
      "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\nplay\n##able\n##ing\nplayin\n##g\na\n!\n中\n";

  std::unique_ptr<const WordPieceTokenizer> open(std::string_view vocabulary = small) {
    folder_.write("vocab.txt", vocabulary);
    return WordPieceTokenizer::open_folder(folder_.path());
  }
  void expect_error(ErrorCode code, const char* text) {
    HONE_EXPECT_ERROR(WordPieceTokenizer::open_folder(folder_.path()), code, text);
  }
  json small_json() const {
    const std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##able"};
    json object = {{"normalizer", {{"type", "BertNormalizer"}, {"lowercase", true}}},
                   {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
                   {"model", {{"type", "WordPiece"}, {"max_input_chars_per_word", 8}}}};
    for (size_t i = 0; i < tokens.size(); ++i) object["model"]["vocab"][tokens[i]] = i;
    return object;
  }

  test::TemporaryFolder folder_;
};

TEST_F(WordPiece, LongestPieceFirstAndWholeWordsUnknown) {
  const auto tokenizer = open();
  EXPECT_EQ(tokenizer->encode("unplayable"), (Tokens{1})) << "##play is no piece";
  EXPECT_EQ(tokenizer->encode("Unable"), (Tokens{5, 7}));
  EXPECT_EQ(tokenizer->encode("playing a!"), (Tokens{9, 10, 11, 12})) << "playin ##g, not play ##ing";
  EXPECT_EQ(tokenizer->encode("playa 中"), (Tokens{1, 13}));
  EXPECT_EQ(tokenizer->encode("able"), (Tokens{1}));
  EXPECT_EQ(tokenizer->encode(""), Tokens{});
  EXPECT_EQ(tokenizer->encode("##able"), (Tokens{1, 1, 1}));
  EXPECT_EQ(tokenizer->decode(Tokens{2, 5, 7, 12, 3}), " unable !");
  EXPECT_EQ(tokenizer->cls(), 2);
  EXPECT_EQ(tokenizer->sep(), 3);
  EXPECT_EQ(tokenizer->vocabulary_size(), 14u);
}

TEST_F(WordPiece, ControlTokensOnlyIfAsked) {
  const auto tokenizer = open();
  EXPECT_EQ(tokenizer->encode("a[MASK]a", true), (Tokens{11, 4, 11}));
  EXPECT_EQ(tokenizer->encode("a[MASK]a"), (Tokens{11, 1, 1, 1, 11}));
}

TEST_F(WordPiece, AWordOfMoreThanAHundredCharactersIsUnknown) {
  const auto tokenizer = open(std::string(small) + "x\n##x\né\n##é\n");
  EXPECT_EQ(tokenizer->encode(std::string(100, 'x')).size(), 100u);
  EXPECT_EQ(tokenizer->encode(std::string(101, 'x')), (Tokens{1}));
  std::string wide;  // characters are counted, not bytes
  for (int i = 0; i < 100; ++i) wide += "ж";
  EXPECT_EQ(open(std::string(small) + "ж\n##ж\n")->encode(wide).size(), 100u);
  EXPECT_EQ(open(std::string(small) + "ж\n##ж\n")->encode(wide + "ж"), (Tokens{1}));
}

TEST_F(WordPiece, TokenizerConfig) {
  folder_.write("tokenizer_config.json", R"({"do_lower_case": false, "strip_accents": null})");
  EXPECT_EQ(open()->encode("Unable unable"), (Tokens{1, 5, 7}));
  folder_.write("tokenizer_config.json", R"({"do_lower_case": "no"})");
  expect_error(ErrorCode::corrupt, "do_lower_case");
  folder_.write("tokenizer_config.json", "[");
  expect_error(ErrorCode::corrupt, "tokenizer_config.json");
}

TEST_F(WordPiece, TokenizerJson) {
  folder_.write("tokenizer.json", small_json().dump());
  const auto tokenizer = WordPieceTokenizer::open_folder(folder_.path());
  EXPECT_EQ(tokenizer->encode("Unable unableable"), (Tokens{5, 6, 1}));
  const std::vector<std::tuple<std::string, json, ErrorCode>> wrong = {
      {"/model/type", "BPE", ErrorCode::unsupported},
      {"/normalizer/type", "Lowercase", ErrorCode::unsupported},
      {"/pre_tokenizer", nullptr, ErrorCode::unsupported},
      {"/normalizer/clean_text", false, ErrorCode::unsupported},
      {"/model/vocab", json::array(), ErrorCode::corrupt},
      {"/model/vocab/un", 6, ErrorCode::corrupt},
      {"/model/vocab/un", -1, ErrorCode::corrupt},
      {"/model/vocab/un", "5", ErrorCode::corrupt},
      {"/model/max_input_chars_per_word", 0, ErrorCode::corrupt}};
  for (const auto& [at, value, code] : wrong) {
    json object = small_json();
    object[json::json_pointer(at)] = value;
    folder_.write("tokenizer.json", object.dump());
    expect_error(code, "tokenizer.json");
  }
}

TEST_F(WordPiece, DamagedVocabularies) {
  expect_error(ErrorCode::not_found, "vocab.txt");
  for (const char* without : {"[UNK]", "[CLS]", "[SEP]"}) {
    std::string text = small;
    text.replace(text.find(without), 5, "gone!");
    folder_.write("vocab.txt", text);
    expect_error(ErrorCode::corrupt, without);
  }
  folder_.write("vocab.txt", "");
  expect_error(ErrorCode::corrupt, "vocab.txt");
}

TEST_F(WordPiece, DamagedGguf) {
  const auto file = [](test::VocabularyFile& to, uint32_t unknown, uint32_t cls) -> test::VocabularyFile& {
    return to.text("tokenizer.ggml.model", "bert")
        .texts("tokenizer.ggml.tokens", {"[UNK]", "[CLS]", "[SEP]", "\u2581a"})
        .integers("tokenizer.ggml.token_type", {3, 3, 3, 1})
        .integer("tokenizer.ggml.unknown_token_id", unknown)
        .integer("tokenizer.ggml.cls_token_id", cls)
        .integer("tokenizer.ggml.seperator_token_id", 2);
  };
  test::VocabularyFile good;
  EXPECT_EQ(Tokenizer::open(file(good, 0, 1).write())->encode("a b"), (Tokens{3, 0}));
  test::VocabularyFile unknown;
  HONE_EXPECT_ERROR(Tokenizer::open(file(unknown, 4, 1).write()), ErrorCode::corrupt, "unknown_token_id");
  test::VocabularyFile cls;
  HONE_EXPECT_ERROR(Tokenizer::open(file(cls, 0, 9).write()), ErrorCode::corrupt, "cls_token_id");
}

TEST_F(WordPiece, VocabularyTextAndJsonAgreeRealMiniLM) {
  HONE_NEED_FILE(test::minilm());
  const auto text = WordPieceTokenizer::open_folder(test::minilm());
  folder_.write("tokenizer.json", read_file(test::minilm() / "tokenizer.json"));
  const auto from_json = WordPieceTokenizer::open_folder(folder_.path());
  ASSERT_EQ(from_json->vocabulary_size(), text->vocabulary_size());
  for (size_t i = 0; i < text->vocabulary_size(); ++i)
    ASSERT_EQ(from_json->piece(static_cast<Token>(i)), text->piece(static_cast<Token>(i)));
  const std::string prose = read_file(test::golden_directory() / "text.txt");
  const std::string words = "Caf\u00c9 NA\u00cfVE \u6771\u4eac 3.14 \u00bfQu\u00e9?";  // case, accents, CJK
  EXPECT_EQ(from_json->encode(prose), text->encode(prose));
  EXPECT_EQ(from_json->encode(words), text->encode(words));
}

}  // namespace
}  // namespace hone::wordpiece_test
