// Store::neighbours: BM25 over the most informative words of a prompt.
#include <algorithm>
#include <climits>
#include <cmath>

#include "hone/store.h"
#include "store/impl.h"
#include "store/words.h"

namespace hone {
namespace {

using store::Database;
using store::Statement;

constexpr size_t query_words = 48;

struct Word {
  std::string text;
  double weight;
};

// Forgets the counts if anybody changed the store since they were taken.
void refresh(const Database& database, WordCounts& counts) {
  const int64_t version = database.integer("PRAGMA data_version");
  if (counts.version == version) return;
  counts.chunks_with.clear();
  counts.chunks = database.integer("SELECT count(*) FROM chunk");
  counts.version = version;
}

// idf as FTS5's bm25() has it: ln((N - n + 1/2) / (n + 1/2)), at least 1e-6; times 1 + ln(count in the query).
std::vector<Word> informative_words(const Database& database, WordCounts& counts, std::string_view text) {
  Statement select = database.prepare("SELECT doc FROM vocabulary WHERE term = ?1");
  std::vector<Word> words;
  for (const auto& [word, times] : store::count_words(database, text)) {
    auto known = counts.chunks_with.find(word);
    if (known == counts.chunks_with.end()) {
      const int64_t found = select.bind(1, word).step() ? select.integer(0) : 0;
      select.reset();
      known = counts.chunks_with.emplace(word, found).first;
    }
    const auto chunks_with = static_cast<double>(known->second);
    if (chunks_with <= 0) continue;
    const double idf = std::log((static_cast<double>(counts.chunks) - chunks_with + 0.5) / (chunks_with + 0.5));
    words.push_back({word, std::max(idf, 1e-6) * (1 + std::log(times))});
  }
  std::sort(words.begin(), words.end(),
            [](const Word& a, const Word& b) { return a.weight != b.weight ? a.weight > b.weight : a.text < b.text; });
  if (words.size() > query_words) words.resize(query_words);
  return words;
}

}  // namespace

std::vector<Neighbour> Store::neighbours(std::string_view text, size_t count) const {
  const Database& database = impl_->database;
  refresh(database, impl_->counts);
  std::string query;
  for (const Word& word : informative_words(database, impl_->counts, text))
    query += (query.empty() ? "\"" : " OR \"") + word.text + "\"";
  std::vector<Neighbour> found;
  if (query.empty() || count == 0) return found;
  Statement select =
      database.prepare("SELECT rowid, rank FROM words WHERE words MATCH ?1 ORDER BY rank, rowid LIMIT ?2");
  select.bind(1, query).bind(2, static_cast<int64_t>(std::min<size_t>(count, INT_MAX)));
  while (select.step()) found.push_back({select.integer(0), -select.real(1)});
  return found;
}

}  // namespace hone
