#include "base/rounding.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace hone {

std::string rounded_up(double value, int decimals) {
  const double unit = std::pow(10, -decimals);
  return fmt::format("{:.{}f}", std::max(0.0, std::ceil(value / unit - 1e-9) * unit), decimals);
}

}  // namespace hone
