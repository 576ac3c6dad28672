#include "lab/text_vectors.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/files.h"
#include "data/contents.h"
#include "hone/data.h"
#include "lab/lab_cache.h"
#include "lab/text_corpora.h"
#include "model/model_hub.h"

namespace hone::lab {
namespace {

namespace fs = std::filesystem;

constexpr size_t piece_bytes = 200;

// Whole lines, as many as a piece needs to have its length; what has less is left out.
void cut(std::string_view text, std::vector<std::string>& pieces) {
  for (size_t from = 0, end = 0; end < text.size();) {
    end = std::min(text.find('\n', end), text.size() - 1) + 1;
    if (end - from < piece_bytes) continue;
    pieces.emplace_back(text.substr(from, end - from));
    from = end;
  }
}

// Each behind its length, so that where one ends is part of what is hashed.
std::string joined(std::span<const std::string> texts) {
  std::string all;
  for (const std::string& text : texts) all += fmt::format("{} {}", text.size(), text);
  return all;
}

}  // namespace

std::vector<std::string> corpus_pieces(size_t count) {
  std::vector<fs::path> files;
  const auto take = [&](const fs::path& folder, std::initializer_list<std::string_view> ends) {
    std::ranges::move(files_below(folder, {ends.begin(), ends.size()}), std::back_inserter(files));
  };
  std::vector<fs::path> folders;
  for (const fs::path& entry : folder_entries("/usr/lib"))
    if (is_there(entry / "os.py")) folders.push_back(entry);
  for (const fs::path& entry : folder_entries("/usr/share/doc"))
    if (entry.filename().string().starts_with("linux-doc-")) folders.push_back(entry);
  std::ranges::sort(folders);
  for (const fs::path& folder : folders) take(folder, {".py", ".rst", ".rst.gz", ".txt.gz"});
  std::vector<std::string> pieces;
  for (const fs::path& file : files) {
    const Contents contents(file);
    cut({reinterpret_cast<const char*>(contents.bytes().data()), contents.bytes().size()}, pieces);
  }
  if (pieces.size() < count)
    throw Error(ErrorCode::not_found,
                fmt::format("{} pieces of text are needed, and {} are here: install Debian's python3 and linux-doc-6.1",
                            count, pieces.size()));
  std::vector<std::string> some;
  for (size_t i = 0; i < count; ++i) some.push_back(pieces[i * pieces.size() / count]);
  return some;
}

std::string texts_hash(std::span<const std::string> texts) { return content_hash(joined(texts)); }

fs::path minilm_folder() {
  fs::path folder = hub_path(hub_model("minilm"));
  if (!is_there(folder)) throw Error(ErrorCode::not_found, "MiniLM is needed: run `hone model get minilm`");
  return folder;
}

fs::path cached_vectors(const TextEncoder& encoder, std::span<const std::string> texts, const Watch& watch) {
  const std::string_view precision = encoder.options().precision == Precision::int8 ? "int8" : "fp32";
  const std::string made = fmt::format("{}, {}: {}", encoder.identity(), precision, joined(texts));
  fs::path file = lab_cache(fmt::format("vectors-{}.npy", content_hash(made)));
  if (!is_there(file)) write_npy(file, encoder.embed(texts, {}, watch));
  return file;
}

}  // namespace hone::lab
