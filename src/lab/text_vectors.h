// Texts that every Debian machine has, and vectors of texts that are computed once.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "hone/encoder.h"

namespace hone::lab {

// Pieces of about 200 characters, cut at lines, of the Python standard library's sources and, if Debian's linux-doc is
// there, of its reference texts; `count` of them, evenly spaced, or all if there are fewer. The same machine gives the
// same pieces. Throws Error{not_found} if there is neither.
std::vector<std::string> corpus_pieces(size_t count);

// Of texts and their order, for config.json.
std::string texts_hash(std::span<const std::string> texts);

// The folder of `hone model get minilm`. Throws Error{not_found} that says to run it.
std::filesystem::path minilm_folder();

// A .npy file below the cache directory with the vectors of `texts`, computed if it is not there. Its name is a hash of
// encoder, precision and texts. Throws as TextEncoder::embed does.
std::filesystem::path cached_vectors(const TextEncoder& encoder, std::span<const std::string> texts,
                                     const Watch& watch);

}  // namespace hone::lab
