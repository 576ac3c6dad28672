#include "images/max_pool.h"

#include <algorithm>

namespace hone {
namespace {

// Calls window(input offset, output offset) for the upper left value of every 2 × 2 window, all channels together.
template <class Window>
void for_each_window(const PoolShape& s, const Window& window) {
  size_t to = 0;
  for (size_t image = 0; image < s.images; ++image)
    for (size_t row = 0; row < s.rows / 2; ++row)
      for (size_t col = 0; col < s.cols / 2; ++col, to += s.channels)
        window(((image * s.rows + 2 * row) * s.cols + 2 * col) * s.channels, to);
}

}  // namespace

void max_pool(const PoolShape& s, const float* x, float* y) {
  const size_t right = s.channels, below = s.cols * s.channels;
  for_each_window(s, [&](size_t from, size_t to) {
    const float* top = x + from;
    const float* bottom = top + below;
    for (size_t c = 0; c < s.channels; ++c) {
      const float upper = std::max(top[c], top[c + right]), lower = std::max(bottom[c], bottom[c + right]);
      y[to + c] = std::max(0.0F, std::max(upper, lower));
    }
  });
}

void max_pool_backward(const PoolShape& s, const float* x, const float* y, const float* dy, float* dx) {
  const size_t right = s.channels, below = s.cols * s.channels;
  std::fill_n(dx, s.images * s.rows * s.cols * s.channels, 0.0F);
  for_each_window(s, [&](size_t from, size_t to) {
    for (size_t c = 0; c < s.channels; ++c) {
      const float most = y[to + c];
      if (!(most > 0)) continue;
      const float* value = x + from + c;
      const size_t place = value[0] == most       ? 0
                           : value[right] == most ? right
                           : value[below] == most ? below
                                                  : below + right;
      dx[from + c + place] = dy[to + c];
    }
  });
}

}  // namespace hone
