#include "hone/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/files.h"
#include "hone/base.h"
#include "model/pre_tokenizer.h"
#include "model/utf8.h"
#include "tests/data.h"
#include "tests/vocabulary_file.h"

namespace hone::tokenizer_test {
namespace {

using test::VocabularyFile;
using Words = std::vector<std::string>;
using Tokens = std::vector<Token>;

std::filesystem::path vocabulary_file(const std::string& name) {
  return test::data_directory() / "tokenizer" / ("ggml-vocab-" + name + ".gguf");
}

struct Example {
  std::string text;
  Tokens tokens;
};

std::vector<Example> published_examples(const std::string& name) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  const std::string base = vocabulary_file(name).string();
  const std::string texts = read_file(base + ".inp");
  std::istringstream lines(read_file(base + ".out"));
  std::vector<Example> examples;
  size_t at = 0;
  for (std::string line; std::getline(lines, line);) {
    const size_t end = texts.find(separator, at);
    Example example{texts.substr(at, end - at), {}};
    at = end + separator.size();
    std::istringstream ids(line);
    for (Token id; ids >> id;) example.tokens.push_back(id);
    examples.push_back(std::move(example));
  }
  return examples;
}

void expect_published(const std::filesystem::path& model, const std::string& name) {
  const auto tokenizer = Tokenizer::open(model);
  const auto examples = published_examples(name);
  EXPECT_EQ(examples.size(), 46);
  for (const Example& example : examples) EXPECT_EQ(tokenizer->encode(example.text), example.tokens) << example.text;
}

Words split(const char* name, std::string_view text) {
  Words words;
  PreTokenizer(name).split(text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

// A text for every hazard we know of.
std::vector<std::string> hard_texts() {
  using namespace std::string_literals;
  std::vector<std::string> texts = {
      ""s,
      "\0"s,
      "a\0b\0\0c"s,
      " "s,
      "  leading and trailing  "s,
      "\r\n\r\n\t \n"s,
      "\x80"s,
      "\xFF\xFE text \xC3"s,
      "cut \xE2\x82 and \xF0\x9F\x98 short"s,
      "overlong \xC0\xAF\xE0\x80\xAF surrogate \xED\xA0\x80 high \xF5\x80\x80\x80\xF4\x90\x80\x80"s,
      "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x9A\x80 e\xCC\x81 \xD9\xA3\xE0\xA5\xA7 \xC2\x85\xE1\xA0\x8E"s,
      "<|im_start|>user<|endoftext|></s><bos><0x41>"s};
  std::string every_byte;
  for (int byte = 0; byte < 256; ++byte) every_byte += static_cast<char>(byte);
  texts.push_back(every_byte);
  return texts;
}

TEST(Utf8, LengthOfCharacters) {
  EXPECT_EQ(utf8_length("a", 0), 1);
  EXPECT_EQ(utf8_length("\xC3\xA9", 0), 2);
  EXPECT_EQ(utf8_length("\xE2\x82\xAC", 0), 3);
  EXPECT_EQ(utf8_length("\xF0\x9F\x98\x80", 0), 4);
  for (const char* broken : {"\x80", "\xC3", "\xC1\xBF", "\xE2\x82", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
                             "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xC3z", "\xF0\x9F\x98z"})
    EXPECT_EQ(utf8_length(broken, 0), 0) << broken;
}

TEST(PreTokenizer, Gpt2) {
  EXPECT_EQ(split("gpt-2", "I'll see 123 cats!!  Ok\n\n  x "),
            (Words{"I", "'ll", " see", " 123", " cats", "!!", " ", " Ok", "\n\n ", " x", " "}));
  EXPECT_EQ(split("gpt-2", "I'LL"), (Words{"I", "'", "LL"}));
  EXPECT_EQ(split("gpt-2", " \xC2\x85x\xE1\xA0\x8Ey"), (Words{" ", "\xC2\x85", "x", "\xE1\xA0\x8E", "y"}));
  EXPECT_EQ(split("gpt-2", "a \xD9\xA3\xE0\xA5\xA7"), (Words{"a", " \xD9\xA3\xE0\xA5\xA7"}));
}

TEST(PreTokenizer, SmolLM) {
  EXPECT_EQ(split("smollm", "in 2024  x"), (Words{"in", " ", "2", "0", "2", "4", " ", " x"}));
  EXPECT_EQ(split("smollm", "a   1\n\n2"), (Words{"a", "   ", "1", "\n\n", "2"}));
  EXPECT_EQ(split("smollm", "x\xC2\xBD'tis"), (Words{"x", "\xC2\xBD", "'t", "is"}));
}

TEST(PreTokenizer, LlamaBpe) {
  EXPECT_EQ(split("llama-bpe", "I'LL pay 12345 (now)!!\n\n  x"),
            (Words{"I", "'LL", " pay", " ", "123", "45", " (", "now", ")!!\n\n", " ", " x"}));
  EXPECT_EQ(split("llama-bpe", "a \n \n b"), (Words{"a", " \n \n", " b"}));
  EXPECT_EQ(split("llama-bpe", "\tfoo.bar"), (Words{"\tfoo", ".bar"}));
  EXPECT_EQ(split("llama-bpe", "it\xE2\x80\x99s we'\xC5\xBF"), (Words{"it", "\xE2\x80\x99s", " we", "'\xC5\xBF"}));
  EXPECT_EQ(split("llama-bpe", "end   "), (Words{"end", "   "}));
}

TEST(PreTokenizer, Qwen2) {
  EXPECT_EQ(split("qwen2", "I'LL pay 123 (now)\r\n x"),
            (Words{"I", "'LL", " pay", " ", "1", "2", "3", " (", "now", ")\r\n", " x"}));
}

TEST(PreTokenizer, InvalidBytesAreWords) {
  EXPECT_EQ(split("gpt-2", "ab\xFF\xC3 c\xE2\x82"), (Words{"ab", "\xFF", "\xC3", " c", "\xE2", "\x82"}));
}

TEST(PreTokenizer, WordsAreTheText) {
  for (const char* name : {"gpt-2", "smollm", "llama-bpe", "qwen2"}) {
    for (const std::string& text : hard_texts()) {
      std::string joined;
      for (const std::string& word : split(name, text)) {
        EXPECT_FALSE(word.empty());
        joined += word;
      }
      EXPECT_EQ(joined, text);
    }
  }
}

// A word is at least one token, and every digit of these two is cut as the published ids are.
TEST(PreTokenizer, NoMoreWordsThanPublishedTokens) {
  HONE_NEED_FILE(vocabulary_file("gpt-2"));
  for (const char* name : {"llama-bpe", "qwen2"}) {
    const auto examples = published_examples(name);
    EXPECT_EQ(examples.size(), 46);
    for (const Example& example : examples) {
      const Words words = split(name, example.text);
      EXPECT_LE(words.size(), example.tokens.size()) << name << ": " << example.text;
      if (example.text.find_first_not_of("0123456789") != std::string::npos) continue;
      EXPECT_EQ(words.size(), example.tokens.size()) << name << ": " << example.text;
    }
  }
}

TEST(Tokenizer, PublishedGpt2) {
  HONE_NEED_FILE(vocabulary_file("gpt-2"));
  expect_published(vocabulary_file("gpt-2"), "gpt-2");
}

TEST(Tokenizer, PublishedLlamaSpm) {
  HONE_NEED_FILE(vocabulary_file("llama-spm"));
  expect_published(vocabulary_file("llama-spm"), "llama-spm");
}

// Phi-3's vocabulary is Llama's with added control tokens, which these texts do not hold.
TEST(Tokenizer, PublishedPhi3) {
  HONE_NEED_FILE(vocabulary_file("llama-spm"));
  expect_published(vocabulary_file("llama-spm"), "phi-3");
}

TEST(Tokenizer, PublishedSmolLM) {
  HONE_NEED_FILE(test::smollm2());
  HONE_NEED_FILE(vocabulary_file("gpt-2"));
  expect_published(test::smollm2(), "smollm");
}

TEST(Tokenizer, PublishedBertBge) {
  HONE_NEED_FILE(vocabulary_file("bert-bge"));
  expect_published(vocabulary_file("bert-bge"), "bert-bge");
}

TEST(Tokenizer, RoundTripBpe) {
  HONE_NEED_FILE(vocabulary_file("gpt-2"));
  const auto tokenizer = Tokenizer::open(vocabulary_file("gpt-2"));
  for (const std::string& text : hard_texts()) EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

TEST(Tokenizer, RoundTripSpm) {
  HONE_NEED_FILE(vocabulary_file("llama-spm"));
  const auto tokenizer = Tokenizer::open(vocabulary_file("llama-spm"));
  for (const std::string& text : hard_texts())
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text.empty() ? "" : " " + text);
}

TEST(Tokenizer, RoundTripGemma) {
  HONE_NEED_FILE(test::gemma3());
  const auto tokenizer = Tokenizer::open(test::gemma3());
  for (const std::string& text : hard_texts()) EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

TEST(Tokenizer, SmolLMLeavesOutBytesItHasNoTokenFor) {
  HONE_NEED_FILE(test::smollm2());
  const auto tokenizer = Tokenizer::open(test::smollm2());
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a\x04 b\xFF")), "a b");
  EXPECT_EQ(tokenizer->encode("\x04"), Tokens{});
}

TEST(Tokenizer, ControlTokensOnlyIfAsked) {
  HONE_NEED_FILE(test::smollm2());
  const auto tokenizer = Tokenizer::open(test::smollm2());
  const std::string text = "<|im_start|>user\nhi<|im_end|>";
  const Tokens plain = tokenizer->encode(text);
  EXPECT_EQ(std::ranges::count_if(plain, [](Token token) { return token <= 16; }), 0);
  EXPECT_EQ(tokenizer->decode(plain), text);
  const Tokens special = tokenizer->encode(text, true);
  ASSERT_GT(special.size(), 2);
  EXPECT_EQ(special.front(), 1);
  EXPECT_EQ(special.back(), 2);
  EXPECT_EQ(tokenizer->decode(special), "user\nhi");
  EXPECT_EQ(tokenizer->piece(1), "");
  EXPECT_TRUE(tokenizer->ends_generation(2));
  EXPECT_TRUE(tokenizer->ends_generation(0));
  EXPECT_FALSE(tokenizer->ends_generation(1));
  EXPECT_FALSE(tokenizer->ends_generation(-1));
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_FALSE(tokenizer->adds_bos());
}

TEST(Tokenizer, LlamaControlTokens) {
  HONE_NEED_FILE(vocabulary_file("llama-spm"));
  const auto tokenizer = Tokenizer::open(vocabulary_file("llama-spm"));
  EXPECT_EQ(tokenizer->encode("<s>", true), (Tokens{1}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("<s></s><unk>")), " <s></s><unk>");
  // Each text between control tokens starts like a text of its own.
  Tokens hello = tokenizer->encode("Hello");
  hello.insert(hello.begin(), 1);
  hello.push_back(2);
  EXPECT_EQ(tokenizer->encode("<s>Hello</s>", true), hello);
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->vocabulary_size(), 32000);
}

TEST(Tokenizer, GemmaUserDefinedTokensAreAlwaysFound) {
  HONE_NEED_FILE(test::gemma3());
  const auto tokenizer = Tokenizer::open(test::gemma3());
  EXPECT_EQ(tokenizer->encode("\n\n\n"), (Tokens{109}));
  EXPECT_EQ(tokenizer->encode(std::string(32, '\n')), (Tokens{137, 107}));
  EXPECT_EQ(tokenizer->encode("    "), (Tokens{140}));
  EXPECT_EQ(tokenizer->encode("<table></table>"), (Tokens{168, 176}));
  EXPECT_EQ(tokenizer->encode("<end_of_turn>", true), (Tokens{106}));
  EXPECT_GT(tokenizer->encode("<end_of_turn>").size(), 1);
  EXPECT_TRUE(tokenizer->ends_generation(106));
  EXPECT_TRUE(tokenizer->ends_generation(1));
}

TEST(Tokenizer, LongRunsAreNotQuadratic) {
  HONE_NEED_FILE(vocabulary_file("gpt-2"));
  HONE_NEED_FILE(vocabulary_file("llama-spm"));
  for (const char* name : {"gpt-2", "llama-spm"}) {
    const auto tokenizer = Tokenizer::open(vocabulary_file(name));
    for (const std::string unit : {"a", " ", "\n", "!", "7", "\xFF", "\xE4\xB8\xAD", "ab"}) {
      std::string text;
      while (text.size() < 1'000'000) text += unit;
      const std::string decoded = tokenizer->decode(tokenizer->encode(text));
      EXPECT_EQ(decoded, name == std::string("gpt-2") ? text : " " + text) << unit;
    }
  }
}

TEST(Tokenizer, OneTokenizerManyThreads) {
  HONE_NEED_FILE(vocabulary_file("gpt-2"));
  const auto tokenizer = Tokenizer::open(vocabulary_file("gpt-2"));
  const auto examples = published_examples("gpt-2");
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> workers;
  for (int& count : wrong)
    workers.emplace_back([&] {
      for (int round = 0; round < 20; ++round)
        for (const Example& example : examples) count += tokenizer->encode(example.text) != example.tokens;
    });
  for (std::thread& worker : workers) worker.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

// "\u0120" is GPT-2's letter for the space.
VocabularyFile& small_bpe(VocabularyFile& file, const std::string& pre) {
  return file.text("tokenizer.ggml.model", "gpt2")
      .text("tokenizer.ggml.pre", pre)
      .texts("tokenizer.ggml.tokens", {"a", "b", "c", "\u0120", "ab", "\u0120a", "abc", "<end>", "<tool>"})
      .integers("tokenizer.ggml.token_type", {1, 1, 1, 1, 1, 1, 1, 3, 4});
}

TEST(Tokenizer, IgnoreMergesTakesWholeWords) {
  VocabularyFile file;
  small_bpe(file, "llama-bpe").texts("tokenizer.ggml.merges", {"a b"}).integer("tokenizer.ggml.bos_token_id", 7);
  const auto tokenizer = Tokenizer::open(file.write());
  EXPECT_EQ(tokenizer->encode("abc"), (Tokens{6}));
  EXPECT_EQ(tokenizer->encode("abcb"), (Tokens{4, 2, 1}));
  EXPECT_TRUE(tokenizer->adds_bos());
}

TEST(Tokenizer, MergesByRank) {
  VocabularyFile file;
  small_bpe(file, "qwen2").texts("tokenizer.ggml.merges", {"\u0120 a", "a b"});
  const auto tokenizer = Tokenizer::open(file.write());
  EXPECT_EQ(tokenizer->encode("abc"), (Tokens{4, 2}));
  EXPECT_EQ(tokenizer->encode(" abc"), (Tokens{5, 1, 2}));
  EXPECT_EQ(tokenizer->encode("a<tool>b<end>"), (Tokens{0, 8, 1}));  // no letter for "<end>" here
  EXPECT_EQ(tokenizer->encode("a<tool>b<end>", true), (Tokens{0, 8, 1, 7}));
  EXPECT_EQ(tokenizer->decode(Tokens{5, 8, 7, 6}), " a<tool>abc");
  EXPECT_EQ(tokenizer->bos(), -1);
  EXPECT_FALSE(tokenizer->adds_bos());
  EXPECT_THROW(tokenizer->piece(9), Error);
  EXPECT_THROW(tokenizer->piece(-1), Error);
}

void expect_error(const VocabularyFile& file, ErrorCode code, const std::string& field) {
  const auto path = file.write();
  try {
    Tokenizer::open(path);
    FAIL() << "no error about " << field;
  } catch (const Error& error) {
    EXPECT_EQ(error.code, code);
    EXPECT_NE(error.message.find(field), std::string::npos) << error.message;
    EXPECT_NE(error.message.find(path.string()), std::string::npos) << error.message;
  }
}

TEST(Tokenizer, DamagedVocabularies) {
  VocabularyFile unknown_pre;
  expect_error(small_bpe(unknown_pre, "dbrx").texts("tokenizer.ggml.merges", {}), ErrorCode::unsupported,
               "tokenizer.ggml.pre");
  for (const char* merge : {"a", "a x", "c a", "", " "}) {
    VocabularyFile broken;
    expect_error(small_bpe(broken, "qwen2").texts("tokenizer.ggml.merges", {merge}), ErrorCode::corrupt,
                 "tokenizer.ggml.merges");
  }
  VocabularyFile bos;
  small_bpe(bos, "qwen2").texts("tokenizer.ggml.merges", {}).integer("tokenizer.ggml.bos_token_id", 9);
  expect_error(bos, ErrorCode::corrupt, "tokenizer.ggml.bos_token_id");
  VocabularyFile kinds;
  kinds.text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", {"a", "b"});
  expect_error(kinds.integers("tokenizer.ggml.token_type", {1}), ErrorCode::corrupt, "tokenizer.ggml.token_type");
  VocabularyFile bytes;
  bytes.text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", {"a", "<0x00>"});
  expect_error(bytes.integers("tokenizer.ggml.token_type", {1, 6}), ErrorCode::unsupported, "tokenizer.ggml.tokens");
  VocabularyFile model;
  expect_error(model.text("tokenizer.ggml.model", "t5"), ErrorCode::unsupported, "tokenizer.ggml.model");
}

// Equal scores: the leftmost pair first. An unused piece never comes out of a text.
TEST(Tokenizer, SentencePieceTiesAndUnusedPieces) {
  std::vector<std::string> tokens = {"a", "aa", "b", "bb", "xy", "xyz", "<s>"};
  std::vector<int32_t> kinds = {1, 1, 1, 5, 1, 1, 3};
  std::vector<float> scores = {0, -1, 0, -1, -2, -1, 0};
  const char* digits = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">");
    kinds.push_back(6);
    scores.push_back(0);
  }
  VocabularyFile file;
  file.text("tokenizer.ggml.model", "llama").boolean("tokenizer.ggml.add_space_prefix", false);
  file.texts("tokenizer.ggml.tokens", tokens).integers("tokenizer.ggml.token_type", kinds);
  const auto tokenizer = Tokenizer::open(file.reals("tokenizer.ggml.scores", scores).write());
  EXPECT_EQ(tokenizer->encode("aaa"), (Tokens{1, 0}));
  EXPECT_EQ(tokenizer->encode("bb"), (Tokens{2, 2}));
  EXPECT_EQ(tokenizer->encode("xyz"), (Tokens{5}));  // neither x, y nor z is a piece
  EXPECT_EQ(tokenizer->encode("x"), (Tokens{7 + 'x'}));
  EXPECT_EQ(tokenizer->encode("<s>", true), (Tokens{6}));
  EXPECT_EQ(tokenizer->encode("<s>"), (Tokens{7 + '<', 7 + 's', 7 + '>'}));
}

TEST(ChatTemplate, Names) {
  EXPECT_EQ(chat_template_named("chatml"), ChatTemplate::chatml);
  EXPECT_EQ(chat_template_named("gemma"), ChatTemplate::gemma);
  EXPECT_EQ(chat_template_named("llama3"), ChatTemplate::llama3);
  EXPECT_THROW(chat_template_named("vicuna"), Error);
}

TEST(ChatTemplate, ChatMl) {
  const std::vector<ChatMessage> chat = {{"user", "Hi "}, {"assistant", "Hello"}, {"user", "Bye"}};
  EXPECT_EQ(format_chat(ChatTemplate::chatml, chat),
            "<|im_start|>user\nHi <|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
            "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n");
  const std::vector<ChatMessage> with_system = {{"system", "Be brief"}, {"user", "Hi"}};
  EXPECT_EQ(format_chat(ChatTemplate::chatml, with_system, "unused"),
            "<|im_start|>system\nBe brief<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, SmolLMDefaultSystemPrompt) {
  HONE_NEED_FILE(test::smollm2());
  const std::filesystem::path file = test::smollm2();
  EXPECT_EQ(chat_template_of(file), ChatTemplate::chatml);
  const std::vector<ChatMessage> chat = {{"user", "Hi"}};
  EXPECT_EQ(format_chat(chat_template_of(file), chat, default_system_of(file)),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, Gemma) {
  const std::vector<ChatMessage> chat = {
      {"system", "Be brief"}, {"user", " Hi\n"}, {"assistant", "Hello"}, {"user", "Bye"}};
  EXPECT_EQ(format_chat(ChatTemplate::gemma, chat),
            "<start_of_turn>user\nBe brief\n\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
            "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n");
  const std::vector<ChatMessage> late = {{"user", "Hi"}, {"system", "Be brief"}};
  EXPECT_THROW(format_chat(ChatTemplate::gemma, late), Error);
  const std::vector<ChatMessage> only_system = {{"system", "Be brief"}};
  EXPECT_THROW(format_chat(ChatTemplate::gemma, only_system), Error);
  const std::vector<ChatMessage> twice = {{"user", "a"}, {"user", "b"}};
  EXPECT_THROW(format_chat(ChatTemplate::gemma, twice), Error);
}

TEST(ChatTemplate, Llama3) {
  const std::vector<ChatMessage> chat = {{"system", "Be brief"}, {"user", "Hi "}};
  EXPECT_EQ(format_chat(ChatTemplate::llama3, chat),
            "<|start_header_id|>system<|end_header_id|>\n\nBe brief<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

TEST(ChatTemplate, RefusesWhatItCannotWrite) {
  EXPECT_THROW(format_chat(ChatTemplate::chatml, {}), Error);
  const std::vector<ChatMessage> tool = {{"tool", "42"}};
  EXPECT_THROW(format_chat(ChatTemplate::chatml, tool), Error);
}

TEST(ChatTemplate, RecognisedInTheFile) {
  const std::vector<std::pair<std::string, ChatTemplate>> known = {
      {"{{ '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}", ChatTemplate::chatml},
      {"{{ '<start_of_turn>' + role }}", ChatTemplate::gemma},
      {"{{ '<|start_header_id|>' + role }}", ChatTemplate::llama3}};
  for (const auto& [text, expected] : known) {
    VocabularyFile file;
    const std::filesystem::path gguf = file.text("tokenizer.chat_template", text).write();
    EXPECT_EQ(chat_template_of(gguf), expected);
    EXPECT_EQ(default_system_of(gguf), expected == ChatTemplate::chatml ? "You are Qwen." : "");
  }
  for (const char* text : {"", "[INST] {{ content }} [/INST]"}) {
    VocabularyFile file;
    const std::filesystem::path gguf = file.text("tokenizer.chat_template", text).write();
    try {
      chat_template_of(gguf);
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code, ErrorCode::unsupported);
      EXPECT_NE(error.message.find("--template"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace hone::tokenizer_test
