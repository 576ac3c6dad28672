// Chunking: a document to contiguous stretches of at most so many tokens, cut where a reader would cut.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string_view>

#include "hone/tokenizer.h"

namespace hone::store {

inline constexpr size_t min_chunk_tokens = 16;

using TakeChunk = std::function<void(std::string_view text, std::span<const Token> tokens)>;

// Calls `take` for every chunk in order; their texts together are the document, their tokens together its tokens. A cut
// falls on the last blank line in the last quarter of the chunk, else line end, else sentence end, else space, else at
// the limit, never inside a character. (Tokenizers join a line end to the indentation after it: such a cut is behind
// it.) A last chunk of fewer than 16 tokens joins the one before where it fits. The document is valid UTF-8 and is
// tokenised as a whole, beyond 64 KB in pieces of that size cut between lines where there are any, so that memory stays
// bounded and time linear. Throws Error{bad_input} if chunk_tokens < 16.
void for_each_chunk(std::string_view document, const Tokenizer& tokenizer, size_t chunk_tokens, const TakeChunk& take);

}  // namespace hone::store
