#include "store/words.h"

#include <algorithm>
#include <climits>
#include <memory>

namespace hone::store {
namespace {

// The way SQLite's manual gives to reach the FTS5 extension interface of a connection.
fts5_api& fts5_of(const Database& database) {
  fts5_api* api = nullptr;
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(database.handle(), "SELECT fts5(?1)", -1, &statement, nullptr);
  if (code != SQLITE_OK) database.fail(code);
  sqlite3_bind_pointer(statement, 1, &api, "fts5_api_ptr", nullptr);
  sqlite3_step(statement);
  sqlite3_finalize(statement);
  if (!api) database.fail(SQLITE_ERROR);
  return *api;
}

using Counts = std::unordered_map<std::string, int>;

int count_word(void* context, int, const char* word, int length, int, int) {
  ++(*static_cast<Counts*>(context))[std::string(word, static_cast<size_t>(length))];
  return SQLITE_OK;
}

}  // namespace

Counts count_words(const Database& database, std::string_view text) {
  fts5_api& api = fts5_of(database);
  void* context = nullptr;
  fts5_tokenizer tokenizer{};
  int code = api.xFindTokenizer(&api, "unicode61", &context, &tokenizer);
  if (code != SQLITE_OK) database.fail(code);
  Fts5Tokenizer* instance = nullptr;
  code = tokenizer.xCreate(context, nullptr, 0, &instance);
  if (code != SQLITE_OK) database.fail(code);
  const std::unique_ptr<Fts5Tokenizer, void (*)(Fts5Tokenizer*)> owner(instance, tokenizer.xDelete);
  Counts counts;
  const int length = static_cast<int>(std::min<size_t>(text.size(), INT_MAX));
  code = tokenizer.xTokenize(instance, &counts, FTS5_TOKENIZE_QUERY, text.data(), length, count_word);
  if (code != SQLITE_OK) database.fail(code);
  return counts;
}

}  // namespace hone::store
