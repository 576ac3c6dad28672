// Sound files are read back as they were written; damaged ones give an Error that names the file and the entry.
#include "model/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

#include "base/random.h"
#include "tests/gguf_writer.h"
#include "tests/temporary_folder.h"

namespace hone::safetensors_test {
namespace {

using test::bytes_of;

std::string with_header(const std::string& header, const std::string& data = "") {
  return bytes_of<uint64_t>(header.size()) + header + data;
}

std::vector<float> values_of(const Matrix& matrix) { return {matrix.data(), matrix.data() + matrix.size()}; }

class SafeTensorsFile : public ::testing::Test {
 protected:
  SafeTensors open(const std::string& contents) { return SafeTensors::open(folder_.write("small.st", contents)); }

  void expect_corrupt(const std::string& contents, std::initializer_list<const char*> parts) {
    try {
      open(contents);
      ADD_FAILURE() << "no error for " << contents.substr(std::min<size_t>(8, contents.size()));
    } catch (const Error& error) {
      EXPECT_EQ(name(error.code), "corrupt") << error.what();
      EXPECT_NE(error.message.find("small.st"), std::string::npos) << error.what();
      for (const char* part : parts) EXPECT_NE(error.message.find(part), std::string::npos) << error.what();
    }
  }
  // One tensor "w" with these fields, and 8 bytes of data.
  void expect_corrupt_entry(const std::string& fields, std::initializer_list<const char*> parts) {
    expect_corrupt(with_header("{\"w\":" + fields + "}", "12345678"), parts);
  }

  test::TemporaryFolder folder_;
};

TEST_F(SafeTensorsFile, WrittenFilesAreReadBack) {
  Matrix first(2, 3), second(1, 2);
  for (size_t i = 0; i < first.size(); ++i) first.data()[i] = static_cast<float>(i) - 2.5f;
  second.data()[0] = 1e-40f;
  second.data()[1] = -3e38f;
  const Matrix none(0, 4);
  const NamedMatrix tensors[] = {{"z.first", first}, {"a \"second\"\n", second}, {"none", none}};
  const auto path = folder_.path() / "small.st";
  write_safetensors(path, tensors, {{"format", "hone"}, {"note", "gr\xc3\xbc\xc3\x9f"}});

  const SafeTensors file = SafeTensors::open(path);
  EXPECT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.metadata().at("format"), "hone");
  EXPECT_EQ(file.metadata().at("note"), "gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(file.tensors().at("z.first").dtype, "F32");
  EXPECT_EQ(file.tensors().at("z.first").shape, (std::vector<size_t>{2, 3}));
  EXPECT_EQ(values_of(file.matrix("z.first")), values_of(first));
  EXPECT_EQ(values_of(file.matrix("a \"second\"\n")), values_of(second));
  EXPECT_EQ(file.matrix("none").cols(), 4u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.tensors().at("z.first").bytes.data()) % 8, 0u);
}

TEST_F(SafeTensorsFile, TheSameTensorsGiveTheSameBytes) {
  const Matrix values(3, 3);
  const NamedMatrix tensors[] = {{"b", values}, {"a", values}};
  write_safetensors(folder_.path() / "1", tensors, {{"k", "v"}});
  write_safetensors(folder_.path() / "2", tensors, {{"k", "v"}});
  EXPECT_EQ(read_file(folder_.path() / "1"), read_file(folder_.path() / "2"));
}

TEST_F(SafeTensorsFile, NothingIsAFileToo) {
  write_safetensors(folder_.path() / "small.st", {});
  EXPECT_TRUE(SafeTensors::open(folder_.path() / "small.st").tensors().empty());
}

TEST_F(SafeTensorsFile, DtypesBecomeFloat) {
  const std::string header = R"({"f64":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},
    "i64":{"dtype":"I64","shape":[1,1],"data_offsets":[8,16]},
    "i32":{"dtype":"I32","shape":[2],"data_offsets":[16,24]},
    "f16":{"dtype":"F16","shape":[1,1,2],"data_offsets":[24,28]},
    "bf16":{"dtype":"BF16","shape":[2,1],"data_offsets":[28,32]},
    "scalar":{"dtype":"F32","shape":[],"data_offsets":[32,36]},
    "u8":{"dtype":"U8","shape":[2],"data_offsets":[36,38]},
    "new":{"dtype":"F4_X","shape":[3],"data_offsets":[38,40]}})";
  const std::string data = bytes_of(-0.5) + bytes_of<int64_t>(-7) + bytes_of<int32_t>(3) + bytes_of<int32_t>(-4) +
                           bytes_of<uint16_t>(0x3c00) + bytes_of<uint16_t>(0xc000) + bytes_of<uint16_t>(0x3f80) +
                           bytes_of<uint16_t>(0xc040) + bytes_of(2.5f) + "abcd";
  const SafeTensors file = open(with_header(header, data));
  EXPECT_EQ(values_of(file.matrix("f64")), (std::vector<float>{-0.5f}));
  EXPECT_EQ(values_of(file.matrix("i64")), (std::vector<float>{-7}));
  EXPECT_EQ(values_of(file.matrix("i32")), (std::vector<float>{3, -4}));
  EXPECT_EQ(values_of(file.matrix("f16")), (std::vector<float>{1, -2}));
  EXPECT_EQ(values_of(file.matrix("bf16")), (std::vector<float>{1, -3}));
  EXPECT_EQ(file.matrix("bf16").rows(), 2u);
  EXPECT_EQ(file.matrix("i32").rows(), 1u);
  EXPECT_EQ(values_of(file.matrix("scalar")), (std::vector<float>{2.5f}));
  for (const char* key : {"u8", "new", "absent"}) {
    try {
      file.matrix(key);
      ADD_FAILURE() << key;
    } catch (const Error& error) {
      EXPECT_EQ(error.code, std::string(key) == "absent" ? ErrorCode::not_found : ErrorCode::unsupported);
      EXPECT_NE(error.message.find("small.st"), std::string::npos);
      EXPECT_NE(error.message.find(key), std::string::npos);
    }
  }
}

TEST_F(SafeTensorsFile, DamagedHeaders) {
  expect_corrupt("", {"header"});
  expect_corrupt("1234567", {"header"});
  expect_corrupt(bytes_of<uint64_t>(3) + "{}", {"header"});
  expect_corrupt(bytes_of(~uint64_t{0}) + "{}", {"header"});
  expect_corrupt(bytes_of(~uint64_t{0} - 7) + "{}", {"header"});
  for (const char* header : {"", "[]", "1", "{", "{\"w\":}", "{} x", "{\"\xff\":1}", "nul"})
    expect_corrupt(with_header(header), {"header"});
  expect_corrupt(with_header(std::string(1000000, '[')), {"nested"});
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  expect_corrupt(with_header(objects), {"nested"});
  expect_corrupt(with_header("{\"w\":{\"shape\":[[1]]}}"), {"nested"});
  expect_corrupt(with_header("{\"__metadata__\":[]}"), {"__metadata__"});
  expect_corrupt(with_header("{\"__metadata__\":{\"k\":1}}"), {"__metadata__", "k"});
}

TEST_F(SafeTensorsFile, DamagedEntries) {
  EXPECT_NO_THROW(open(with_header(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "12345678")));
  expect_corrupt_entry("1", {"\"w\""});
  expect_corrupt_entry(R"({"shape":[2],"data_offsets":[0,8]})", {"\"w\"", "dtype"});
  expect_corrupt_entry(R"({"dtype":1,"shape":[2],"data_offsets":[0,8]})", {"\"w\"", "dtype"});
  expect_corrupt_entry(R"({"dtype":"F32","data_offsets":[0,8]})", {"\"w\"", "shape"});
  expect_corrupt_entry(R"({"dtype":"F32","shape":[2]})", {"\"w\"", "data_offsets"});
  for (const char* extent : {"-2", "2.0", "\"2\"", "null", "1e30", "99999999999999999999999"})
    expect_corrupt_entry(std::string(R"({"dtype":"F32","shape":[)") + extent + R"(],"data_offsets":[0,8]})",
                         {"\"w\"", "shape"});
  expect_corrupt_entry(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})", {"\"w\"", "8 bytes"});
  expect_corrupt_entry(R"({"dtype":"F32","shape":[9223372036854775808,2],"data_offsets":[0,8]})", {"\"w\"", "large"});
  expect_corrupt_entry(R"({"dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8]})", {"\"w\"", "8 bytes"});
  for (const char* offsets : {"[]", "[0]", "[0,8,8]", "[8,0]", "[0,9]", "[0,18446744073709551615]", "[-1,8]"})
    expect_corrupt_entry(std::string(R"({"dtype":"F32","shape":[2],"data_offsets":)") + offsets + "}",
                         {"\"w\"", "data_offsets"});
  expect_corrupt_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", {"data_offsets", "follow"});
  expect_corrupt_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", {"data_offsets", "gap"});
  expect_corrupt_entry(R"({"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]})", {"\"shape\"", "twice"});
  const std::string entry = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  expect_corrupt(with_header("{\"w\":" + entry + ",\"w\":" + entry + "}", "12345678"), {"\"w\"", "twice"});
  expect_corrupt(with_header("{\"w\":" + entry + ",\"v\":" + entry + "}", "12345678"), {"overlap"});
}

TEST_F(SafeTensorsFile, NamesThatCannotBeWritten) {
  const Matrix values(1, 1);
  const auto write = [&](const std::string& first, const std::string& second) {
    const NamedMatrix tensors[] = {{first, values}, {second, values}};
    write_safetensors(folder_.path() / "small.st", tensors);
  };
  for (const auto& [first, second] : {std::pair("a", "a"), {"a", "__metadata__"}, {"a", "\xff"}}) {
    try {
      write(first, second);
      ADD_FAILURE() << second;
    } catch (const Error& error) {
      EXPECT_EQ(error.code, ErrorCode::bad_input);
    }
  }
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "small.st"));
}

std::string sample(const test::TemporaryFolder& folder) {
  Matrix first(2, 3), second(1, 5);
  first.data()[3] = 1;
  const NamedMatrix tensors[] = {{"first", first}, {"second", second}};
  write_safetensors(folder.path() / "sample", tensors, {{"format", "hone"}});
  return read_file(folder.path() / "sample");
}

TEST_F(SafeTensorsFile, TruncationAtEveryByte) {
  const std::string whole = sample(folder_);
  EXPECT_NO_THROW(open(whole));
  for (size_t size = 0; size < whole.size(); ++size) expect_corrupt(whole.substr(0, size), {});
  expect_corrupt(whole + "x", {"follow"});
}

TEST_F(SafeTensorsFile, MutationsAreValidOrAnError) {
  const std::string whole = sample(folder_);
  RandomStream random(1, "mutations");
  const std::string_view structure = "{}[]\",:0123456789-.eE\\u ";
  int sound = 0;
  for (int round = 0; round < 10000; ++round) {
    std::string mutated = whole;
    for (uint64_t left = 1 + random.below(3); left > 0; --left) {
      char& byte = mutated[random.below(mutated.size())];
      byte = random.below(2) ? structure[random.below(structure.size())] : static_cast<char>(random.below(256));
    }
    try {
      const SafeTensors file = open(mutated);
      for (const auto& [key, tensor] : file.tensors())
        if (tensor.dtype == "F32") file.matrix(key);
      ++sound;
    } catch (const Error& error) {
      ASSERT_EQ(error.code, ErrorCode::corrupt) << error.what();
      ASSERT_NE(error.message.find("small.st"), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(sound, 0);
  EXPECT_LT(sound, 10000);
}

}  // namespace
}  // namespace hone::safetensors_test
