// data: features, texts and labels from the files that people have. NumPy's .npy and .npz, CSV and TSV, IDX images.
// Every reader throws Error{not_found, io} for a file that cannot be read, Error{corrupt} for one that is damaged, cut
// off or not what it says, Error{unsupported} for what hone does not read (pickled objects, complex numbers) and
// Error{bad_input} for contents that cannot be used; messages name the file and the array, or the line and the column.
// Functions may be called from many threads at once.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "hone/base.h"

namespace hone {

// ---- .npy and .npz --------------------------------------------------------------------------------------------------

// An array [rows, cols], or [rows], read as one column. Floats of 16, 32 and 64 bits, integers and booleans, little- or
// big-endian, C or Fortran order; values are rounded to fp32, where those above its range become infinite.
Matrix read_npy(const std::filesystem::path& path);

// The rows of such a file, read from disk when they are asked for: for data that is larger than memory. Immutable;
// copies share one mapping.
class NpyRows {
 public:
  static NpyRows open(const std::filesystem::path& path);
  size_t rows() const;
  size_t cols() const;
  // Rows [first, first + out.rows) to out [.., cols()]. Throws Error{bad_input} where there are no such rows.
  void read(size_t first, MatrixView out) const;

 private:
  struct File;
  std::shared_ptr<const File> file_;
};

// float32 in C order. Atomic: afterwards the old file or the new one is there. Throws Error{io}.
void write_npy(const std::filesystem::path& path, ConstMatrixView values);

// An array of an .npz file: float32 [rows, cols], int64 [n] or fixed-width text (UTF-8 here, UTF-32 in the file) [n].
struct NpzArray {
  std::string name;
  std::variant<ConstMatrixView, std::span<const int>, std::span<const std::string>> values;
};
// Uncompressed, as numpy.savez. Atomic. Throws Error{bad_input} for a name twice or text that is not UTF-8, Error{io}.
void write_npz(const std::filesystem::path& path, std::span<const NpzArray> arrays);

// ---- IDX ------------------------------------------------------------------------------------------------------------

// Unsigned bytes of MNIST's format, raw or gzip: images [n, rows, cols] as pixels [n, rows*cols] from 0 to 255, and
// labels [n].
Matrix read_idx_images(const std::filesystem::path& path);
std::vector<int> read_idx_labels(const std::filesystem::path& path);

// ---- Labelled data --------------------------------------------------------------------------------------------------

struct LabelledData {
  Matrix x;                         // features [n, d], all finite; empty where there are texts instead
  std::vector<std::string> texts;   // [n] or empty
  std::vector<int> y;               // [n], indexes `labels`
  std::vector<std::string> labels;  // distinct; by value if all are integers, otherwise by bytes

  size_t size() const { return y.size(); }
};

struct LabelledOptions {
  // The labels of .npy features and IDX images, which hold none: .npy, IDX, or a text file with one label a line.
  std::filesystem::path label_file = {};
  std::string label_column = {};  // of a table; empty: the last
  // Of a table: the column that is the text; other columns are then not read. Empty: all columns but the label's are
  // numbers, or there is only one and it is text, which it is unless all its fields are numbers.
  std::string text_column = {};
  bool header = true;  // a table's first line names its columns
};

// A table (.csv, .tsv; RFC 4180, its fields apart by commas or tabs), .npz with arrays X and y, or .npy or IDX images
// beside options.label_file; other than tables, files are known by their contents. Labels of .npz and .npy are integers
// or text. Throws Error{bad_input} also for no rows, rows of other lengths, features that are not finite, labels
// that are empty or not as many as rows.
LabelledData read_labelled(const std::filesystem::path& path, const LabelledOptions& options = {});

// Distinct names in the order of LabelledData::labels.
std::vector<std::string> distinct_labels(std::span<const std::string> names);

// data.y as indices of `labels`, those of the training data. Throws Error{bad_input} naming `what`, the row and the
// label for one that is not among them.
std::vector<int> labels_as(std::span<const std::string> labels, const LabelledData& data, std::string_view what);

// Leaves out of `data` the rows whose label is not among `labels`; data.labels stay. Returns the old numbers of the
// rows that are left, perhaps none.
std::vector<size_t> keep_labels(std::span<const std::string> labels, LabelledData& data);

}  // namespace hone
