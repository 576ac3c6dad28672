#include "lab/text_corpora.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/files.h"
#include "base/random.h"
#include "data/contents.h"

namespace hone::lab {
namespace {

namespace fs = std::filesystem;

constexpr size_t least_bytes = 4000;

// The last by name of the folder's entries that `is_one` accepts; empty if there is none.
fs::path last_entry(const fs::path& folder, const std::function<bool(const fs::path&)>& is_one) {
  fs::path last;
  for (const fs::path& entry : folder_entries(folder))
    if (is_one(entry)) last = entry;
  return last;
}

Corpus read_corpus(std::string name, std::string_view package, const fs::path& folder,
                   std::span<const std::string_view> ends, const std::function<bool(const fs::path&)>& belongs) {
  Corpus corpus{std::move(name), {}, {}};
  std::set<std::string> seen;
  std::string names_and_hashes;
  for (const fs::path& file : folder.empty() ? std::vector<fs::path>() : files_below(folder, ends)) {
    const fs::path below = file.lexically_relative(folder);
    if (!belongs(below)) continue;
    const Contents contents(file);
    const auto bytes = contents.bytes();
    const std::string hash = content_hash(bytes);
    if (bytes.size() <= least_bytes || !seen.insert(hash).second) continue;
    corpus.documents.push_back({below.generic_string(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()}});
    names_and_hashes += fmt::format("{} {}\n", corpus.documents.back().name, hash);
  }
  if (corpus.documents.empty())
    throw Error(ErrorCode::not_found,
                fmt::format("the texts of {} are not there; install Debian's package {}", corpus.name, package));
  corpus.hash = content_hash(names_and_hashes);
  return corpus;
}

std::optional<TextWindow> window_of(const Document& document, size_t offset, size_t bytes) {
  const std::string_view text = document.text;
  const size_t line_end = text.find('\n', offset);
  if (line_end == std::string_view::npos || text.size() - line_end - 1 < bytes) return std::nullopt;
  const size_t begin = line_end + 1, end = text.rfind('\n', begin + bytes - 1) + 1;
  if (end < begin + bytes / 2) return std::nullopt;  // lines that long are no text
  return TextWindow{document.name, begin, std::string(text.substr(begin, end - begin))};
}

}  // namespace

std::vector<fs::path> files_below(const fs::path& folder, std::span<const std::string_view> ends) {
  std::vector<fs::path> files;
  std::error_code unreadable, dangling;
  for (fs::recursive_directory_iterator at(folder, unreadable), end; !unreadable && at != end;
       at.increment(unreadable)) {
    const std::string name = at->path().filename().string();
    if (at->is_regular_file(dangling) &&
        std::ranges::any_of(ends, [&](std::string_view wanted) { return name.ends_with(wanted); }))
      files.push_back(at->path());
  }
  if (unreadable && unreadable != std::errc::no_such_file_or_directory)
    throw Error(ErrorCode::io, fmt::format("cannot read what is below '{}': {}; {}", folder.string(),
                                           unreadable.message(), advice_for(unreadable.value())));
  std::ranges::sort(files);
  return files;
}

Corpus python_library(const fs::path& libraries) {
  const fs::path folder = last_entry(libraries, [](const fs::path& entry) {
    return entry.filename().string().starts_with("python3") && is_there(entry / "os.py");
  });
  constexpr std::string_view ends[] = {".py"};
  return read_corpus("Python's library", "python3", folder, ends, [](const fs::path& below) {
    const std::string name = below.generic_string();
    return name.find("test") == std::string::npos && name.find("-packages/") == std::string::npos &&
           !name.starts_with("encodings/");
  });
}

Corpus linux_documentation(const fs::path& documentation) {
  const fs::path folder = last_entry(
      documentation, [](const fs::path& entry) { return entry.filename().string().starts_with("linux-doc-"); });
  constexpr std::string_view ends[] = {".rst", ".rst.gz"};
  return read_corpus("Linux's documentation", "linux-doc", folder.empty() ? folder : folder / "Documentation", ends,
                     [](const fs::path& below) {
                       constexpr std::string_view guides[] = {"admin-guide", "core-api", "driver-api",   "filesystems",
                                                              "networking",  "process",  "userspace-api"};
                       return std::ranges::find(guides, below.begin()->string()) != std::end(guides);
                     });
}

Split split(const Corpus& corpus, size_t count, size_t offset, size_t bytes, uint64_t seed) {
  std::vector<TextWindow> windows;
  for (const Document& document : corpus.documents)
    if (std::optional<TextWindow> window = window_of(document, offset, bytes)) windows.push_back(std::move(*window));
  RandomStream(seed, "held out/" + corpus.name).draw(std::span(windows), windows.size());
  windows.resize(windows.size() / 3);
  if (windows.size() < count)
    throw Error(ErrorCode::bad_input, fmt::format("{} has {} held-out files of {} bytes and more, not {}", corpus.name,
                                                  windows.size(), offset + bytes, count));
  std::set<std::string_view> held_out;
  for (const TextWindow& window : windows) held_out.insert(window.document);
  Split result;
  for (const Document& document : corpus.documents)
    if (!held_out.contains(document.name)) result.learned.push_back(&document);
  windows.resize(count);
  result.windows = std::move(windows);
  return result;
}

Store corpus_store(const Model& model, std::span<const Document* const> documents, size_t chunk_tokens,
                   const fs::path& folder, const Watch& watch) {
  const StoreIdentity identity{model.name(), model.base_hash()};
  std::string lines;
  for (const Document* document : documents)
    lines +=
        nlohmann::json{{"text", document->text}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
  const std::string hash = content_hash(fmt::format("{} {}\n{}", identity.base_hash, chunk_tokens, lines));
  const fs::path store = folder / fmt::format("texts-{}.hone", hash);
  if (is_there(store)) return Store::open(store, identity);
  const fs::path part = folder / fmt::format("texts-{}.part", hash), texts = folder / fmt::format("{}.jsonl", hash);
  {
    Store made = Store::create(part, identity);
    write_file_atomically(texts, lines);
    made.index({texts}, model.tokenizer(), {.chunk_tokens = chunk_tokens}, watch);
  }
  std::error_code failure;
  fs::rename(part, store, failure);
  if (failure)
    throw Error(ErrorCode::io,
                fmt::format("cannot rename '{}' to '{}': {}", part.string(), store.string(), failure.message()));
  fs::remove(texts, failure);
  return Store::open(store, identity);
}

}  // namespace hone::lab
