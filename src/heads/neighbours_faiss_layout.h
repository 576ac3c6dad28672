// Whether bytes are laid out as the inverted lists or the graph that hone has FAISS write, looked at before FAISS reads
// them: it makes room for whatever a file claims to hold, and reads any kind of index inside another.
#pragma once

#include <cstddef>
#include <span>

namespace hone {

// Of n points of d values. Both throw Error{corrupt} for bytes that are anything else, or not all of them.
void check_layout_of_lists(std::span<const std::byte> bytes, size_t n, size_t d, size_t lists);
void check_layout_of_graph(std::span<const std::byte> bytes, size_t n, size_t d);

}  // namespace hone
