// Tokenizer: text to token ids and back, and chat templates, as the model's own file defines them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hone {

using Token = int32_t;

// Immutable; every method may be called from many threads at once.
class Tokenizer {
 public:
  // Reads `tokenizer.ggml.*`. Supported: model "gpt2" (byte-level BPE) with the pre-tokenisers smollm, gpt-2, llama-bpe
  // and qwen2, model "llama" (SentencePiece-style merges by score, with byte fallback), and model "bert" (WordPiece in
  // lower case without accents, where decode(encode(text)) is not text).
  // Throws Error{not_found, bad_input, io, corrupt, unsupported} naming the file and the field.
  static std::unique_ptr<const Tokenizer> open(const std::filesystem::path& gguf);
  virtual ~Tokenizer() = default;

  // No BOS or EOS is added. With `special`, control tokens written out in the text ("<|im_end|>") become their ids;
  // without, they are plain text; tokens that the vocabulary calls user-defined are found in both cases. Bytes that are
  // not UTF-8 become byte tokens. Bytes for which a byte-level vocabulary has no token (SmolLM2 lacks some control
  // characters) are left out, as the reference implementation does.
  virtual std::vector<Token> encode(std::string_view text, bool special = false) const = 0;
  // The bytes of one token inside a text (a SentencePiece word start keeps its space); "" for control tokens.
  virtual std::string piece(Token token) const = 0;
  // The bytes of all tokens, control tokens left out.
  std::string decode(std::span<const Token> tokens) const;

  virtual size_t vocabulary_size() const = 0;
  // Ends a generation: EOS, EOT, and the end-of-turn tokens that the vocabulary holds.
  virtual bool ends_generation(Token token) const = 0;
  virtual Token bos() const = 0;  // -1 if the file names none
  // True if the file says that every text starts with BOS.
  virtual bool adds_bos() const = 0;
};

// One message of a chat.
struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

enum class ChatTemplate { chatml, gemma, llama3 };

// From a name ("chatml", "gemma", "llama3"). Throws Error{bad_input} listing the names.
ChatTemplate chat_template_named(std::string_view name);
// Recognised from the text of the file's `tokenizer.chat_template`. Throws Error{unsupported} that names --template if
// it is missing or none of the three; for a file that is no GGUF as Tokenizer::open.
ChatTemplate chat_template_of(const std::filesystem::path& gguf);
// The system message that a ChatML `tokenizer.chat_template` puts in when none is given; "" if it puts in none. Throws
// as Tokenizer::open.
std::string default_system_of(const std::filesystem::path& gguf);
// The prompt up to where the assistant's answer starts; to be encoded with special = true. BOS is not written.
// `default_system` is what ChatML models such as SmolLM2 put in when no system message is given (may be empty).
// Throws Error{bad_input} for unknown roles, no messages, or an order that the template does not allow.
std::string format_chat(ChatTemplate chat_template, std::span<const ChatMessage> messages,
                        std::string_view default_system = "");

}  // namespace hone
