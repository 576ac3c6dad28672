// DEFLATE (RFC 1951) and gzip (RFC 1952) by zlib.
#pragma once

#include <span>
#include <string>

#include "hone/base.h"

namespace hone {

// The `size` bytes that a raw DEFLATE stream holds. Throws Error{corrupt} saying what `source` is if it holds fewer,
// more, or is damaged.
std::string inflate_raw(std::span<const std::byte> bytes, size_t size, std::string_view source);

bool is_gzip(std::span<const std::byte> bytes);
// All members of a gzip file, one after the other. Throws Error{corrupt}.
std::string gunzip(std::span<const std::byte> bytes, std::string_view source);

// CRC-32 of bytes that follow those of checksum `before`.
uint32_t crc32_of(std::span<const std::byte> bytes, uint32_t before = 0);

}  // namespace hone
