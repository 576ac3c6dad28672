#include <fmt/format.h>

#include <array>
#include <utility>

#include "hone/base.h"
#include "model/gguf_tokenizer.h"

namespace hone {
namespace {

constexpr std::string_view template_key = "tokenizer.chat_template";

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view white = " \t\n\v\f\r";
  const size_t first = text.find_first_not_of(white);
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(white) + 1 - first);
}

void check_roles(std::span<const ChatMessage> messages) {
  if (messages.empty()) throw Error(ErrorCode::bad_input, "a chat needs at least one message");
  for (const ChatMessage& message : messages)
    if (message.role != "system" && message.role != "user" && message.role != "assistant")
      throw Error(ErrorCode::bad_input,
                  fmt::format("a chat message has the role '{}'; use system, user or assistant", message.role));
}

std::string chatml(std::span<const ChatMessage> messages, std::string_view system) {
  std::string text;
  if (!system.empty()) text += fmt::format("<|im_start|>system\n{}<|im_end|>\n", system);
  for (const ChatMessage& message : messages)
    text += fmt::format("<|im_start|>{}\n{}<|im_end|>\n", message.role, message.content);
  return text + "<|im_start|>assistant\n";
}

std::string llama3(std::span<const ChatMessage> messages, std::string_view system) {
  constexpr std::string_view turn = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>";
  std::string text;
  if (!system.empty()) text += fmt::format(turn, "system", trimmed(system));
  for (const ChatMessage& message : messages) text += fmt::format(turn, message.role, trimmed(message.content));
  return text + "<|start_header_id|>assistant<|end_header_id|>\n\n";
}

// Gemma has no system role: the system message opens the first turn of the user.
std::string gemma(std::span<const ChatMessage> messages, std::string_view system) {
  std::string opening = system.empty() ? "" : fmt::format("{}\n\n", system);
  if (messages.front().role == "system") {
    opening = messages.front().content + "\n\n";
    messages = messages.subspan(1);
  }
  if (messages.empty() || messages.front().role != "user")
    throw Error(ErrorCode::bad_input, "a Gemma chat starts with a user message (after at most one system message)");
  std::string text;
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& [role, content] = messages[i];
    if (role == "system") throw Error(ErrorCode::bad_input, "a Gemma chat has its system message first; move it there");
    if (role != (i % 2 == 0 ? "user" : "assistant"))
      throw Error(ErrorCode::bad_input, "messages of a Gemma chat alternate between user and assistant");
    text += fmt::format("<start_of_turn>{}\n{}{}<end_of_turn>\n", role == "assistant" ? "model" : "user",
                        std::exchange(opening, ""), trimmed(content));
  }
  return text + "<start_of_turn>model\n";
}

}  // namespace

ChatTemplate chat_template_named(std::string_view name) {
  if (name == "chatml") return ChatTemplate::chatml;
  if (name == "gemma") return ChatTemplate::gemma;
  if (name == "llama3") return ChatTemplate::llama3;
  throw Error(ErrorCode::bad_input, fmt::format("unknown chat template '{}'; choose chatml, gemma or llama3", name));
}

ChatTemplate chat_template_of(const Gguf& file) {
  const std::string text = file.string_or(template_key, "");
  constexpr std::array<std::pair<std::string_view, ChatTemplate>, 3> marks = {
      {{"<|im_start|>", ChatTemplate::chatml},
       {"<start_of_turn>", ChatTemplate::gemma},
       {"<|start_header_id|>", ChatTemplate::llama3}}};
  for (const auto& [mark, chat_template] : marks)
    if (text.find(mark) != std::string::npos) return chat_template;
  throw Error(ErrorCode::unsupported,
              fmt::format("'{}': {} is {}; name one with --template chatml, gemma or llama3", file.path().string(),
                          template_key, text.empty() ? "missing" : "none that hone knows"));
}

std::string default_system_of(const Gguf& file) {
  const std::string text = file.string_or(template_key, "");
  constexpr std::string_view opening = "<|im_start|>system";
  for (size_t at = text.find(opening); at != std::string::npos; at = text.find(opening, at + 1)) {
    std::string_view rest = std::string_view(text).substr(at + opening.size());
    // A line end is either itself or Jinja's escape.
    if (rest.starts_with("\\n"))
      rest.remove_prefix(2);
    else if (rest.starts_with("\n"))
      rest.remove_prefix(1);
    else
      continue;
    rest = rest.substr(0, rest.find("<|im_end|>"));
    if (!rest.empty() && rest.find_first_of("'\"{}\\") == std::string_view::npos) return std::string(rest);
  }
  return "";
}

ChatTemplate chat_template_of(const std::filesystem::path& gguf) { return chat_template_of(Gguf::open(gguf)); }

std::string default_system_of(const std::filesystem::path& gguf) { return default_system_of(Gguf::open(gguf)); }

std::string format_chat(ChatTemplate chat_template, std::span<const ChatMessage> messages,
                        std::string_view default_system) {
  check_roles(messages);
  const std::string_view system = messages.front().role == "system" ? "" : default_system;
  switch (chat_template) {
    case ChatTemplate::chatml: return chatml(messages, system);
    case ChatTemplate::gemma: return gemma(messages, system);
    case ChatTemplate::llama3: return llama3(messages, system);
  }
  throw Error(ErrorCode::bad_input, "unknown chat template");
}

}  // namespace hone
