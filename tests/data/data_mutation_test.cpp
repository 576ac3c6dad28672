// Damaged files of data: each is refused with an error that names it, or read as what it then says.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/files.h"
#include "base/random.h"
#include "hone/data.h"
#include "tests/golden.h"
#include "tests/temporary_folder.h"

namespace hone::data_mutation_test {
namespace {

namespace fs = std::filesystem;

void change(std::string& bytes, RandomStream& random) {
  constexpr std::array<uint64_t, 10> edges = {0,          1,          2,          255,        0xffff,
                                              0x7fffffff, 0xffffffff, 0xfffffffe, 1ull << 62, ~0ull};
  const size_t at = random.below(bytes.size());
  switch (random.below(6)) {
    case 0: bytes[at] ^= static_cast<char>(1 << random.below(8)); break;
    case 1: bytes[at] = static_cast<char>(random.below(256)); break;
    case 2: bytes[at] = "0123456789(),'\"<>-UfioSbO{}:\n\t"[random.below(30)]; break;
    case 3: bytes.erase(at, 1 + random.below(8)); break;
    case 4: bytes.insert(at, bytes.substr(random.below(bytes.size()), random.below(12))); break;
    default: {
      const uint64_t value = edges[random.below(edges.size())];
      std::memcpy(bytes.data() + at, &value, std::min<size_t>(bytes.size() - at, size_t{1} << random.below(4)));
    }
  }
  if (bytes.empty()) bytes = "\n";
}

std::string mutated(std::string bytes, RandomStream& random) {
  if (random.below(8) == 0) {
    bytes.resize(random.below(bytes.size()));
    return bytes;
  }
  for (uint64_t n = 1 + random.below(4); n > 0; --n) change(bytes, random);
  return bytes;
}

void check(const LabelledData& data) {
  ASSERT_GT(data.size(), 0u);
  EXPECT_TRUE(data.x.rows() == data.size() || data.texts.size() == data.size());
  for (const int y : data.y) EXPECT_LT(static_cast<size_t>(y), data.labels.size());
  for (size_t i = 0; i < data.x.size(); ++i) EXPECT_TRUE(std::isfinite(data.x.data()[i]));
}

class DataMutations : public testing::TestWithParam<const char*> {};

TEST_P(DataMutations, AreRefusedOrRead) {
  constexpr int mutations = 4000;
  const std::string name = GetParam();
  const test::TemporaryFolder folder(test::memory_directory());
  const fs::path original = test::golden_directory() / "arrays" / name;
  std::string bytes = name == "table.csv" ? "a,\"b, c\",kind\n1,2.5,x\n-3,\"4e2\",\"y \"\"z\"\"\"\r\n5,6,x\n"
                      : name == "lines"   ? "one\ntwo\r\none\nthree\ntwo\n"
                                          : read_file(original);
  const bool labels = name == "text.npy" || name == "lines" || name == "labels.idx1.gz";
  const fs::path features =
      test::golden_directory() / "arrays" / (name == "labels.idx1.gz" ? "images.idx3" : "float.npy");
  const fs::path own_labels =
      test::golden_directory() / "arrays" / (name.starts_with("images") ? "labels.idx1" : "text.npy");
  RandomStream random(41, name);
  int refused = 0;
  for (int i = 0; i < mutations; ++i) {
    SCOPED_TRACE(i);
    const fs::path file = folder.write(name, mutated(bytes, random));
    try {
      if (labels)
        check(read_labelled(features, {.label_file = file}));
      else if (name.ends_with(".npz") || name.ends_with(".csv"))
        check(read_labelled(file));
      else
        check(read_labelled(file, {.label_file = own_labels}));
    } catch (const Error& error) {
      ++refused;
      EXPECT_TRUE(error.code != ErrorCode::io && error.code != ErrorCode::cancelled) << error.message;
      EXPECT_TRUE(error.message.find(file.string()) != std::string::npos ||
                  error.message.find(features.string()) != std::string::npos)
          << error.message;
    }
    if (HasFailure()) break;
  }
  RecordProperty("refused", refused);
  EXPECT_GT(refused, mutations / 10);
  EXPECT_LT(refused, mutations);
}

INSTANTIATE_TEST_SUITE_P(Golden, DataMutations,
                         testing::Values("float.npy", "fortran.npy", "half.npy", "text.npy", "stored.npz",
                                         "deflated.npz", "images.idx3", "images.idx3.gz", "labels.idx1.gz", "table.csv",
                                         "lines"),
                         [](const auto& file) {
                           std::string name = file.param;
                           std::ranges::replace(name, '.', '_');
                           return name;
                         });

}  // namespace
}  // namespace hone::data_mutation_test
