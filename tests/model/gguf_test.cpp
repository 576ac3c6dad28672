// Sound files are read back as they were written; damaged ones give an Error that names the file and the field.
#include "model/gguf.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "base/random.h"
#include "hone/base.h"
#include "tests/data.h"
#include "tests/gguf_writer.h"
#include "tests/temporary_folder.h"

namespace hone::gguf_test {
namespace {

using test::bytes_of;
using test::GgufWriter;

class GgufFile : public ::testing::Test {
 protected:
  Gguf open(const std::string& contents) { return Gguf::open(folder_.write("small.gguf", contents)); }
  Gguf open(const GgufWriter& writer) { return open(writer.finish()); }

  // The error's message has the file's name and all of `parts`.
  void expect_error(const std::string& contents, ErrorCode code, std::initializer_list<const char*> parts) {
    try {
      open(contents);
      ADD_FAILURE() << "no error where one about " << *parts.begin() << " was expected";
    } catch (const Error& error) {
      EXPECT_EQ(name(error.code), name(code)) << error.what();
      EXPECT_NE(error.message.find("small.gguf"), std::string::npos) << error.what();
      for (const char* part : parts) EXPECT_NE(error.message.find(part), std::string::npos) << error.what();
    }
  }
  void expect_corrupt(const GgufWriter& writer, std::initializer_list<const char*> parts) {
    expect_error(writer.finish(), ErrorCode::corrupt, parts);
  }
  void expect_unsupported(const GgufWriter& writer, std::initializer_list<const char*> parts) {
    expect_error(writer.finish(), ErrorCode::unsupported, parts);
  }

  test::TemporaryFolder folder_;
};

// Every value type, and tensors of three types.
GgufWriter sample() {
  GgufWriter writer;
  writer.add<uint8_t>("u8", 255);
  writer.add<int8_t>("i8", -128);
  writer.add<uint16_t>("u16", 65535);
  writer.add<int16_t>("i16", -32768);
  writer.add<uint32_t>("u32", 4294967295u);
  writer.add<int32_t>("i32", -2147483647 - 1);
  writer.add<uint64_t>("u64", std::numeric_limits<int64_t>::max());
  writer.add<int64_t>("i64", std::numeric_limits<int64_t>::min());
  writer.add("f32", 0.5f);
  writer.add("f64", -1e300);
  writer.add("true", true);
  writer.add("false", false);
  writer.add("text", "gr\xc3\xbc\xc3\x9f");
  writer.add("empty text", "");
  writer.add("u8s", std::vector<uint8_t>{1, 255});
  writer.add("i8s", std::vector<int8_t>{-1, 1});
  writer.add("u16s", std::vector<uint16_t>{65535});
  writer.add("i16s", std::vector<int16_t>{-5, 5, 6});
  writer.add("u32s", std::vector<uint32_t>{4294967295u});
  writer.add("i32s", std::vector<int32_t>{-7});
  writer.add("u64s", std::vector<uint64_t>{8, 9});
  writer.add("i64s", std::vector<int64_t>{-9});
  writer.add("f32s", std::vector<float>{0.25f, -2.0f});
  writer.add("f64s", std::vector<double>{1e-300});
  writer.add("bools", std::vector<bool>{true, false, true});
  writer.add("texts", std::vector<std::string>{"a", "", "ccc"});
  writer.add("nothing", std::vector<int32_t>{});
  writer.add_tensor("matrix", {2, 3}, {1, 2, 3, 4, 5, 6});
  writer.add_tensor("vector", {4}, {7, 8, 9, 10});
  const size_t shape[] = {2, 2, 32};
  writer.add_tensor("blocks", TensorType::q4_1, shape, std::string(80, '\x11'));
  return writer;
}

TEST_F(GgufFile, AllValueTypesSurvive) {
  const Gguf file = open(sample());
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.metadata().size(), 27u);
  EXPECT_EQ(file.integer("u8"), 255);
  EXPECT_EQ(file.integer("i8"), -128);
  EXPECT_EQ(file.integer("u16"), 65535);
  EXPECT_EQ(file.integer("i16"), -32768);
  EXPECT_EQ(file.integer("u32"), 4294967295);
  EXPECT_EQ(file.integer("i32"), -2147483648);
  EXPECT_EQ(file.integer("u64"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(file.integer("i64"), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(file.real("f32"), 0.5);
  EXPECT_EQ(file.real("f64"), -1e300);
  EXPECT_TRUE(file.boolean("true"));
  EXPECT_FALSE(file.boolean("false"));
  EXPECT_EQ(file.string("text"), "gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(file.string("empty text"), "");
  EXPECT_EQ(file.integers("u8s"), (std::vector<int64_t>{1, 255}));
  EXPECT_EQ(file.integers("i8s"), (std::vector<int64_t>{-1, 1}));
  EXPECT_EQ(file.integers("u16s"), (std::vector<int64_t>{65535}));
  EXPECT_EQ(file.integers("i16s"), (std::vector<int64_t>{-5, 5, 6}));
  EXPECT_EQ(file.integers("u32s"), (std::vector<int64_t>{4294967295}));
  EXPECT_EQ(file.integers("i32s"), (std::vector<int64_t>{-7}));
  EXPECT_EQ(file.integers("u64s"), (std::vector<int64_t>{8, 9}));
  EXPECT_EQ(file.integers("i64s"), (std::vector<int64_t>{-9}));
  EXPECT_EQ(file.reals("f32s"), (std::vector<double>{0.25, -2}));
  EXPECT_EQ(file.reals("f64s"), (std::vector<double>{1e-300}));
  EXPECT_EQ(std::get<std::vector<bool>>(file.metadata().at("bools")), (std::vector<bool>{true, false, true}));
  EXPECT_EQ(file.strings("texts"), (std::vector<std::string>{"a", "", "ccc"}));
  EXPECT_TRUE(file.integers("nothing").empty());
}

TEST_F(GgufFile, LookUpsConvertAndDefault) {
  const Gguf file = open(sample());
  EXPECT_EQ(file.integer("true"), 1);
  EXPECT_EQ(file.real("i8"), -128.0);
  EXPECT_EQ(file.integer_or("absent", 5), 5);
  EXPECT_EQ(file.integer_or("u8", 5), 255);
  EXPECT_EQ(file.real_or("absent", 0.25), 0.25);
  EXPECT_TRUE(file.boolean_or("absent", true));
  EXPECT_EQ(file.string_or("absent", "x"), "x");
  EXPECT_TRUE(file.has("text"));
  EXPECT_FALSE(file.has("absent"));
}

template <class LookUp>
void expect_look_up_error(const LookUp& look_up, const char* key) {
  try {
    look_up();
    ADD_FAILURE() << "no error for " << key;
  } catch (const Error& error) {
    EXPECT_EQ(error.code, ErrorCode::corrupt);
    EXPECT_NE(error.message.find("small.gguf"), std::string::npos) << error.what();
    EXPECT_NE(error.message.find(key), std::string::npos) << error.what();
  }
}

TEST_F(GgufFile, LookUpsNameTheFileAndTheKey) {
  const Gguf file = open(sample());
  expect_look_up_error([&] { file.integer("absent"); }, "absent");
  expect_look_up_error([&] { file.integer("f32"); }, "f32");
  expect_look_up_error([&] { file.integer("text"); }, "text");
  expect_look_up_error([&] { file.integer_or("text", 3); }, "text");
  expect_look_up_error([&] { file.real("true"); }, "true");
  expect_look_up_error([&] { file.boolean("u8"); }, "u8");
  expect_look_up_error([&] { file.string("u8"); }, "u8");
  expect_look_up_error([&] { file.strings("i32s"); }, "i32s");
  expect_look_up_error([&] { file.integers("texts"); }, "texts");
  expect_look_up_error([&] { file.reals("i32s"); }, "i32s");
}

TEST_F(GgufFile, TensorsAreWhereTheyWerePut) {
  const Gguf file = open(sample());
  ASSERT_EQ(file.tensors().size(), 3u);
  const GgufTensor* matrix = file.find_tensor("matrix");
  ASSERT_TRUE(matrix);
  EXPECT_EQ(matrix->shape, (std::vector<size_t>{2, 3}));
  EXPECT_EQ(matrix->rows(), 2u);
  EXPECT_EQ(matrix->cols(), 3u);
  std::vector<float> values(6);
  dequantize(matrix->type, matrix->bytes, values);
  EXPECT_EQ(values, (std::vector<float>{1, 2, 3, 4, 5, 6}));

  const GgufTensor* vector = file.find_tensor("vector");
  ASSERT_TRUE(vector);
  EXPECT_EQ(vector->rows(), 1u);
  EXPECT_EQ(vector->cols(), 4u);

  const size_t shape[] = {2, 2, 32};
  const GgufTensor& blocks = file.tensor("blocks", shape);
  EXPECT_EQ(blocks.rows(), 4u);
  EXPECT_EQ(blocks.cols(), 32u);
  EXPECT_EQ(blocks.bytes.size(), 80u);
  EXPECT_EQ(blocks.bytes[79], std::byte{0x11});

  const size_t transposed[] = {3, 2};
  EXPECT_EQ(file.find_tensor("absent"), nullptr);
  expect_look_up_error([&] { file.tensor("absent", shape); }, "absent");
  expect_look_up_error([&] { file.tensor("matrix", transposed); }, "matrix");
}

TEST_F(GgufFile, ViewsOutliveAMove) {
  Gguf file = open(sample());
  const std::byte* data = file.find_tensor("vector")->bytes.data();
  const Gguf moved = std::move(file);
  EXPECT_EQ(moved.find_tensor("vector")->bytes.data(), data);
  float first = 0;
  std::memcpy(&first, data, sizeof(first));
  EXPECT_EQ(first, 7);
}

TEST_F(GgufFile, Version2AndOtherAlignmentsAreRead) {
  for (const uint32_t alignment : {8u, 64u, 4096u}) {
    GgufWriter writer;
    writer.version = 2;
    writer.alignment = alignment;
    writer.add("general.alignment", alignment);
    writer.add_tensor("a", {1}, {1});
    writer.add_tensor("b", {1}, {2});
    const Gguf file = open(writer);
    EXPECT_EQ(file.version(), 2u);
    float value = 0;
    std::memcpy(&value, file.find_tensor("b")->bytes.data(), sizeof(value));
    EXPECT_EQ(value, 2);
  }
}

TEST_F(GgufFile, AFileWithoutAnythingIsSound) {
  const Gguf file = open(GgufWriter().finish().substr(0, 24));
  EXPECT_TRUE(file.metadata().empty());
  EXPECT_TRUE(file.tensors().empty());
}

TEST_F(GgufFile, OtherFilesAreRefused) {
  EXPECT_THROW(Gguf::open(folder_.path() / "absent.gguf"), Error);
  expect_error("", ErrorCode::corrupt, {"header"});
  expect_error("GGUF", ErrorCode::corrupt, {"header"});
  expect_error(std::string(64, 'x'), ErrorCode::corrupt, {"not a GGUF file"});
  GgufWriter writer;
  for (const uint32_t version : {0u, 1u, 4u}) {
    writer.version = version;
    expect_unsupported(writer, {"version"});
  }
  writer.version = 0x03000000;
  expect_unsupported(writer, {"big-endian"});
}

TEST_F(GgufFile, DamagedMetadata) {
  const auto with_field = [](std::string_view key, uint32_t type, std::string_view value) {
    GgufWriter writer;
    writer.raw_field(key, type, value);
    return writer;
  };
  constexpr uint32_t u64_type = 10, string_type = 8, bool_type = 7, f32_type = 6;
  expect_corrupt(with_field("strange", 13, "12345678"), {"\"strange\"", "unknown value type 13"});
  expect_corrupt(with_field("strange", test::gguf_array, bytes_of<uint32_t>(99) + bytes_of<uint64_t>(0)),
                 {"\"strange\"", "unknown value type 99"});
  expect_unsupported(with_field("nested", test::gguf_array, bytes_of(test::gguf_array) + bytes_of<uint64_t>(0)),
                     {"\"nested\"", "arrays of arrays"});
  expect_corrupt(with_field("flag", bool_type, "\x02"), {"\"flag\"", "boolean"});
  expect_unsupported(with_field("big", u64_type, bytes_of(~uint64_t{0})), {"\"big\"", "too large"});
  expect_corrupt(with_field("long", string_type, bytes_of(~uint64_t{0})), {"\"long\"", "do not fit"});
  expect_corrupt(with_field("long", string_type, bytes_of(uint64_t{1} << 63)), {"\"long\"", "do not fit"});
  for (const uint64_t count : {~uint64_t{0}, uint64_t{1} << 62, uint64_t{1} << 40})
    for (const uint32_t type : {f32_type, string_type, bool_type, u64_type})
      expect_corrupt(with_field("many", test::gguf_array, bytes_of(type) + bytes_of(count)),
                     {"\"many\"", "do not fit"});
  expect_corrupt(with_field("", bool_type, "\x01"), {"metadata field 0", "empty"});

  GgufWriter twice;
  twice.add("key", true);
  twice.add("key", false);
  expect_corrupt(twice, {"\"key\"", "twice"});
}

TEST_F(GgufFile, KeysAreShownEscapedAndShort) {
  GgufWriter writer;
  writer.raw_field("\x1b[31mred" + std::string(5000, 'x'), 13, "");
  try {
    open(writer);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.message.find('\x1b'), std::string::npos);
    EXPECT_LT(error.message.size(), 500u);
  }
}

TEST_F(GgufFile, CountsBeyondTheFile) {
  for (const uint64_t count : {uint64_t{1}, uint64_t{1000}, uint64_t{1} << 60, ~uint64_t{0}}) {
    GgufWriter fields;
    fields.field_count = count;
    expect_corrupt(fields, {"metadata"});
    GgufWriter tensors;
    tensors.tensor_count = count;
    expect_corrupt(tensors, {"tensor"});
  }
}

TEST_F(GgufFile, DamagedTensors) {
  const auto with_tensor = [](std::vector<uint64_t> extents, uint32_t type, uint64_t offset) {
    GgufWriter writer;
    writer.add_tensor("first", {8}, {0, 1, 2, 3, 4, 5, 6, 7});
    writer.raw_tensor("weight", std::move(extents), type, offset);
    return writer;
  };
  constexpr uint64_t huge = uint64_t{1} << 63;
  expect_corrupt(with_tensor({}, 0, 0), {"\"weight\"", "0 dimensions"});
  expect_corrupt(with_tensor({1, 1, 1, 1, 1}, 0, 0), {"\"weight\"", "5 dimensions"});
  expect_corrupt(with_tensor({0}, 0, 0), {"\"weight\"", "zero"});
  expect_corrupt(with_tensor({4, 0}, 0, 0), {"\"weight\"", "zero"});
  expect_corrupt(with_tensor({huge, 2}, 0, 0), {"\"weight\"", "too large"});
  expect_corrupt(with_tensor({huge, huge, huge, huge}, 0, 0), {"\"weight\"", "too large"});
  expect_corrupt(with_tensor({huge}, 0, 0), {"\"weight\"", "too many"});
  expect_corrupt(with_tensor({uint64_t{1} << 62}, 0, 0), {"\"weight\"", "too many"});
  expect_corrupt(with_tensor({uint64_t{1} << 61}, 0, 0), {"\"weight\"", "reach past"});
  expect_corrupt(with_tensor({33}, 3, 0), {"\"weight\"", "whole Q4_1 blocks"});
  for (const uint32_t type : {4u, 9u, 15u, 31u, ~0u})
    expect_unsupported(with_tensor({32}, type, 0), {"\"weight\"", "tensor type"});
  expect_corrupt(with_tensor({8}, 0, 4), {"\"weight\"", "alignment"});
  expect_corrupt(with_tensor({9}, 0, 0), {"\"weight\"", "reach past"});
  expect_corrupt(with_tensor({1}, 0, 32), {"\"weight\"", "reach past"});
  expect_corrupt(with_tensor({1}, 0, ~uint64_t{0} - 31), {"\"weight\"", "reach past"});
  expect_corrupt(with_tensor({1}, 0, huge), {"\"weight\"", "reach past"});

  expect_corrupt(with_tensor({8}, 0, 0), {"\"weight\"", "also those of tensor \"first\""});

  GgufWriter twice;
  twice.add_tensor("weight", {1}, {1});
  twice.add_tensor("weight", {1}, {1});
  expect_corrupt(twice, {"\"weight\"", "twice"});
  GgufWriter nameless;
  nameless.add_tensor("", {1}, {1});
  expect_corrupt(nameless, {"tensor 0", "empty"});
}

TEST_F(GgufFile, BadAlignment) {
  for (const uint32_t alignment : {0u, 1u, 4u, 24u, 33u, ~0u}) {
    GgufWriter writer;
    writer.add("general.alignment", alignment);
    expect_corrupt(writer, {"general.alignment"});
  }
  GgufWriter text;
  text.add("general.alignment", "32");
  expect_corrupt(text, {"general.alignment"});
  GgufWriter large;
  large.add("general.alignment", uint32_t{1} << 31);
  large.add_tensor("weight", {1}, {1});
  expect_corrupt(large, {"\"weight\"", "reach past"});
}

// Touches every byte that an opened file hands out.
void read_everything(const Gguf& file) {
  for (const GgufTensor& tensor : file.tensors()) {
    std::vector<float> values(tensor.rows() * tensor.cols());
    dequantize(tensor.type, tensor.bytes, values);
  }
}

TEST_F(GgufFile, TruncationAtEveryByte) {
  GgufWriter writer = sample();
  const std::string whole = writer.finish();
  const size_t needed = whole.size() - (96 - 80);  // the padding behind the last tensor may be absent
  for (size_t size = 0; size < needed; ++size) expect_error(whole.substr(0, size), ErrorCode::corrupt, {"'"});
  for (size_t size = needed; size <= whole.size(); ++size)
    EXPECT_NO_THROW(read_everything(open(whole.substr(0, size))));
}

TEST_F(GgufFile, MutationsAreValidOrAnError) {
  const std::string whole = sample().finish();
  RandomStream random(1, "mutations");
  int sound = 0;
  for (int round = 0; round < 10000; ++round) {
    std::string mutated = whole;
    for (uint64_t left = 1 + random.below(4); left > 0; --left) {
      char& byte = mutated[random.below(mutated.size())];
      switch (random.below(4)) {
        case 0: byte = static_cast<char>(random.below(256)); break;
        case 1: byte = static_cast<char>(byte ^ (1 << random.below(8))); break;
        case 2: byte = '\xff'; break;
        default: byte = '\0'; break;
      }
    }
    try {
      read_everything(open(mutated));
      ++sound;
    } catch (const Error& error) {
      ASSERT_TRUE(error.code == ErrorCode::corrupt || error.code == ErrorCode::unsupported) << error.what();
      ASSERT_NE(error.message.find("small.gguf"), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(sound, 0);
  EXPECT_LT(sound, 10000);
}

TEST(GgufModels, RealFilesAreRead) {
  HONE_NEED_FILE(test::smollm2());
  const Gguf file = Gguf::open(test::smollm2());
  EXPECT_EQ(file.string("general.architecture"), "llama");
  EXPECT_EQ(file.integer("llama.block_count"), 30);
  EXPECT_EQ(file.strings("tokenizer.ggml.tokens").size(), 49152u);
  const size_t shape[] = {49152, 576};
  EXPECT_EQ(name(file.tensor("token_embd.weight", shape).type), "Q8_0");
}

}  // namespace
}  // namespace hone::gguf_test
