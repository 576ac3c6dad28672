// Words: text as the full-text index sees it.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

#include "store/database.h"

namespace hone::store {

// The distinct words of a text, folded by FTS5's own unicode61 tokenizer, and how often each stands there.
std::unordered_map<std::string, int> count_words(const Database& database, std::string_view text);

}  // namespace hone::store
