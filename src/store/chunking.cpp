#include "store/chunking.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "hone/base.h"

namespace hone::store {
namespace {

constexpr size_t piece_bytes = 64 << 10;
constexpr size_t short_tail = 16;

// From weakest to strongest. Tokenizers join a line end to the indentation after it, so a cut behind both counts too.
enum class Boundary { none, character, space, sentence, indented_line, line, indented_blank_line, blank_line };

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

bool ends_sentence(std::string_view text, bool space_follows) {
  for (const std::string_view mark : {"\u3002", "\uFF01", "\uFF1F"}) {
    if (text.ends_with(mark)) return true;
  }
  if (!space_follows) {
    if (text.empty() || !is_space(text.back())) return false;
    text.remove_suffix(1);
  }
  while (!text.empty() && (text.back() == '"' || text.back() == ')' || text.back() == '\'')) text.remove_suffix(1);
  return !text.empty() && (text.back() == '.' || text.back() == '!' || text.back() == '?');
}

// What a cut between `before` and `after` would fall on. Neither is empty.
Boundary boundary_between(std::string_view before, std::string_view after) {
  if (is_continuation(after.front())) return Boundary::none;
  const size_t text_end = before.find_last_not_of(" \t");
  if (text_end != std::string_view::npos && before[text_end] == '\n') {
    const size_t previous = before.substr(0, text_end).find_last_not_of(" \t\r");
    const bool blank = previous != std::string_view::npos && before[previous] == '\n';
    if (text_end + 1 == before.size()) return blank ? Boundary::blank_line : Boundary::line;
    return blank ? Boundary::indented_blank_line : Boundary::indented_line;
  }
  const bool space_follows = is_space(after.front());
  if (ends_sentence(before, space_follows)) return Boundary::sentence;
  return space_follows || is_space(before.back()) ? Boundary::space : Boundary::character;
}

// Where the piece that starts at `begin` ends: after a line, else before a word, else between characters.
size_t piece_end(std::string_view document, size_t begin) {
  if (document.size() - begin <= piece_bytes) return document.size();
  const size_t limit = begin + piece_bytes;
  const size_t least = begin + piece_bytes / 2;
  for (size_t end = limit; end > least; --end) {
    if (document[end - 1] == '\n' && !is_space(document[end])) return end;
  }
  for (size_t end = limit; end > least; --end) {
    if (document[end] == ' ' && !is_space(document[end - 1])) return end;
  }
  size_t end = limit;
  while (end > least && is_continuation(document[end])) --end;
  return end;
}

class Chunker {
 public:
  Chunker(std::string_view document, const Tokenizer& tokenizer, size_t chunk_tokens, const TakeChunk& take)
      : document_(document), tokenizer_(tokenizer), chunk_tokens_(chunk_tokens), take_(take) {}

  void run() {
    for (size_t begin = 0; begin < document_.size();) {
      const size_t end = piece_end(document_, begin);
      forget_taken();
      tokenise(begin, end);
      begin = end;
      while (tokens_.size() - first_ > chunk_tokens_) cut(best_cut());
    }
    finish();
  }

 private:
  struct Held {
    size_t begin = 0;
    size_t end = 0;
    std::vector<Token> tokens;
  };

  void tokenise(size_t begin, size_t end) {
    const std::string_view text = document_.substr(begin, end - begin);
    const std::vector<Token> tokens = tokenizer_.encode(text);
    if (append_aligned(tokens, text, begin)) return;
    size_t middle = begin + text.size() / 2;
    while (middle > begin && is_continuation(document_[middle])) --middle;
    if (middle == begin) {
      middle = begin + 1;
      while (middle < end && is_continuation(document_[middle])) ++middle;
    }
    if (middle == end) {
      tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
      ends_.resize(tokens_.size(), end);
      return;
    }
    tokenise(begin, middle);
    tokenise(middle, end);
  }

  // Appends tokens whose pieces spell the text, allowing for the space that some tokenizers put before a text.
  bool append_aligned(const std::vector<Token>& tokens, std::string_view text, size_t begin) {
    for (const size_t extra : {0, 1}) {
      std::vector<size_t> ends;
      ends.reserve(tokens.size());
      size_t position = 0;
      for (size_t i = 0; i < tokens.size(); ++i) {
        std::string piece = tokenizer_.piece(tokens[i]);
        if (i == 0 && extra == 1 && piece.starts_with(' ')) piece.erase(0, 1);
        if (text.substr(position, piece.size()) != piece) break;
        position += piece.size();
        ends.push_back(begin + position);
      }
      if (ends.size() != tokens.size() || position != text.size()) continue;
      tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
      ends_.insert(ends_.end(), ends.begin(), ends.end());
      return true;
    }
    return false;
  }

  // How many tokens the next chunk takes.
  size_t best_cut() const {
    size_t best = 0;
    Boundary best_boundary = Boundary::none;
    for (size_t count = chunk_tokens_; count > chunk_tokens_ - chunk_tokens_ / 4; --count) {
      const Boundary boundary = boundary_after(count);
      if (boundary <= best_boundary) continue;
      best = count;
      best_boundary = boundary;
    }
    if (best > 0) return best;
    for (size_t count = chunk_tokens_ - chunk_tokens_ / 4; count > 0; --count) {
      if (boundary_after(count) != Boundary::none) return count;
    }
    size_t count = chunk_tokens_ + 1;
    while (first_ + count < tokens_.size() && boundary_after(count) == Boundary::none) ++count;
    return count;
  }

  // Of a cut after so many of the waiting tokens; a token without text stays with the one before.
  Boundary boundary_after(size_t count) const {
    const size_t position = ends_[first_ + count - 1];
    if (position == begin_ || ends_[first_ + count] == position) return Boundary::none;
    return boundary_between(document_.substr(begin_, position - begin_), document_.substr(position));
  }

  void cut(size_t count) {
    hand_over();
    const auto from = tokens_.begin() + static_cast<ptrdiff_t>(first_);
    held_ = {begin_, ends_[first_ + count - 1], {from, from + static_cast<ptrdiff_t>(count)}};
    begin_ = held_.end;
    first_ += count;
  }

  void finish() {
    const size_t rest = tokens_.size() - first_;
    if (rest < short_tail && !held_.tokens.empty() && held_.tokens.size() + rest <= chunk_tokens_)
      held_.tokens.insert(held_.tokens.end(), tokens_.begin() + static_cast<ptrdiff_t>(first_), tokens_.end());
    else if (rest > 0)
      cut(rest);
    held_.end = document_.size();  // with bytes that have no token
    hand_over();
  }

  void hand_over() {
    if (!held_.tokens.empty()) take_(document_.substr(held_.begin, held_.end - held_.begin), held_.tokens);
    held_.tokens.clear();
  }

  void forget_taken() {
    tokens_.erase(tokens_.begin(), tokens_.begin() + static_cast<ptrdiff_t>(first_));
    ends_.erase(ends_.begin(), ends_.begin() + static_cast<ptrdiff_t>(first_));
    first_ = 0;
  }

  std::string_view document_;
  const Tokenizer& tokenizer_;
  size_t chunk_tokens_;
  const TakeChunk& take_;
  std::vector<Token> tokens_;  // of the pieces read so far and not yet forgotten
  std::vector<size_t> ends_;   // offset in the document where each of them ends
  size_t first_ = 0;           // the first token that is in no chunk
  size_t begin_ = 0;           // its offset in the document
  Held held_;                  // the last chunk, in case a short tail follows
};

}  // namespace

void for_each_chunk(std::string_view document, const Tokenizer& tokenizer, size_t chunk_tokens, const TakeChunk& take) {
  if (chunk_tokens < min_chunk_tokens)
    throw Error(ErrorCode::bad_input,
                fmt::format("a chunk of {} tokens is too short; use {} or more", chunk_tokens, min_chunk_tokens));
  Chunker(document, tokenizer, chunk_tokens, take).run();
}

}  // namespace hone::store
