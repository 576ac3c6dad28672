// Where a WordPiece vocabulary comes from: GGUF, vocab.txt or tokenizer.json.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <sstream>

#include "base/files.h"
#include "hone/base.h"
#include "model/json_file.h"
#include "model/wordpiece.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view continuation = "##";
constexpr std::string_view special_texts[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};

[[noreturn]] void corrupt(const std::string& file, std::string_view what) {
  throw Error(ErrorCode::corrupt, fmt::format("'{}': {}; download the model again", file, what));
}

// Adds a token as vocab.txt writes it.
void add_token(std::string_view text, bool special, Vocabulary& vocabulary) {
  vocabulary.kinds.push_back(special ? TokenKind::control : TokenKind::normal);
  if (special)
    vocabulary.texts.emplace_back(text);
  else if (text.starts_with(continuation) && text.size() > continuation.size())
    vocabulary.texts.emplace_back(text.substr(continuation.size()));
  else
    vocabulary.texts.push_back(std::string(word_start) + std::string(text));
}

Token find_special(const Vocabulary& vocabulary, std::string_view text) {
  const auto found = std::ranges::find(vocabulary.texts, text);
  if (found == vocabulary.texts.end()) corrupt(vocabulary.file, fmt::format("there is no token {}", text));
  return static_cast<Token>(found - vocabulary.texts.begin());
}

bool is_special(std::string_view text) { return std::ranges::find(special_texts, text) != std::end(special_texts); }

}  // namespace

WordPieceTokenizer::WordPieceTokenizer(const Gguf& file) : WordPieceTokenizer(read(file)) {}

std::unique_ptr<const WordPieceTokenizer> WordPieceTokenizer::open_folder(const fs::path& folder) {
  if (is_there(folder / "vocab.txt"))
    return std::unique_ptr<const WordPieceTokenizer>(new WordPieceTokenizer(read_vocabulary_text(folder)));
  if (is_there(folder / "tokenizer.json"))
    return std::unique_ptr<const WordPieceTokenizer>(
        new WordPieceTokenizer(read_tokenizer_json(folder / "tokenizer.json")));
  throw Error(ErrorCode::not_found,
              fmt::format("'{}' has neither vocab.txt nor tokenizer.json; download the model again", folder.string()));
}

void WordPieceTokenizer::Definition::find_special_tokens() {
  if (vocabulary.size() > static_cast<size_t>(std::numeric_limits<Token>::max()))
    corrupt(vocabulary.file, fmt::format("{} tokens", vocabulary.size()));
  unknown = find_special(vocabulary, "[UNK]");
  sep = find_special(vocabulary, "[SEP]");
  vocabulary.bos = find_special(vocabulary, "[CLS]");
  vocabulary.adds_bos = true;
  vocabulary.ends.assign(vocabulary.size(), false);
}

WordPieceTokenizer::Definition WordPieceTokenizer::read(const Gguf& file) {
  Definition definition;
  definition.vocabulary = Vocabulary::read(file, false);
  const auto id_of = [&](const char* field, int64_t fallback) {
    const int64_t id = file.integer_or(std::string("tokenizer.ggml.") + field, fallback);
    if (id < 0 || static_cast<uint64_t>(id) >= definition.vocabulary.size())
      corrupt(definition.vocabulary.file, fmt::format("tokenizer.ggml.{}: {} is not a token", field, id));
    return static_cast<Token>(id);
  };
  definition.unknown = id_of("unknown_token_id", -1);
  // "seperator" is how the field is spelled. Some converters name the two tokens BOS and EOS.
  definition.sep = id_of("seperator_token_id", file.integer_or("tokenizer.ggml.eos_token_id", -1));
  definition.vocabulary.bos = id_of("cls_token_id", definition.vocabulary.bos);
  definition.vocabulary.adds_bos = true;
  return definition;
}

WordPieceTokenizer::Definition WordPieceTokenizer::read_vocabulary_text(const fs::path& folder) {
  Definition definition;
  Vocabulary& vocabulary = definition.vocabulary;
  vocabulary.file = (folder / "vocab.txt").string();
  std::istringstream lines(read_file(vocabulary.file));
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    add_token(line, is_special(line), vocabulary);
  }
  if (is_there(folder / "tokenizer_config.json")) {
    const JsonFile config(folder / "tokenizer_config.json");
    definition.words.lower_case = config.boolean_or("/do_lower_case", true);
    definition.words.split_ideographs = config.boolean_or("/tokenize_chinese_chars", true);
    definition.words.strip_accents = config.boolean_or("/strip_accents", definition.words.lower_case);
  }
  definition.find_special_tokens();
  return definition;
}

WordPieceTokenizer::Definition WordPieceTokenizer::read_tokenizer_json(const fs::path& file) {
  const JsonFile json(file);
  const auto require = [&](const char* field, std::string_view wanted) {
    if (const std::string is = json.string_or(field, "none"); is != wanted)
      throw Error(ErrorCode::unsupported, fmt::format("'{}': {} is '{}'; hone reads {} here", file.string(),
                                                      std::string_view(field).substr(1), is, wanted));
  };
  require("/model/type", "WordPiece");
  require("/normalizer/type", "BertNormalizer");
  require("/pre_tokenizer/type", "BertPreTokenizer");
  if (!json.boolean_or("/normalizer/clean_text", true) ||
      json.string_or("/model/continuing_subword_prefix", std::string(continuation)) != continuation)
    throw Error(ErrorCode::unsupported,
                fmt::format("'{}': hone reads WordPiece with clean_text and the prefix ##", file.string()));

  const nlohmann::json* entries = json.find("/model/vocab");
  if (!entries || !entries->is_object()) json.corrupt("/model/vocab", "expected an object of tokens and their ids");
  std::vector<std::string> texts(entries->size());
  std::vector<bool> seen(texts.size(), false);
  for (const auto& [text, id] : entries->items()) {
    if (!id.is_number_integer() || id < 0 || id >= texts.size() || seen[id.get<size_t>()])
      json.corrupt("/model/vocab", fmt::format("the ids of {} tokens are not 0 to {}", texts.size(), texts.size() - 1));
    texts[id.get<size_t>()] = text;
    seen[id.get<size_t>()] = true;
  }
  Definition definition;
  definition.vocabulary.file = file.string();
  for (const std::string& text : texts) add_token(text, is_special(text), definition.vocabulary);
  definition.words.lower_case = json.boolean_or("/normalizer/lowercase", true);
  definition.words.split_ideographs = json.boolean_or("/normalizer/handle_chinese_chars", true);
  definition.words.strip_accents = json.boolean_or("/normalizer/strip_accents", definition.words.lower_case);
  if (json.find("/model/max_input_chars_per_word"))
    definition.longest_word = static_cast<size_t>(json.positive("/model/max_input_chars_per_word", 1 << 20));
  definition.find_special_tokens();
  return definition;
}

}  // namespace hone
