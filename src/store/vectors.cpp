#include "store/vectors.h"

#include <array>
#include <cmath>
#include <cstring>

#include "base/checksum.h"
#include "base/files.h"

namespace hone::store {
namespace {

constexpr std::array<char, 8> vectors_magic = {'H', 'O', 'N', 'E', 'V', 'E', 'C', 'S'};
constexpr uint32_t file_format = 1;
constexpr size_t hash_bytes = 32;

// A file starts with this, then the encoder's name, then the base's hash.
struct FileHeader {
  std::array<char, 8> magic = vectors_magic;
  uint32_t format = file_format;
  uint32_t dimension = 0;
  uint32_t name_bytes = 0;
  uint32_t base_hash_bytes = 0;
  uint64_t checksum = 0;  // XXH3 of all of it, this field 0
};
static_assert(sizeof(FileHeader) == 32);

// A commit is this, then the hashes of its chunks, then their vectors.
struct CommitHeader {
  uint64_t rows = 0;
  uint64_t checksum = 0;  // XXH3 of hashes and vectors
};

template <class Header>
void put_header(std::string& bytes, const Header& header) {
  std::memcpy(bytes.data(), &header, sizeof header);
}

uint64_t checksum_without_itself(FileHeader header, std::string_view strings) {
  header.checksum = 0;
  std::string bytes(sizeof header, '\0');
  put_header(bytes, header);
  return checksum(bytes += strings);
}

bool are_finite(std::string_view values) {
  for (size_t at = 0; at < values.size(); at += sizeof(float)) {
    float value = 0;
    std::memcpy(&value, values.data() + at, sizeof value);
    if (!std::isfinite(value)) return false;
  }
  return true;
}

}  // namespace

std::optional<VectorFile> VectorFile::read(const std::filesystem::path& path) {
  VectorFile file;
  try {
    file.contents_ = read_file(path);
  } catch (const Error& error) {
    if (error.code == ErrorCode::not_found) return std::nullopt;
    throw;
  }
  const std::string_view contents = file.contents_;
  FileHeader header;
  if (contents.size() >= sizeof header) std::memcpy(&header, contents.data(), sizeof header);
  const size_t strings_bytes = size_t{header.name_bytes} + header.base_hash_bytes;
  if (contents.size() < sizeof header || header.magic != vectors_magic || header.format != file_format ||
      header.dimension == 0 || strings_bytes > contents.size() - sizeof header ||
      header.checksum != checksum_without_itself(header, contents.substr(sizeof header, strings_bytes)))
    throw Error(ErrorCode::corrupt, "'" + path.string() + "' is damaged or not a file of vectors");
  file.encoder_ = {std::string(contents.substr(sizeof header, header.name_bytes)), header.dimension};
  file.base_hash_ = contents.substr(sizeof header + header.name_bytes, header.base_hash_bytes);
  file.good_bytes_ = sizeof header + strings_bytes;

  const size_t values_bytes = header.dimension * sizeof(float);
  for (;;) {
    const std::string_view rest = contents.substr(file.good_bytes_);
    CommitHeader commit;
    if (rest.size() < sizeof commit) break;
    std::memcpy(&commit, rest.data(), sizeof commit);
    if (commit.rows > (rest.size() - sizeof commit) / (hash_bytes + values_bytes)) break;
    const std::string_view body = rest.substr(sizeof commit, commit.rows * (hash_bytes + values_bytes));
    if (commit.checksum != checksum(body) || !are_finite(body.substr(commit.rows * hash_bytes))) break;
    const size_t begin = file.good_bytes_ + sizeof commit;
    for (size_t i = 0; i < commit.rows; ++i)
      file.rows_.push_back({begin + i * hash_bytes, begin + commit.rows * hash_bytes + i * values_bytes});
    file.good_bytes_ = begin + body.size();
  }
  return file;
}

std::string_view VectorFile::chunk_hash(size_t i) const {
  return std::string_view(contents_).substr(rows_[i].hash_at, hash_bytes);
}

void VectorFile::read_row(size_t i, std::span<float> values) const {
  std::memcpy(values.data(), contents_.data() + rows_[i].values_at, values.size_bytes());
}

std::string vectors_header(const Encoder& encoder, const std::string& base_hash) {
  FileHeader header;
  header.dimension = static_cast<uint32_t>(encoder.dimension);
  header.name_bytes = static_cast<uint32_t>(encoder.name.size());
  header.base_hash_bytes = static_cast<uint32_t>(base_hash.size());
  header.checksum = checksum_without_itself(header, encoder.name + base_hash);
  std::string bytes(sizeof header, '\0');
  put_header(bytes, header);
  return bytes + encoder.name + base_hash;
}

std::string vectors_commit(const std::vector<std::string>& hashes, ConstMatrixView vectors) {
  CommitHeader commit{.rows = hashes.size()};
  std::string bytes(sizeof commit, '\0');
  for (const std::string& hash : hashes) bytes += hash;
  bytes.append(reinterpret_cast<const char*>(vectors.data), vectors.rows * vectors.cols * sizeof(float));
  commit.checksum = checksum(std::string_view(bytes).substr(sizeof commit));
  put_header(bytes, commit);
  return bytes;
}

}  // namespace hone::store
