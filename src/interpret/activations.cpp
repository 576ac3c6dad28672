// Batches out of a .npy file that stays on disk.
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "base/files.h"
#include "base/parallel.h"
#include "hone/data.h"
#include "interpret/shuffle.h"

namespace hone {
namespace {

class NpyActivations : public ActivationBatches {
 public:
  NpyActivations(const std::filesystem::path& path, uint64_t seed)
      : path_(path), file_(NpyRows::open(path)), order_(0, seed) {
    if (file_.rows() == 0 || file_.cols() == 0)
      throw Error(ErrorCode::bad_input, fmt::format("'{}' holds an array [{}, {}]; give at least one row of one value",
                                                    path.string(), file_.rows(), file_.cols()));
    if (file_.rows() > std::numeric_limits<uint32_t>::max())
      throw Error(ErrorCode::unsupported,
                  fmt::format("'{}' holds {} rows; split it, at most 2³² − 1 rows", path.string(), file_.rows()));
    order_ = ShuffledOrder(file_.rows(), seed);
  }

  size_t rows() const override { return file_.rows(); }
  size_t width() const override { return file_.cols(); }
  std::string identity() const override {
    if (identity_.empty()) identity_ = content_hash(MappedFile(path_).bytes());
    return identity_;
  }

  void read(uint64_t number, MatrixView to, const CancelToken& cancel) override {
    cancel.check();
    std::vector<uint32_t> ids(to.rows);
    for (size_t i = 0; i < to.rows; ++i) ids[i] = order_.at(number * to.rows + i);
    gather(to, [&](size_t i) { return ids[i]; });
  }
  void read_in_order(size_t first, MatrixView to, const CancelToken& cancel) override {
    cancel.check();
    gather(to, [&](size_t i) { return first + i; });
  }
  Place place(size_t row) const override { return {"", fmt::format("row {}", row), ""}; }

 private:
  template <class Id>
  void gather(MatrixView to, const Id& id) const {
    parallel_ranges(to.rows, 64, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        file_.read(id(i), to.row_range(i, 1));
        for (const float value : to.row(i))
          if (!std::isfinite(value))
            throw Error(ErrorCode::bad_input, fmt::format("'{}': row {} holds {}; remove rows that are not finite",
                                                          path_.string(), id(i), value));
      }
    });
  }

  std::filesystem::path path_;
  NpyRows file_;
  ShuffledOrder order_;
  mutable std::string identity_;  // read from the whole file once, when it is first asked for
};

}  // namespace

std::unique_ptr<ActivationBatches> open_activations(const std::filesystem::path& npy, uint64_t seed) {
  return std::make_unique<NpyActivations>(npy, seed);
}

}  // namespace hone
