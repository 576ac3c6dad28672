// Chunks of a store that another process may be writing to.
#pragma once

#include <optional>

#include "hone/store.h"

namespace hone {

// Nothing if the chunk was removed after its id was read.
std::optional<Chunk> find_chunk(const Store& store, int64_t id);

}  // namespace hone
