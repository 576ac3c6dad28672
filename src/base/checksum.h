#pragma once

#include <cstdint>
#include <string_view>

namespace hone {

// XXH3-64: tells damage from what was written.
uint64_t checksum(std::string_view bytes);

}  // namespace hone
