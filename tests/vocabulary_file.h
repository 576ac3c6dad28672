// A GGUF file that holds hand-made metadata and no tensors; removed with the object.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace hone::test {

class VocabularyFile {
 public:
  VocabularyFile() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::path(::testing::TempDir()) /
            (std::string(test->test_suite_name()) + "." + test->name() + ".gguf");
  }
  ~VocabularyFile() { std::filesystem::remove(path_); }
  VocabularyFile(const VocabularyFile&) = delete;
  VocabularyFile& operator=(const VocabularyFile&) = delete;

  VocabularyFile& text(std::string_view key, std::string_view value) {
    start(key, 8);
    string(value);
    return *this;
  }
  VocabularyFile& boolean(std::string_view key, bool value) {
    start(key, 7);
    body_ += static_cast<char>(value);
    return *this;
  }
  VocabularyFile& integer(std::string_view key, uint32_t value) {
    start(key, 4);
    number(value);
    return *this;
  }
  VocabularyFile& texts(std::string_view key, const std::vector<std::string>& values) {
    start_array(key, 8, values.size());
    for (const std::string& value : values) string(value);
    return *this;
  }
  VocabularyFile& integers(std::string_view key, const std::vector<int32_t>& values) {
    start_array(key, 5, values.size());
    for (const int32_t value : values) number(value);
    return *this;
  }
  VocabularyFile& reals(std::string_view key, const std::vector<float>& values) {
    start_array(key, 6, values.size());
    for (const float value : values) number(value);
    return *this;
  }

  std::filesystem::path write() const {
    std::ofstream out(path_, std::ios::binary);
    VocabularyFile header;
    header.body_ = "GGUF";
    header.number(uint32_t{3});
    header.number(uint64_t{0});
    header.number(entries_);
    header.path_.clear();
    out << header.body_ << body_;
    return path_;
  }

 private:
  template <class Number>
  void number(Number value) {
    body_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void string(std::string_view value) {
    number(uint64_t{value.size()});
    body_ += value;
  }
  void start(std::string_view key, uint32_t type) {
    ++entries_;
    string(key);
    number(type);
  }
  void start_array(std::string_view key, uint32_t type, size_t count) {
    start(key, 9);
    number(type);
    number(uint64_t{count});
  }

  std::filesystem::path path_;
  std::string body_;
  uint64_t entries_ = 0;
};

}  // namespace hone::test
