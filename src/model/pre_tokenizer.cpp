#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pre_tokenizer.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <array>
#include <limits>
#include <string>

#include "hone/base.h"
#include "model/utf8.h"

namespace hone {
namespace {

// PCRE2's \s holds U+180E, which Unicode's White_Space does not: white space is spelled out.
#define WHITE R"(\p{Z}\t-\r\x{85})"
#define SPACES "[" WHITE "]+"
#define SYMBOLS "[^" WHITE R"(\p{L}\p{N}]+)"

struct Pattern {
  std::string_view name;
  std::string_view expression;
};

constexpr std::array<Pattern, 4> patterns = {{
    {"gpt-2", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?)" SYMBOLS "|" SPACES "(?![^" WHITE "])|" SPACES},
    // Digits are cut out one by one before GPT-2's expression sees what lies between them: a digit ends a run of spaces
    // as the end of the text does.
    {"smollm", R"(\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?)" SYMBOLS "|" SPACES "(?![^" WHITE R"(\p{N}])|)" SPACES},
    {"llama-bpe", R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?)" SYMBOLS R"([\r\n]*|[)" WHITE
                  R"(]*[\r\n]+|)" SPACES "(?![^" WHITE "])|" SPACES},
    {"qwen2", R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?)" SYMBOLS R"([\r\n]*|[)" WHITE
              R"(]*[\r\n]+|)" SPACES "(?![^" WHITE "])|" SPACES},
}};

#undef WHITE
#undef SPACES
#undef SYMBOLS

const Pattern* find_pattern(std::string_view name) {
  for (const Pattern& pattern : patterns)
    if (pattern.name == name) return &pattern;
  return nullptr;
}

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

template <class Object, void (*free)(Object*)>
struct FreeWith {
  void operator()(Object* object) const { free(object); }
};
using MatchData = std::unique_ptr<pcre2_match_data, FreeWith<pcre2_match_data, pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, FreeWith<pcre2_match_context, pcre2_match_context_free>>;

}  // namespace

void PreTokenizer::Free::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

bool PreTokenizer::is_known(std::string_view name) { return find_pattern(name) != nullptr; }

PreTokenizer::PreTokenizer(std::string_view name) {
  const Pattern* pattern = find_pattern(name);
  if (!pattern) throw Error(ErrorCode::unsupported, fmt::format("unknown pre-tokenizer '{}'", name));
  int code = 0;
  size_t offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern->expression.data()), pattern->expression.size(),
                            PCRE2_UTF | PCRE2_UCP, &code, &offset, nullptr));
  if (!code_)
    throw Error(ErrorCode::unsupported,
                fmt::format("PCRE2 refuses the pre-tokenizer '{}' ({}); use PCRE2 10.42 with Unicode support", name,
                            message_of(code)));
  // Where the processor or the system has no JIT, the same code is interpreted.
  pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
}

void PreTokenizer::split(std::string_view text, const std::function<void(std::string_view)>& visit) const {
  const MatchData match(pcre2_match_data_create(1, nullptr));
  const MatchContext context(pcre2_match_context_create(nullptr));
  if (!match || !context) throw std::bad_alloc();
  // No expression here recurses; the default limit would only cut off long runs of white space.
  pcre2_set_match_limit(context.get(), std::numeric_limits<uint32_t>::max());

  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    while (end < text.size()) {
      const size_t length = utf8_length(text, end);
      if (length == 0) break;
      end += length;
    }
    const std::string_view valid = text.substr(begin, end - begin);
    for (size_t at = 0; at < valid.size();) {
      const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(valid.data()), valid.size(), at,
                                    PCRE2_NO_UTF_CHECK, match.get(), context.get());
      const size_t* range = pcre2_get_ovector_pointer(match.get());
      if (found < 0 || range[0] != at || range[1] <= at)
        throw Error(ErrorCode::bad_input,
                    fmt::format("cannot cut the text into words at byte {}: {}; encode it in smaller parts", begin + at,
                                found < 0 ? message_of(found) : "a character belongs to no word"));
      visit(valid.substr(at, range[1] - at));
      at = range[1];
    }
    if (end < text.size()) visit(text.substr(end++, 1));
    begin = end;
  }
}

}  // namespace hone
