// A NeighbourIndex as one file: a header, then the points (flat) or FAISS's own format (ivf, hnsw).
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "base/files.h"
#include "heads/neighbours_impl.h"

namespace hone {
namespace {

constexpr std::array<char, 8> file_magic = {'H', 'O', 'N', 'E', 'N', 'E', 'A', 'R'};
constexpr uint32_t file_format = 1;

struct Header {
  std::array<char, 8> magic = file_magic;
  uint32_t format = file_format;
  uint16_t kind = 0;
  uint16_t metric = 0;
  uint64_t size = 0;
  uint64_t dimension = 0;
  uint64_t lists = 0;
  uint64_t links = 0;
  uint64_t effort = 0;
  double recall = 0;
  uint64_t seed = 0;
  uint64_t checksum = 0;  // XXH3 of the whole file, this field 0
};
static_assert(sizeof(Header) == 80);

uint64_t checksum_of(Header header, std::span<const std::byte> rest) {
  header.checksum = XXH3_64bits(rest.data(), rest.size());
  return XXH3_64bits(&header, sizeof header);
}

Error corrupt(const std::filesystem::path& path, std::string_view why) {
  return {ErrorCode::corrupt,
          fmt::format("'{}' is damaged or not a file of neighbours: {}; make it anew", path.string(), why)};
}

// The checksum has held: what does not fit was written like this.
NeighbourOptions options_of(const Header& header, const std::filesystem::path& path) {
  if (header.kind > static_cast<uint16_t>(IndexKind::hnsw) || header.metric > static_cast<uint16_t>(Metric::cosine))
    throw corrupt(path, "its kind or metric is unknown");
  const NeighbourOptions options{.kind = static_cast<IndexKind>(header.kind),
                                 .metric = static_cast<Metric>(header.metric),
                                 .lists = header.lists,
                                 .links = header.links,
                                 .effort = header.effort,
                                 .recall = header.recall,
                                 .seed = header.seed};
  const bool approximate = options.kind != IndexKind::flat;
  if (header.size == 0 || header.dimension == 0 ||
      (approximate && std::max(header.size, header.dimension) > std::numeric_limits<int32_t>::max()))
    throw corrupt(path, "it says that it holds too few points or too many");
  if (options.lists > header.size || (options.kind == IndexKind::ivf && options.lists == 0) || options.links < 2 ||
      options.links > most_links || (approximate && options.effort == 0) ||
      !(options.recall >= 0 && options.recall <= 1))
    throw corrupt(path, "its options are none that an index is built with");
  return options;
}

}  // namespace

void NeighbourIndex::save(const std::filesystem::path& path) const {
  const NeighbourOptions& options = impl_->options;
  Header header;
  header.kind = static_cast<uint16_t>(options.kind);
  header.metric = static_cast<uint16_t>(options.metric);
  header.size = impl_->size;
  header.dimension = impl_->dimension;
  header.lists = options.lists;
  header.links = options.links;
  header.effort = options.effort;
  header.recall = options.recall;
  header.seed = options.seed;
  std::string bytes(sizeof header, '\0');
  bytes.reserve(sizeof header + impl_->size * impl_->dimension * sizeof(float));
  if (impl_->exact)
    bytes.append(reinterpret_cast<const char*>(impl_->points.data()), impl_->points.size() * sizeof(float));
  else
    impl_->approximate->append_to(bytes);
  header.checksum = checksum_of(header, std::as_bytes(std::span(bytes)).subspan(sizeof header));
  std::memcpy(bytes.data(), &header, sizeof header);
  write_file_atomically(path, bytes);
}

NeighbourIndex NeighbourIndex::open(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::span<const std::byte> bytes = file.bytes();
  Header header;
  if (bytes.size() < sizeof header) throw corrupt(path, "it is too short");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != file_magic) throw corrupt(path, "it begins otherwise");
  if (header.format != file_format)
    throw Error(ErrorCode::unsupported, fmt::format("'{}' has format {}, this hone reads {}; make it anew",
                                                    path.string(), header.format, file_format));
  const std::span<const std::byte> rest = bytes.subspan(sizeof header);
  if (header.checksum != checksum_of(header, rest)) throw corrupt(path, "its checksum is another");
  auto impl = std::make_unique<Impl>();
  impl->options = options_of(header, path);
  impl->size = header.size;
  impl->dimension = header.dimension;
  if (impl->options.kind == IndexKind::flat) {
    if (header.dimension > rest.size() || rest.size() % (header.dimension * sizeof(float)) != 0 ||
        rest.size() / (header.dimension * sizeof(float)) != header.size)
      throw corrupt(path, "its length does not fit its points");
    impl->points = Matrix::uninitialized(header.size, header.dimension);
    std::memcpy(impl->points.data(), rest.data(), rest.size());
  }
  try {
    if (impl->options.kind == IndexKind::flat) {
      require_finite(impl->points, "points");
      impl->exact.emplace(impl->points, impl->options.metric);
    } else {
      impl->approximate = ApproximateSearch::read(rest, impl->options, header.size, header.dimension);
    }
  } catch (const Error& error) {
    throw corrupt(path, error.message);
  }
  return NeighbourIndex(std::move(impl));
}

}  // namespace hone
