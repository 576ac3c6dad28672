// Small grey images inside a page, as bitmaps that every browser reads.
#include <algorithm>
#include <cmath>

#include "hone/sae.h"

namespace hone {
namespace {

void append(std::string& bytes, uint32_t value, size_t count) {
  for (size_t i = 0; i < count; ++i) bytes += static_cast<char>(value >> 8 * i & 255);
}

// Windows bitmap: file header, information header, a palette of 256 greys, rows from the bottom up padded to 4 bytes.
std::string bitmap(std::span<const float> pixels, size_t width, size_t height) {
  constexpr uint32_t headers = 14 + 40, palette = 256 * 4;
  const size_t stride = (width + 3) / 4 * 4;
  std::string bytes = "BM";
  append(bytes, static_cast<uint32_t>(headers + palette + stride * height), 4);
  append(bytes, 0, 4);
  append(bytes, headers + palette, 4);
  append(bytes, 40, 4);
  append(bytes, static_cast<uint32_t>(width), 4);
  append(bytes, static_cast<uint32_t>(height), 4);
  append(bytes, 1, 2);  // planes
  append(bytes, 8, 2);  // bits a pixel
  for (size_t field = 0; field < 6; ++field) append(bytes, 0, 4);
  for (uint32_t grey = 0; grey < 256; ++grey) append(bytes, grey * 0x010101U, 4);
  for (size_t y = height; y-- > 0;) {
    for (size_t x = 0; x < width; ++x)
      bytes += static_cast<char>(std::lround(std::clamp(pixels[y * width + x], 0.0F, 255.0F)));
    bytes.append(stride - width, '\0');
  }
  return bytes;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) group = group << 8 | (j < count ? static_cast<unsigned char>(bytes[i + j]) : 0U);
    for (size_t j = 0; j < 4; ++j) text += j <= count ? digits[group >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

}  // namespace

std::string image_html(std::span<const float> pixels, size_t width, size_t height) {
  if (pixels.size() != width * height)
    throw Error(ErrorCode::bad_input, "image: its pixels are not width times height");
  return "<img alt=\"\" src=\"data:image/bmp;base64," + base64(bitmap(pixels, width, height)) + "\">";
}

}  // namespace hone
