// Damaged stores: each is refused with an error that says what to do, or what it answers is what was put into it.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <iostream>
#include <map>
#include <set>

#include "base/files.h"
#include "base/random.h"
#include "hone/store.h"
#include "tests/fake_tokenizer.h"
#include "tests/row_bytes.h"
#include "tests/temporary_folder.h"

namespace hone::store_mutation_test {
namespace {

namespace fs = std::filesystem;

// SQLite's file formats: https://www.sqlite.org/fileformat2.html
constexpr size_t page_bytes = 4096;
constexpr size_t file_header_bytes = 100;
constexpr size_t log_header_bytes = 32;
constexpr size_t frame_header_bytes = 24;
constexpr const char* database = "store.sqlite";
constexpr const char* write_ahead_log = "store.sqlite-wal";

const StoreIdentity identity = {"fake", "0123456789abcdef"};
const std::string row_key = "chunk/model/layers";

std::string numbered(int file, int words) {
  std::string text;
  for (int i = 0; i < words; ++i) text += "f" + std::to_string(file) + "w" + std::to_string(i) + " ";
  return text;
}

uint32_t big_endian(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

void put_big_endian(std::string& bytes, size_t at, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; ++i) bytes[at + i] = static_cast<char>(value >> 8 * (width - 1 - i));
}

using Files = std::map<std::string, std::string>;  // names below the store's folder, and bytes

Files files_of(const fs::path& folder) {
  Files files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files[fs::relative(entry.path(), folder).string()] = read_file(entry.path());
  return files;
}

// One way to damage a store.
class Damage {
 public:
  Damage(Files& files, RandomStream& random) : files_(files), random_(random) {}

  void bytes() {
    std::string& file = files_[database];
    for (uint64_t n = 1 + random_.below(8); n > 0; --n) change(file, random_.below(file.size()));
  }
  void file_header() {
    std::string& file = files_[database];
    if (random_.below(2) == 0)
      change(file, random_.below(file_header_bytes));
    else
      replace_number(file, 16 + 4 * random_.below(20), 4);
  }
  // The schema's own table and its text.
  void first_page() {
    std::string& file = files_[database];
    for (uint64_t n = 1 + random_.below(3); n > 0; --n)
      change(file, file_header_bytes + random_.below(page_bytes - file_header_bytes));
  }
  // A tree page's kind, free blocks, cell count, content start, right child and cell pointers.
  void page_headers() {
    std::string& file = files_[database];
    for (uint64_t n = 1 + random_.below(2); n > 0; --n) {
      const size_t page = random_page(file);
      const size_t header = page * page_bytes + (page == 0 ? file_header_bytes : 0);
      if (random_.below(3) == 0)
        change(file, header + random_.below(12));
      else
        replace_number(file, header + random_.below(32), random_.below(2) == 0 ? 2 : 4);
    }
  }
  void pages() {
    std::string& file = files_[database];
    const size_t one = random_page(file), other = random_page(file);
    const std::string first = page_of(file, one), second = page_of(file, other);
    switch (random_.below(4)) {
      case 0: file.replace(one * page_bytes, page_bytes, page_bytes, '\0'); break;
      case 1: file.replace(one * page_bytes, page_bytes, second); break;
      case 2:
        file.replace(one * page_bytes, page_bytes, second);
        file.replace(other * page_bytes, page_bytes, first);
        break;
      default: file.replace(one * page_bytes, page_bytes, random_bytes(page_bytes)); break;
    }
  }
  void length() {
    std::string& file = files_[database];
    switch (random_.below(5)) {
      case 0: file.resize(random_.below(file.size())); break;
      case 1: file.resize(page_bytes * random_page(file)); break;
      case 2: file.resize(file.size() + page_bytes * (1 + random_.below(4))); break;
      case 3: file += random_bytes(1 + random_.below(2 * page_bytes)); break;
      default: file += page_of(file, random_page(file)); break;
    }
  }
  // What a killed writer left: commits that the database does not have yet.
  void log() {
    std::string& file = files_[write_ahead_log];
    const size_t frame = page_bytes + frame_header_bytes;
    const size_t start = log_header_bytes + frame * random_.below((file.size() - log_header_bytes) / frame);
    switch (random_.below(6)) {
      case 0: file.resize(random_.below(file.size())); return;
      case 1: file.resize(start); return;
      case 2: change(file, random_.below(log_header_bytes)); break;
      case 3: replace_number(file, start + 4 * random_.below(4), 4); break;
      case 4: change(file, start + random_.below(frame)); break;
      default:
        for (uint64_t n = 1 + random_.below(8); n > 0; --n) change(file, random_.below(file.size()));
        break;
    }
    if (random_.below(4) != 0) seal(file);
  }
  void rows() {
    std::vector<std::string> names;
    for (const auto& [name, bytes] : files_)
      if (name.starts_with("gradients/")) names.push_back(name);
    std::string& row = files_[names[random_.below(names.size())]];
    std::string& other = files_[names[random_.below(names.size())]];
    switch (random_.below(5)) {
      case 0: row.resize(random_.below(row.size())); break;
      case 1: row += random_bytes(1 + random_.below(40)); break;
      case 2: std::swap(row, other); break;
      case 3: replace_number(row, random_.below(32 - 8), random_.below(2) == 0 ? 4 : 8); break;
      default:
        for (uint64_t n = 1 + random_.below(4); n > 0; --n) change(row, random_.below(row.size()));
        break;
    }
  }

 private:
  void change(std::string& file, size_t at) {
    const uint64_t with = random_.below(256);
    file[at] = static_cast<char>(random_.below(2) == 0 ? with : static_cast<uint64_t>(file[at]) ^ 1u << with % 8);
  }
  void replace_number(std::string& file, size_t at, size_t width) {
    constexpr std::array<uint64_t, 12> edges = {0,     1,      2,       3,          13,         255,
                                                0xfff, 0xffff, 1 << 24, 0x7fffffff, 0x80000000, ~0ull};
    put_big_endian(file, at, edges[random_.below(edges.size())], width);
  }
  size_t random_page(const std::string& file) { return random_.below(file.size() / page_bytes); }
  static std::string page_of(const std::string& file, size_t page) {
    return file.substr(page * page_bytes, page_bytes);
  }
  std::string random_bytes(size_t count) {
    std::string bytes(count, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random_.below(256));
    return bytes;
  }
  // Gives the log the checksums of what it now says: a reader takes it for whole.
  static void seal(std::string& log) {
    const bool reversed = (log[3] & 1) == 0;
    uint32_t first = 0, second = 0;
    const auto word = [&](size_t at) {
      const uint32_t value = big_endian(log, at);
      return reversed ? __builtin_bswap32(value) : value;
    };
    const auto add = [&](size_t begin, size_t count) {
      for (size_t at = begin; at < begin + count; at += 8) {
        first += word(at) + second;
        second += word(at + 4) + first;
      }
    };
    const auto put = [&](size_t at) {
      put_big_endian(log, at, first, 4);
      put_big_endian(log, at + 4, second, 4);
    };
    add(0, 24);
    put(24);
    for (size_t at = log_header_bytes; at + frame_header_bytes + page_bytes <= log.size();
         at += frame_header_bytes + page_bytes) {
      add(at, 8);
      add(at + frame_header_bytes, page_bytes);
      put(at + 16);
    }
  }

  Files& files_;
  RandomStream& random_;
};

// So many of one kind; together 10 000.
struct Kind {
  const char* name;
  void (Damage::*apply)();
  int count;
  bool with_log;  // the store as a killed writer leaves it
};

constexpr std::array<Kind, 8> kinds = {{{"Bytes", &Damage::bytes, 2000, false},
                                        {"FileHeader", &Damage::file_header, 1000, false},
                                        {"FirstPage", &Damage::first_page, 1500, false},
                                        {"PageHeaders", &Damage::page_headers, 2000, false},
                                        {"Pages", &Damage::pages, 1000, false},
                                        {"Length", &Damage::length, 500, false},
                                        {"Log", &Damage::log, 1500, true},
                                        {"Rows", &Damage::rows, 500, false}}};

std::ostream& operator<<(std::ostream& out, const Kind& kind) { return out << kind.name; }

class StoreMutations : public testing::TestWithParam<Kind> {
 protected:
  StoreMutations() {
    for (int file = 0; file < 3; ++file) write_document(file, 110);
    {
      Store store = create();
      index_and_remember(store);
      fs::remove(docs() / "f2");  // leaves free pages
      index_and_remember(store);
      store.set_value("statistics", value);
      for (const auto& [key, row] : rows) store.keep_row(key, row, 1 << 20);
    }
    original = files_of(place());
    if (GetParam().with_log) {
      Store store = create();
      write_document(1, 120);
      write_document(2, 50);
      index_and_remember(store);
      store.set_value("statistics", value);
      original = files_of(place());
    }
    // What a writer has to bring in line: a changed file, a new one, and one that is gone.
    write_document(1, 90);
    write_document(3, 60);
    fs::remove(docs() / "f0");
    Store fresh = Store::create(folder.path() / "fresh", identity);
    index_and_remember(fresh);
  }

  fs::path docs() const { return folder.path() / "docs"; }
  fs::path place() const { return folder.path() / "store"; }
  void write_document(int file, int words) const {
    folder.write("docs/f" + std::to_string(file), numbered(file, words));
  }
  Store create() const { return Store::create(place(), identity); }
  void index(Store& store) const { store.index({docs()}, tokenizer, {.chunk_tokens = 64}); }

  void write(const Files& files) const {
    fs::remove_all(place());
    for (const auto& [name, bytes] : files) folder.write("store/" + name, bytes);
  }

  void index_and_remember(Store& store) {
    index(store);
    for (const int64_t id : store.chunk_ids()) texts.insert(store.chunk(id).text);
  }

  // Everything a reader does. What has a checksum is as it was stored, or an error.
  void read_everything(const Store& store) const {
    EXPECT_LE(store.chunk_count(), 1000u);
    const auto check = [&](const Chunk& chunk) {
      EXPECT_TRUE(texts.contains(chunk.text)) << chunk.text;
      EXPECT_EQ(chunk.tokens, tokenizer.encode(chunk.text));
      EXPECT_EQ(chunk.hash, content_hash(chunk.text));
    };
    for (const int64_t id : store.chunk_ids()) {
      check(store.chunk(id));
      if (const auto next = store.successor(id)) check(*next);
    }
    for (const char* query : {"f0w1 f1w2 f2w3 f3w4", "f1w1"})
      for (const Neighbour& neighbour : store.neighbours(query, 3)) check(store.chunk(neighbour.chunk_id));
    EXPECT_EQ(store.value("statistics").value_or(value), value);
    for (const auto& [key, row] : rows) EXPECT_EQ(test::bytes_of(store.find_row(key)).value_or(row), row);
  }

  // True if there was no error.
  template <class Body>
  bool answers(const Body& body) const {
    try {
      body();
      return true;
    } catch (const Error& error) {
      EXPECT_NE(error.message.find("'" + place().string() + "'"), std::string::npos) << error.message;
      EXPECT_NE(error.message.find(advice(error.code)), std::string::npos) << error.message;
    }
    return false;
  }

  // What messages about a damaged store tell the reader to do.
  static std::string advice(ErrorCode code) {
    switch (code) {
      case ErrorCode::corrupt: return "delete its folder and run `hone index` again";
      case ErrorCode::not_found: return "`hone index";
      case ErrorCode::bad_input: return "use that model or index into a new store";
      case ErrorCode::unsupported: return "index into a new store";
      default: return "no error of the kind '" + std::string(name(code)) + "'";
    }
  }

  const test::TemporaryFolder folder{test::memory_directory()};
  test::ByteTokenizer tokenizer;
  Files original;
  std::set<std::string> texts;  // of all chunks, before and after the writer's work
  const std::vector<std::byte> value = std::vector<std::byte>(3 * page_bytes, std::byte{9});
  const std::map<std::string, std::vector<std::byte>> rows = {{row_key, std::vector<std::byte>(300, std::byte{1})},
                                                              {"other", std::vector<std::byte>(300, std::byte{2})}};
};

TEST_P(StoreMutations, AreRefusedOrAnswer) {
  ASSERT_EQ(big_endian(original.at(database), 16) >> 16, page_bytes);
  write(original);
  read_everything(Store::open(place(), identity));
  RandomStream random(29, GetParam().name);
  int read = 0, written = 0;
  for (int i = 0; i < GetParam().count; ++i) {
    SCOPED_TRACE(i);
    Files files = original;
    Damage damage(files, random);
    (damage.*GetParam().apply)();
    write(files);
    if (answers([&] { read_everything(Store::open(place(), identity)); })) ++read;
    const bool brought_in_line = answers([&] {
      Store store = create();
      index(store);
      store.set_value("statistics", value);
      for (const auto& [key, row] : rows) store.keep_row(key, row, 1 << 20);
    });
    if (brought_in_line && answers([&] { read_everything(Store::open(place(), identity)); })) ++written;
    if (HasFailure()) break;
  }
  const bool caches_only = GetParam().apply == &Damage::rows;
  EXPECT_EQ(read == GetParam().count, caches_only);
  EXPECT_EQ(written == GetParam().count, caches_only);
  EXPECT_GT(read, 0);
  EXPECT_GT(written, 0);
  RecordProperty("read", read);
  RecordProperty("written", written);
  std::cout << GetParam().count << " damaged stores: " << read << " read, " << written << " brought in line\n";
}

INSTANTIATE_TEST_SUITE_P(Kinds, StoreMutations, testing::ValuesIn(kinds),
                         [](const auto& kind) { return std::string(kind.param.name); });

}  // namespace
}  // namespace hone::store_mutation_test
