// The merging that byte-level BPE and SentencePiece share: the adjacent pair of lowest rank first, the leftmost of
// equal ones, until no pair can merge.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "hone/base.h"
#include "hone/tokenizer.h"

namespace hone {

// What a pair becomes, and how early.
struct PairMerge {
  uint32_t rank = 0;
  Token token = -1;
};

// Working memory of one thread; reused from word to word. O(n log n) in the number of symbols.
class PairMerger {
 public:
  static constexpr size_t longest_text = std::numeric_limits<uint32_t>::max() - 1;

  // Throws Error{bad_input} if the text is too long for one word.
  void start(size_t text_size) {
    if (text_size > longest_text)
      throw Error(ErrorCode::bad_input,
                  "a text without any word boundary is longer than 4 GB; split it before encoding");
    end_ = static_cast<uint32_t>(text_size);
    symbols_.clear();
  }
  // Symbols in their order; `begin` is where its bytes start. A token of -1 is a symbol that is not in the vocabulary.
  void add(size_t begin, Token token) {
    const auto index = static_cast<uint32_t>(symbols_.size());
    if (index > 0) symbols_.back().next = index;
    symbols_.push_back({static_cast<uint32_t>(begin), index - 1, none, token});
  }
  // find(left token, right token, begin, end of both in the text) returns std::optional<PairMerge>.
  template <class Find>
  void merge(const Find& find) {
    queue_.clear();
    for (uint32_t i = 0; i + 1 < symbols_.size(); ++i)
      if (const auto found = pair_at(i, find)) queue_.push_back(key(found->rank, i));
    std::make_heap(queue_.begin(), queue_.end(), std::greater<>());
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end(), std::greater<>());
      const uint64_t top = queue_.back();
      queue_.pop_back();
      const auto left = static_cast<uint32_t>(top);
      // Merges around it may have changed or removed the pair since it was queued.
      const auto found = pair_at(left, find);
      if (!found || key(found->rank, left) != top) continue;
      join(left, found->token);
      push(left, find);
      if (symbols_[left].previous != none) push(symbols_[left].previous, find);
    }
  }
  // visit(token, begin, end) for every symbol that is left.
  template <class Visit>
  void for_each(const Visit& visit) const {
    for (uint32_t i = symbols_.empty() ? none : 0; i != none; i = symbols_[i].next)
      visit(symbols_[i].token, symbols_[i].begin, end_of(i));
  }

 private:
  static constexpr uint32_t none = std::numeric_limits<uint32_t>::max();
  static constexpr Token merged_away = -2;

  struct Symbol {
    uint32_t begin;
    uint32_t previous;
    uint32_t next;
    Token token;
  };

  static uint64_t key(uint32_t rank, uint32_t left) { return uint64_t{rank} << 32 | left; }
  uint32_t end_of(uint32_t i) const { return symbols_[i].next == none ? end_ : symbols_[symbols_[i].next].begin; }

  template <class Find>
  std::optional<PairMerge> pair_at(uint32_t left, const Find& find) const {
    const Symbol& symbol = symbols_[left];
    if (symbol.token == merged_away || symbol.next == none) return std::nullopt;
    return find(symbol.token, symbols_[symbol.next].token, symbol.begin, end_of(symbol.next));
  }

  template <class Find>
  void push(uint32_t left, const Find& find) {
    if (const auto found = pair_at(left, find)) {
      queue_.push_back(key(found->rank, left));
      std::push_heap(queue_.begin(), queue_.end(), std::greater<>());
    }
  }

  void join(uint32_t left, Token token) {
    Symbol& symbol = symbols_[left];
    Symbol& right = symbols_[symbol.next];
    right.token = merged_away;
    symbol.token = token;
    symbol.next = right.next;
    if (symbol.next != none) symbols_[symbol.next].previous = left;
  }

  std::vector<Symbol> symbols_;
  std::vector<uint64_t> queue_;
  uint32_t end_ = 0;
};

}  // namespace hone
