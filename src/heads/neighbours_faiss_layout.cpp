#include "heads/neighbours_faiss_layout.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "hone/base.h"

namespace hone {
namespace {

// Walks over the bytes as FAISS 1.7 writes them: numbers as they lie in memory, a vector after the number of its
// values.
class Layout {
 public:
  explicit Layout(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <class T>
  T take() {
    T value{};
    require(rest_.size() >= sizeof value);
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_ = rest_.subspan(sizeof value);
    return value;
  }

  void skip(size_t values, size_t size) {
    require(values <= rest_.size() / size);
    rest_ = rest_.subspan(values * size);
  }

  // The number of values of a vector, which is skipped.
  size_t skip_vector(size_t size) {
    const auto values = take<uint64_t>();
    skip(values, size);
    return values;
  }

  std::string_view tag() {
    tag_ = take<std::array<char, 4>>();
    return {tag_.data(), tag_.size()};
  }

  // What every index begins with: dimension, points, two constants, whether it is trained, its metric.
  void header(size_t n, size_t d) {
    require(std::cmp_equal(take<int32_t>(), d) && std::cmp_equal(take<int64_t>(), n));
    skip(2, sizeof(int64_t));
    skip(1, 1);
    const auto metric = take<int32_t>();
    require(metric == 0 || metric == 1);  // another would be followed by its argument
  }

  void flat_index(size_t n, size_t d) {
    const std::string_view kind = tag();
    require(kind == "IxF2" || kind == "IxFI" || kind == "IxFl");
    header(n, d);
    require(skip_vector(sizeof(float)) == n * d);
  }

  void end() const { require(rest_.empty()); }

  static void require(bool kept) {
    if (!kept) throw Error(ErrorCode::corrupt, "its index is laid out otherwise");
  }

 private:
  std::span<const std::byte> rest_;
  std::array<char, 4> tag_{};
};

}  // namespace

void check_layout_of_lists(std::span<const std::byte> bytes, size_t n, size_t d, size_t lists) {
  Layout layout(bytes);
  Layout::require(layout.tag() == "IwFl");
  layout.header(n, d);
  Layout::require(layout.take<uint64_t>() == lists);
  layout.skip(1, sizeof(uint64_t));  // how many are searched
  layout.flat_index(lists, d);
  Layout::require(layout.take<char>() == 0 && layout.take<uint64_t>() == 0);  // no map from points to lists
  const size_t code_size = d * sizeof(float);
  Layout::require(layout.tag() == "ilar" && layout.take<uint64_t>() == lists && layout.take<uint64_t>() == code_size);
  const std::string_view form = layout.tag();
  const bool sparse = form == "sprs";  // pairs of a list and its size, else the sizes of all
  Layout::require(sparse || form == "full");
  const auto numbers = layout.take<uint64_t>();
  Layout::require(sparse ? numbers % 2 == 0 : numbers == lists);
  size_t points = 0;
  for (uint64_t i = 0; i < numbers; ++i) {
    const auto number = layout.take<uint64_t>();
    const bool is_list = sparse && i % 2 == 0;
    Layout::require(is_list ? number < lists : number <= n - points);
    if (!is_list) points += number;
  }
  Layout::require(points == n);
  layout.skip(points, code_size + sizeof(int64_t));
  layout.end();
}

void check_layout_of_graph(std::span<const std::byte> bytes, size_t n, size_t d) {
  Layout layout(bytes);
  Layout::require(layout.tag() == "IHNf");
  layout.header(n, d);
  layout.skip_vector(sizeof(double));    // how likely a point is on each level
  layout.skip_vector(sizeof(int32_t));   // places for links up to each level
  layout.skip_vector(sizeof(int32_t));   // levels of each point
  layout.skip_vector(sizeof(uint64_t));  // where its links begin
  layout.skip_vector(sizeof(int32_t));   // links
  layout.skip(5, sizeof(int32_t));       // where the walk begins, and how wide it is
  layout.flat_index(n, d);
  layout.end();
}

}  // namespace hone
