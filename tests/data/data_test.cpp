// Features, texts and labels from files: what numpy wrote is read as numpy meant it, what hone wrote is read back, and
// what cannot be used is refused with a message that says why.
#include "hone/data.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>
#include <cstring>

#include "data/deflate.h"
#include "data/delimited.h"
#include "data/npy.h"
#include "model/quantization.h"
#include "tests/data.h"
#include "tests/expect_error.h"
#include "tests/golden.h"
#include "tests/temporary_folder.h"

namespace hone::data_test {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;
constexpr size_t rows = 5, cols = 3;  // of tests/golden/arrays.py

fs::path golden(const std::string& name) { return test::golden_directory() / "arrays" / name; }
Matrix golden_values() { return test::generated_matrix(900, rows, cols, 4.0); }

Names names_of(const LabelledData& data) {
  Names names;
  for (const int y : data.y) names.push_back(data.labels.at(static_cast<size_t>(y)));
  return names;
}

// One array, as bytes.
std::string npy(const std::string& header, const std::string& elements) {
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  return bytes + header + elements;
}

class Data : public testing::Test {
 protected:
  std::string write(const std::string& name, std::string_view text) const { return folder.write(name, text).string(); }
  fs::path place(const std::string& name) const { return folder.path() / name; }
  LabelledData table(const std::string& text, const LabelledOptions& options = {}) const {
    return read_labelled(write("table.csv", text), options);
  }

  test::TemporaryFolder folder;
};

TEST(Npy, FloatsOfEveryWidthAndOrder) {
  const Matrix expected = golden_values();
  for (const char* name :
       {"float", "double", "big_endian", "big_double", "fortran", "strided", "transposed", "version2"})
    EXPECT_TRUE(test::same_bits(read_npy(golden(std::string(name) + ".npy")), expected)) << name;
  const Matrix half = read_npy(golden("half.npy"));
  ASSERT_EQ(half.rows(), rows);
  EXPECT_LE(test::largest_difference(half, expected), 2.0 / 2048);  // half a unit in the last place below 2
  EXPECT_GT(test::largest_difference(half, expected), 0);
}

TEST(Npy, HalvesAreThoseOfTheModelFiles) {
  const Matrix halves = read_npy(golden("halves.npy"));
  ASSERT_EQ(halves.rows(), 64u);
  ASSERT_EQ(halves.cols(), 256u);
  std::vector<uint16_t> bits(halves.size());
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i / 256 * 1024 + i % 256);
  std::vector<float> expected(bits.size());
  dequantize(TensorType::f16, std::as_bytes(std::span(bits)), expected);
  size_t infinite = 0;
  for (size_t i = 0; i < bits.size(); ++i) {
    infinite += std::isinf(expected[i]) ? 1 : 0;
    if (std::isnan(expected[i]))
      EXPECT_TRUE(std::isnan(halves.data()[i]));
    else
      EXPECT_EQ(halves.data()[i], expected[i]) << bits[i];
  }
  EXPECT_EQ(infinite, 2u);
}

TEST(Npy, IntegersAndBooleans) {
  for (const char* type : {"i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "big_i4"}) {
    const Matrix column = read_npy(golden(std::string("integers_") + type + ".npy"));
    ASSERT_EQ(column.rows(), rows);
    ASSERT_EQ(column.cols(), 1u);
    for (size_t r = 0; r < rows; ++r) EXPECT_EQ(column.row(r)[0], static_cast<float>(r)) << type;
  }
  EXPECT_EQ(read_npy(golden("booleans.npy")).row(3)[0], 1);
  EXPECT_EQ(read_npy(golden("column.npy")).row(2)[0], golden_values().row(2)[0]);
}

TEST_F(Data, DoublesBeyondFp32BecomeInfinite) {
  const double values[] = {3.4028235677973362e38, 3.4028235677973366e38, -1e300, NAN};
  const std::string elements(reinterpret_cast<const char*>(values), sizeof(values));
  const Matrix read =
      read_npy(write("wide.npy", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 4)}", elements)));
  EXPECT_EQ(read.row(0)[0], std::numeric_limits<float>::max());
  EXPECT_EQ(read.row(0)[1], INFINITY);
  EXPECT_EQ(read.row(0)[2], -INFINITY);
  EXPECT_TRUE(std::isnan(read.row(0)[3]));
}

TEST_F(Data, HeadersThatPythonWouldRead) {
  const std::string one(4, '\0');
  for (const char* header : {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n",
                             "{\"shape\":(1,1),\"descr\":\"<f4\",\"fortran_order\":True}",
                             " { 'fortran_order' : False , 'shape' : ( 1 , 1 ) , 'descr' : '=f4' } \n"})
    EXPECT_EQ(read_npy(write("one.npy", npy(header, one))).size(), 1u) << header;
  for (const char* header :
       {"", "{", "{}", "{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}"})
    HONE_EXPECT_ERROR(read_npy(write("bad.npy", npy(header, one))), ErrorCode::corrupt, "bad.npy");
}

TEST_F(Data, ArraysThatAreRefused) {
  HONE_EXPECT_ERROR(read_npy(golden("object.npy")), ErrorCode::unsupported, "Python objects");
  HONE_EXPECT_ERROR(read_npy(golden("complex.npy")), ErrorCode::unsupported, "<c8");
  HONE_EXPECT_ERROR(read_npy(golden("structured.npy")), ErrorCode::unsupported, "structured");
  HONE_EXPECT_ERROR(read_npy(golden("text.npy")), ErrorCode::unsupported, "text where numbers are needed");
  HONE_EXPECT_ERROR(read_npy(golden("cube.npy")), ErrorCode::bad_input, "(5, 3, 1)");
  HONE_EXPECT_ERROR(read_npy(golden("scalar.npy")), ErrorCode::bad_input, "one or two dimensions");
  HONE_EXPECT_ERROR(read_npy(golden("stored.npz")), ErrorCode::corrupt, "not an .npy array");
  HONE_EXPECT_ERROR(read_npy(write("empty.npy", "")), ErrorCode::corrupt, "empty");
  HONE_EXPECT_ERROR(read_npy(place("absent.npy")), ErrorCode::not_found, "absent.npy");
  HONE_EXPECT_ERROR(read_npy(folder.path()), ErrorCode::bad_input, "not a regular file");
  EXPECT_EQ(read_npy(golden("empty.npy")).rows(), 0u);
  EXPECT_EQ(read_npy(golden("no_columns.npy")).cols(), 0u);
}

TEST_F(Data, WhatIsWrittenIsReadBack) {
  const Matrix values = test::generated_matrix(7, 31, 17, 100);
  write_npy(place("x.npy"), values);
  EXPECT_TRUE(test::same_bits(read_npy(place("x.npy")), values));
  EXPECT_EQ(fs::file_size(place("x.npy")) % 4, 0u);
  write_npy(place("x.npy"), Matrix(0, 3));
  EXPECT_EQ(read_npy(place("x.npy")).cols(), 3u);
  HONE_EXPECT_ERROR(write_npy(place("no/such/x.npy"), values), ErrorCode::not_found, "no/such/x.npy");
}

TEST_F(Data, FloatsAreWrittenAsNumpyWritesThem) {
  write_npy(place("x.npy"), golden_values());
  EXPECT_EQ(read_file(place("x.npy")), read_file(golden("float.npy")));
}

TEST_F(Data, RowsFromDisk) {
  const Matrix expected = golden_values();
  for (const char* name : {"float.npy", "fortran.npy", "big_double.npy"}) {
    const NpyRows file = NpyRows::open(golden(name));
    ASSERT_EQ(file.rows(), rows);
    ASSERT_EQ(file.cols(), cols);
    for (size_t first = 0; first <= rows; ++first)
      for (size_t count = 0; first + count <= rows; ++count) {
        Matrix part(count, cols);
        file.read(first, part);
        EXPECT_TRUE(test::same_bits(part, expected.view().row_range(first, count))) << name << first << " " << count;
      }
    Matrix two(2, cols), narrow(1, cols - 1);
    HONE_EXPECT_ERROR(file.read(4, two), ErrorCode::bad_input, "rows [4, 6)");
    HONE_EXPECT_ERROR(file.read(0, narrow), ErrorCode::bad_input, "2 columns");
  }
}

TEST_F(Data, NpzStoredAndDeflated) {
  const LabelledData stored = read_labelled(golden("stored.npz"));
  EXPECT_TRUE(test::same_bits(stored.x, golden_values()));
  EXPECT_EQ(stored.labels, (Names{"-1", "3", "10"}));
  EXPECT_EQ(stored.y, (std::vector<int>{1, 0, 1, 2, 0}));
  const LabelledData deflated = read_labelled(golden("deflated.npz"));
  EXPECT_TRUE(test::same_bits(deflated.x, golden_values()));
  EXPECT_EQ(names_of(deflated), (Names{"zwei", "eins", "drei", "straße", "日本 🙂"}));
  HONE_EXPECT_ERROR(read_labelled(golden("other_names.npz")), ErrorCode::not_found, "features.npy, labels.npy");
  HONE_EXPECT_ERROR(read_labelled(golden("stored.npz"), {.label_file = golden("text.npy")}), ErrorCode::bad_input,
                    "holds its own labels");
}

TEST_F(Data, NpzRoundTrip) {
  const Matrix x = test::generated_matrix(8, 4, 6, 1);
  const std::vector<int> numbers = {5, -5, 1 << 30, 5};
  const Names texts = {"a", "", "ß日🙂", "b"};
  for (const int width : {0, 1}) {
    const Names labels = {"b", "a", std::string(static_cast<size_t>(width), 'a') + "ß日🙂", "b"};
    write_npz(place("a.npz"), std::vector<NpzArray>{{"X", x.view()}, {"y", labels}, {"n", numbers}});
    const LabelledData read = read_labelled(place("a.npz"));
    EXPECT_TRUE(test::same_bits(read.x, x));
    EXPECT_EQ(names_of(read), labels);
  }
  write_npz(place("b.npz"), std::vector<NpzArray>{{"y", numbers}, {"X", x.view()}});
  EXPECT_EQ(names_of(read_labelled(place("b.npz"))), (Names{"5", "-5", "1073741824", "5"}));
  write_npz(place("c.npz"), std::vector<NpzArray>{{"y", texts}, {"X", x.view()}});
  HONE_EXPECT_ERROR(read_labelled(place("c.npz")), ErrorCode::bad_input, "the label of row 1 is empty");
  HONE_EXPECT_ERROR(write_npz(place("d.npz"), std::vector<NpzArray>{{"y", numbers}, {"y", numbers}}),
                    ErrorCode::bad_input, "twice");
  HONE_EXPECT_ERROR(write_npz(place("d.npz"), std::vector<NpzArray>{{"y", Names{"\xff"}}}), ErrorCode::bad_input,
                    "not UTF-8");
  EXPECT_FALSE(fs::exists(place("d.npz")));
}

TEST_F(Data, NpyWithLabels) {
  const auto labels = [](const fs::path& file) {
    return names_of(read_labelled(golden("float.npy"), {.label_file = file}));
  };
  for (const char* type : {"i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "big_i4"})
    EXPECT_EQ(labels(golden(std::string("integers_") + type + ".npy")), (Names{"0", "1", "2", "3", "4"})) << type;
  EXPECT_EQ(labels(golden("booleans.npy")), (Names{"0", "1", "0", "1", "0"}));
  EXPECT_EQ(labels(golden("text.npy")), (Names{"zwei", "eins", "drei", "straße", "日本 🙂"}));
  EXPECT_EQ(labels(golden("bytes.npy")), (Names{"b", "aaa", "cc", "b", "aaa"}));
  EXPECT_EQ(labels(write("lines", "b\r\na\nb\na b\n9")), (Names{"b", "a", "b", "a b", "9"}));
  EXPECT_EQ(labels(write("lines",
                         "\xEF\xBB\xBF"
                         "b\na\nb\nb\n9\n")),
            (Names{"b", "a", "b", "b", "9"}));
  HONE_EXPECT_ERROR(labels(golden("column.npy")), ErrorCode::bad_input, "labels are integers or text");
  HONE_EXPECT_ERROR(labels(golden("float.npy")), ErrorCode::bad_input, "3 columns");
  HONE_EXPECT_ERROR(labels(golden("object.npy")), ErrorCode::unsupported, "Python objects");
  HONE_EXPECT_ERROR(labels(golden("stored.npz")), ErrorCode::bad_input, "no labels");
  HONE_EXPECT_ERROR(labels(write("lines", "a\nb\n")), ErrorCode::bad_input, "5 rows of features but 2 labels");
  HONE_EXPECT_ERROR(labels(write("lines", "a\nb\n\nd\ne\n")), ErrorCode::bad_input, "the label of row 2 is empty");
  HONE_EXPECT_ERROR(labels(write("lines", "")), ErrorCode::bad_input, "empty");
  HONE_EXPECT_ERROR(labels(place("absent")), ErrorCode::not_found, "absent");
  HONE_EXPECT_ERROR(read_labelled(golden("float.npy")), ErrorCode::bad_input, "it holds no labels");
  HONE_EXPECT_ERROR(read_labelled(golden("empty.npy"), {.label_file = write("lines", "a\n")}), ErrorCode::bad_input,
                    "[0, 3] are empty");
  HONE_EXPECT_ERROR(read_labelled(golden("no_columns.npy"), {.label_file = golden("text.npy")}), ErrorCode::bad_input,
                    "[5, 0] are empty");
}

TEST_F(Data, FeaturesAreFinite) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    Matrix x = golden_values();
    x.row(3)[1] = bad;
    write_npy(place("x.npy"), x);
    HONE_EXPECT_ERROR(read_labelled(place("x.npy"), {.label_file = golden("text.npy")}), ErrorCode::bad_input,
                      "row 3, column 1");
  }
}

TEST_F(Data, Idx) {
  for (const char* suffix : {"", ".gz"}) {
    const Matrix images = read_idx_images(golden(std::string("images.idx3") + suffix));
    ASSERT_EQ(images.rows(), 4u);
    ASSERT_EQ(images.cols(), 6u);
    for (size_t i = 0; i < images.size(); ++i)
      EXPECT_EQ(images.data()[i], static_cast<float>(test::generated_bits(901, i) >> 56));
    EXPECT_EQ(read_idx_labels(golden(std::string("labels.idx1") + suffix)), (std::vector<int>{7, 2, 1, 7}));
    const LabelledData data = read_labelled(golden(std::string("images.idx3") + suffix),
                                            {.label_file = golden(std::string("labels.idx1") + suffix)});
    EXPECT_TRUE(test::same_bits(data.x, images));
    EXPECT_EQ(names_of(data), (Names{"7", "2", "1", "7"}));
  }
  HONE_EXPECT_ERROR(read_idx_images(golden("labels.idx1")), ErrorCode::bad_input, "labels, not images");
  HONE_EXPECT_ERROR(read_idx_labels(golden("images.idx3")), ErrorCode::bad_input, "images, not labels");
  HONE_EXPECT_ERROR(read_idx_images(golden("float.npy")), ErrorCode::corrupt, "not an IDX file");
  HONE_EXPECT_ERROR(read_idx_images(write("empty", "")), ErrorCode::corrupt, "empty");
  HONE_EXPECT_ERROR(read_idx_images(write("floats", std::string("\0\0\x0d\x02\0\0\0\0\0\0\0\0", 12))),
                    ErrorCode::unsupported, "0x0d");
  const std::string images = read_file(golden("images.idx3"));
  for (size_t size = 1; size < images.size(); ++size)
    HONE_EXPECT_ERROR(read_idx_images(write("cut", images.substr(0, size))), ErrorCode::corrupt, "cut");
  HONE_EXPECT_ERROR(read_idx_images(write("long", images + "x")), ErrorCode::corrupt, "25 bytes");
}

TEST_F(Data, RealMnist) {
  const fs::path mnist = test::data_directory() / "mnist";
  HONE_NEED_FILE(mnist);
  const LabelledData data =
      read_labelled(mnist / "t10k-images-idx3-ubyte.gz", {.label_file = mnist / "t10k-labels-idx1-ubyte.gz"});
  EXPECT_EQ(data.x.rows(), 10000u);
  EXPECT_EQ(data.x.cols(), 784u);
  EXPECT_EQ(data.labels.size(), 10u);
  const auto mean = [](ConstMatrixView x) {
    double sum = 0;
    for (size_t i = 0; i < x.rows * x.cols; ++i) sum += x.data[i];
    return sum / 255 / static_cast<double>(x.rows * x.cols);
  };
  EXPECT_NEAR(mean(data.x), 0.1325, 0.0001);
  EXPECT_EQ(std::vector<int>(data.y.begin(), data.y.begin() + 5), (std::vector<int>{7, 2, 1, 0, 4}));
}

TEST_F(Data, TablesOfNumbers) {
  const LabelledData last = table("a,b,kind\n1,2.5,x\n-1e-3,+4, y y\n");
  EXPECT_EQ(last.x.cols(), 2u);
  EXPECT_EQ(last.x.row(0)[1], 2.5F);
  EXPECT_EQ(last.x.row(1)[0], -1e-3F);
  EXPECT_EQ(last.x.row(1)[1], 4);
  EXPECT_EQ(names_of(last), (Names{"x", " y y"}));
  const LabelledData named = table("a,kind,b\n1,10,2\n3,9,4\n", {.label_column = "kind"});
  EXPECT_EQ(named.x.row(1)[1], 4);
  EXPECT_EQ(named.labels, (Names{"9", "10"}));
  const LabelledData bare = table("1,2,7\n3,4,8\n", {.header = false});
  EXPECT_EQ(bare.x.rows(), 2u);
  const LabelledData one = table("a,kind\n1,x\n2,y\n");
  EXPECT_TRUE(one.texts.empty());
  EXPECT_EQ(one.x.cols(), 1u);
  const LabelledData tabs = read_labelled(write("t.tsv", "a\tkind\n1\tx,y\n"));
  EXPECT_EQ(names_of(tabs), (Names{"x,y"}));
}

// Python's csv and pandas write an empty field that is alone on its line as "".
TEST(Delimited, OnlyLinesWithNothingOnThemAreLeftOut) {
  const auto fields = [](std::string_view text) {
    std::vector<Names> all;
    for (const Record& record : delimited_records("table.csv", text)) all.push_back(record.fields);
    return all;
  };
  EXPECT_EQ(fields("text\n\na\n\"\"\n\r\n\"\"\r\nb\n\n\"\""),
            (std::vector<Names>{{"text"}, {"a"}, {""}, {""}, {"b"}, {""}}));
  EXPECT_EQ(fields("\"\"\n"), (std::vector<Names>{{""}}));
  EXPECT_EQ(fields("\n\r\n"), std::vector<Names>());
}

TEST(Lines, CountAlsoWhereTheyAreEmpty) {
  const auto lines = [](std::string_view text) {
    std::vector<std::pair<size_t, std::string>> all;
    for_each_line(text, [&](size_t number, std::string_view line) { all.emplace_back(number, line); });
    return all;
  };
  EXPECT_EQ(lines("\xEF\xBB\xBF"
                  "a\r\n\n b\r"),
            (std::vector<std::pair<size_t, std::string>>{{1, "a"}, {2, ""}, {3, " b"}}));
  EXPECT_EQ(lines("a\n").size(), 1u);
  EXPECT_TRUE(lines("").empty());
}

TEST_F(Data, TablesOfTexts) {
  const LabelledData data = table("text,kind\n\"a, \"\"b\"\"\nc\",x\n5,y\r\n\n,x\n");
  EXPECT_EQ(data.texts, (Names{"a, \"b\"\nc", "5", ""}));
  EXPECT_TRUE(data.x.empty());
  EXPECT_EQ(names_of(data), (Names{"x", "y", "x"}));
  const LabelledData first = table("kind,text\nx,hello\ny,5\n", {.label_column = "kind"});
  EXPECT_EQ(first.texts, (Names{"hello", "5"}));
  const LabelledData chosen = table("id,kind,text\n1,x,5\n", {.label_column = "kind", .text_column = "text"});
  EXPECT_EQ(chosen.texts, (Names{"5"}));
  EXPECT_EQ(table("\xEF\xBB\xBFtext,kind\na,b\n", {.text_column = "text"}).texts, (Names{"a"}));
}

TEST_F(Data, TablesThatAreRefused) {
  const auto refused = [&](const std::string& text, const std::string& why, const LabelledOptions& options = {}) {
    HONE_EXPECT_ERROR(table(text, options), ErrorCode::bad_input, why);
  };
  refused("", "line 1: the file is empty");
  refused("\n\n", "the file is empty");
  refused("a,b,kind\n", "no row follows the header");
  refused("kind\nx\n", "one field");
  refused("a,b,kind\n1,2,x\n3,y\n", "line 3: 2 fields under a header of 3");
  refused("1,2,x\n3,4,5,y\n", "line 2: 4 fields under a first line of 3", {.header = false});
  refused("a,b,kind\n1,2,x\n3,,y\n", "line 3: column 'b' holds ''");
  refused("a,b,kind\n1,nan,x\n", "line 2: column 'b' holds 'nan'");
  refused("a,b,kind\n1,1e39,x\n", "column 'b' holds '1e39'");
  refused("a,b,kind\n1,inf,x\n", "column 'b' holds 'inf'");
  refused("a,b,kind\n1,2 3,x\n", "column 'b' holds '2 3'");
  refused("1,0x10,x\n", "column 2 holds '0x10'", {.header = false});
  refused("a,b,kind\n1,2,\n", "line 2: the label is empty");
  refused("a,b,kind\n1,\"2,x\n", "line 2: a quoted field does not end");
  refused("a,b,kind\n1,\"2\"3,x\n", "line 2: text behind a quoted field");
  refused("1,2,x\n3,4,y\n", "there is no header");
  refused("a,b\n1,x\n", "no column 'kind'; its columns are a, b", {.label_column = "kind"});
  refused("a,a\n1,x\n", "more than one column 'a'", {.label_column = "a"});
  refused("a,b\n1,x\n", "no column 'words'", {.text_column = "words"});
  refused("a,b\n1,x\n", "both the text and the label", {.text_column = "b"});
  refused("1,x\n", "no header that could name a column 'b'", {.label_column = "b", .header = false});
  refused("a,b\n1,x\n", "a table has a column of labels", {.label_file = "labels"});
  HONE_EXPECT_ERROR(read_labelled(golden("stored.npz"), {.label_column = "y"}), ErrorCode::bad_input, "of tables");
  HONE_EXPECT_ERROR(read_labelled(write("t.txt", "a,b\n1,x\n")), ErrorCode::bad_input, "does not know these contents");
  HONE_EXPECT_ERROR(read_labelled(write("t.npz", "")), ErrorCode::bad_input, "empty");
}

TEST_F(Data, LabelsAreSortedByValueOrByBytes) {
  EXPECT_EQ(distinct_labels(Names{"10", "9", "-3", "9"}), (Names{"-3", "9", "10"}));
  EXPECT_EQ(distinct_labels(Names{"10", "9", "a", "9"}), (Names{"10", "9", "a"}));
  EXPECT_EQ(distinct_labels(Names{"01", "1"}), (Names{"01", "1"}));
  EXPECT_TRUE(distinct_labels({}).empty());
}

TEST_F(Data, LabelsOfOtherData) {
  const LabelledData test_data = table("a,kind\n1,x\n2,z\n3,x\n");
  EXPECT_EQ(labels_as(Names{"w", "x", "z"}, test_data, "test"), (std::vector<int>{1, 2, 1}));
  HONE_EXPECT_ERROR(labels_as(Names{"w", "x"}, test_data, "'test.csv'"), ErrorCode::bad_input,
                    "'test.csv': row 1 has the label 'z'");
}

TEST_F(Data, RowsOfOtherLabelsAreLeftOut) {
  LabelledData numbers = table("a,kind\n1,x\n2,z\n3,y\n4,x\n");
  EXPECT_EQ(keep_labels(Names{"x", "y"}, numbers), (std::vector<size_t>{0, 2, 3}));
  EXPECT_EQ(names_of(numbers), (Names{"x", "y", "x"}));
  ASSERT_EQ(numbers.x.rows(), 3u);
  EXPECT_EQ(numbers.x.row(1)[0], 3);
  EXPECT_EQ(numbers.x.row(2)[0], 4);
  LabelledData texts = table("text,kind\nhello,x\n,z\nso,y\n");
  EXPECT_EQ(keep_labels(Names{"y", "z"}, texts), (std::vector<size_t>{1, 2}));
  EXPECT_EQ(texts.texts, (Names{"", "so"}));
  EXPECT_TRUE(keep_labels(Names{"w"}, texts).empty());
  EXPECT_EQ(texts.size(), 0u);
  EXPECT_TRUE(texts.texts.empty());
}

TEST_F(Data, GzipOfSeveralMembers) {
  const std::string one = read_file(golden("labels.idx1.gz"));
  const std::string twice = one + one;
  const std::string both = gunzip(std::as_bytes(std::span(twice)), "both");
  EXPECT_EQ(both, read_file(golden("labels.idx1")) + read_file(golden("labels.idx1")));
  const std::string tail = one + "x";
  HONE_EXPECT_ERROR(gunzip(std::as_bytes(std::span(tail)), "tail"), ErrorCode::corrupt, "not gzip");
  for (size_t size = 3; size < one.size(); ++size) {
    const std::string cut = one.substr(0, size);
    HONE_EXPECT_ERROR(gunzip(std::as_bytes(std::span(cut)), "cut"), ErrorCode::corrupt, "cut");
  }
}

// Large contents pass through several of zlib's buffers.
TEST_F(Data, LargeDeflatedContents) {
  std::string contents(1 << 20, '\0');
  for (size_t i = 0; i < contents.size(); ++i) contents[i] = static_cast<char>(test::generated_bits(5, i / 3) & 7);
  z_stream stream{};
  ASSERT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, contents.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(contents.data());
  stream.avail_in = static_cast<uInt>(contents.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  ASSERT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  const auto bytes = std::as_bytes(std::span(packed));
  EXPECT_EQ(inflate_raw(bytes, contents.size(), "all"), contents);
  HONE_EXPECT_ERROR(inflate_raw(bytes, contents.size() - 1, "fewer"), ErrorCode::corrupt, "as it says");
  HONE_EXPECT_ERROR(inflate_raw(bytes, contents.size() + 1, "more"), ErrorCode::corrupt, "as it says");
  HONE_EXPECT_ERROR(inflate_raw(bytes.first(bytes.size() / 2), contents.size(), "cut"), ErrorCode::corrupt, "cut off");
  HONE_EXPECT_ERROR(inflate_raw(bytes, size_t{1} << 60, "bomb"), ErrorCode::corrupt, "cannot hold");
}

}  // namespace
}  // namespace hone::data_test
