// Store's dense vectors: the cache in line with the chunks, and search by cosine.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/files.h"
#include "hone/store.h"
#include "store/impl.h"
#include "store/vectors.h"

namespace hone {
namespace {

namespace fs = std::filesystem;
using store::Database;
using store::Statement;
using store::VectorFile;

fs::path file_of(const fs::path& directory) { return directory / store::vectors_name; }

std::string advice(const fs::path& directory) {
  return fmt::format("run `hone index MODEL PATH... -o {} --vectors`", directory.string());
}

void check(const Encoder& encoder) {
  constexpr size_t most = std::numeric_limits<int>::max();
  if (encoder.name.empty() || encoder.name.size() > most || encoder.dimension < 1 || encoder.dimension > most)
    throw Error(ErrorCode::bad_input, fmt::format("an encoder '{}' of dimension {}; it needs a name, and a dimension "
                                                  "of at least 1",
                                                  encoder.name, encoder.dimension));
}

bool belongs(const VectorFile& file, const Encoder& encoder, const StoreIdentity& identity) {
  return file.encoder() == encoder && file.base_hash() == identity.base_hash;
}

Error of_another(const fs::path& directory, const VectorFile& file, const Encoder& encoder) {
  const bool same = file.encoder() == encoder;
  return {ErrorCode::bad_input,
          fmt::format("the vectors of store '{}' are those of {} ({} values), {}; {} to make them anew",
                      directory.string(), store::printable(file.encoder().name), file.encoder().dimension,
                      same ? "made with another model" : fmt::format("not of {} ({})", encoder.name, encoder.dimension),
                      advice(directory))};
}

// Throws Error{corrupt} that says what to do.
std::optional<VectorFile> read_vectors(const fs::path& directory) {
  try {
    return VectorFile::read(file_of(directory));
  } catch (const Error& error) {
    if (error.code != ErrorCode::corrupt) throw;
    throw Error(error.code, fmt::format("{}; {} to make them anew", error.message, advice(directory)));
  }
}

// Of the same file in the same state; "" if there is none.
std::string stamp_of(const fs::path& file) {
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) return "";
  return fmt::format("{} {} {} {}", info.st_ino, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
}

// The hash of every chunk's content, by id.
std::vector<std::pair<int64_t, std::string>> stored_hashes(const Database& database) {
  std::vector<std::pair<int64_t, std::string>> chunks;
  Statement select = database.prepare("SELECT id, hash FROM chunk");
  while (select.step()) chunks.emplace_back(select.integer(0), select.text(1));
  std::ranges::sort(chunks);
  return chunks;
}

// Which row of the file belongs to a content.
std::unordered_map<std::string_view, size_t> rows_by_hash(const VectorFile& file) {
  std::unordered_map<std::string_view, size_t> rows;
  for (size_t i = 0; i < file.size(); ++i) rows[file.chunk_hash(i)] = i;
  return rows;
}

// A process that was killed while it wrote a whole file has left it.
void remove_temporaries(const fs::path& directory) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (entry->path().filename().string().starts_with(std::string(store::vectors_name) + "."))
      fs::remove(entry->path(), ignored);
  }
}

store::DenseIndex load(const fs::path& directory, const StoreIdentity& identity, const Database& database,
                       const Encoder& encoder) {
  const std::optional<VectorFile> file = read_vectors(directory);
  if (!file)
    throw Error(ErrorCode::not_found,
                fmt::format("store '{}' has no vectors; {} to make them", directory.string(), advice(directory)));
  if (!belongs(*file, encoder, identity)) throw of_another(directory, *file, encoder);
  const std::unordered_map<std::string_view, size_t> rows = rows_by_hash(*file);
  const auto chunks = stored_hashes(database);
  const auto missing = std::ranges::count_if(chunks, [&](const auto& chunk) { return !rows.contains(chunk.second); });
  if (missing > 0)
    throw Error(ErrorCode::not_found, fmt::format("{} of the {} chunks of store '{}' have no vector; {} to make them",
                                                  missing, chunks.size(), directory.string(), advice(directory)));
  std::vector<int64_t> ids;
  Matrix vectors = Matrix::uninitialized(chunks.size(), encoder.dimension);
  for (const auto& [id, hash] : chunks) {
    file->read_row(rows.at(hash), vectors.row(ids.size()));
    ids.push_back(id);
  }
  return {std::move(ids), std::move(vectors)};
}

}  // namespace

void Store::prune_vectors(const Encoder& encoder) {
  impl_->require_writable("to write");
  check(encoder);
  impl_->vectors_end.reset();
  remove_temporaries(impl_->directory);
  const fs::path path = file_of(impl_->directory);
  std::optional<VectorFile> file;
  try {
    file = VectorFile::read(path);
  } catch (const Error& error) {
    if (error.code != ErrorCode::corrupt) throw;
  }
  if (!file || !belongs(*file, encoder, impl_->identity)) {
    std::error_code error;
    if (!fs::remove(path, error) && error)
      throw Error(ErrorCode::io, fmt::format("cannot delete '{}': {}; check the folder's permissions", path.string(),
                                             error.message()));
    return;
  }
  const std::unordered_map<std::string_view, size_t> rows = rows_by_hash(*file);
  std::vector<std::string> hashes;
  std::vector<size_t> kept;
  for (const auto& [id, hash] : stored_hashes(impl_->database)) {
    const auto row = rows.find(hash);
    if (row == rows.end()) continue;
    hashes.push_back(hash);
    kept.push_back(row->second);
  }
  if (kept.size() == file->size()) return;
  Matrix vectors = Matrix::uninitialized(kept.size(), encoder.dimension);
  for (size_t i = 0; i < kept.size(); ++i) file->read_row(kept[i], vectors.row(i));
  write_file_atomically(
      path, store::vectors_header(encoder, impl_->identity.base_hash) + store::vectors_commit(hashes, vectors));
}

std::vector<int64_t> Store::chunks_without_vector(const Encoder& encoder) const {
  check(encoder);
  std::optional<VectorFile> file;
  try {
    file = VectorFile::read(file_of(impl_->directory));
  } catch (const Error& error) {
    if (error.code != ErrorCode::corrupt) throw;
  }
  std::unordered_map<std::string_view, size_t> rows;
  if (file && belongs(*file, encoder, impl_->identity)) rows = rows_by_hash(*file);
  std::vector<int64_t> missing;
  for (const auto& [id, hash] : stored_hashes(impl_->database))
    if (!rows.contains(hash)) missing.push_back(id);
  return missing;
}

void Store::keep_vectors(const Encoder& encoder, std::span<const int64_t> ids, ConstMatrixView vectors) {
  impl_->require_writable("to write");
  check(encoder);
  const std::span<const float> values(vectors.data, vectors.rows * vectors.cols);
  if (vectors.rows != ids.size() || vectors.cols != encoder.dimension ||
      !std::ranges::all_of(values, [](float value) { return std::isfinite(value); }))
    throw Error(ErrorCode::bad_input,
                fmt::format("vectors [{}, {}] for {} chunks by {} ({} values); a chunk has one vector of finite values",
                            vectors.rows, vectors.cols, ids.size(), encoder.name, encoder.dimension));
  Statement select = impl_->database.prepare("SELECT hash FROM chunk WHERE id = ?1");
  std::vector<std::string> hashes;
  for (const int64_t id : ids) {
    if (!select.bind(1, id).step())
      throw Error(ErrorCode::not_found, fmt::format("store '{}' has no chunk {}", impl_->directory.string(), id));
    hashes.push_back(select.text(0));
    select.reset();
  }
  const fs::path path = file_of(impl_->directory);
  if (!impl_->vectors_end) {
    const std::optional<VectorFile> file = read_vectors(impl_->directory);
    if (file && !belongs(*file, encoder, impl_->identity)) throw of_another(impl_->directory, *file, encoder);
    const std::string header = store::vectors_header(encoder, impl_->identity.base_hash);
    if (!file) write_file_atomically(path, header);
    impl_->vectors_end = {encoder, file ? file->good_bytes() : header.size()};
  }
  if (!(impl_->vectors_end->encoder == encoder))
    throw Error(ErrorCode::bad_input,
                fmt::format("store '{}' keeps vectors of {}, not of {}; prune them first", impl_->directory.string(),
                            impl_->vectors_end->encoder.name, encoder.name));
  const std::string commit = store::vectors_commit(hashes, vectors);
  write_file_from(path, impl_->vectors_end->bytes, commit);
  impl_->vectors_end->bytes += commit.size();
}

const store::DenseIndex& Store::Impl::dense_index(const Encoder& encoder, std::span<const float> query) {
  check(encoder);
  if (query.size() != encoder.dimension ||
      !std::ranges::all_of(query, [](float value) { return std::isfinite(value); }))
    throw Error(ErrorCode::bad_input, fmt::format("a query of {} values by {}; it needs {} finite ones", query.size(),
                                                  encoder.name, encoder.dimension));
  LoadedVectors& loaded = loaded_vectors;
  const int64_t version = database.integer("PRAGMA data_version");
  const std::string file = stamp_of(file_of(directory));
  if (!loaded.index || loaded.version != version || loaded.file != file || !(loaded.encoder == encoder)) {
    loaded.index.reset();
    loaded = {version, file, encoder, load(directory, identity, database, encoder)};
  }
  return *loaded.index;
}

std::vector<Neighbour> Store::nearest(const Encoder& encoder, std::span<const float> query, size_t count) const {
  return impl_->dense_index(encoder, query).nearest(query, count);
}

std::vector<Neighbour> Store::sift(const Encoder& encoder, std::span<const float> query, size_t count) const {
  return impl_->dense_index(encoder, query).sift(query, count);
}

}  // namespace hone
