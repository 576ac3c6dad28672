#include "model/byte_dots.h"

#include <algorithm>

#include "base/vnni_intrinsics.h"

namespace hone {

#if defined(__x86_64__)

namespace {

constexpr size_t dotted_rows = 4;  // with four outputs 16 sums, four weights and a row fill 21 of 32 registers

// The sums of four vectors' lanes.
HONE_VNNI inline __m128i sum_lanes(const __m512i (&v)[dotted_outputs]) {
  const __m512i low = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i high = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  const __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
  const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

// Four outputs of some rows, from output `first` on; outputs beyond the last repeat it and are not stored.
template <size_t rows>
HONE_VNNI void dot(const uint8_t* x, const Int8Weights& w, size_t first, int32_t* sums) {
  constexpr size_t step = 64;
  const size_t stride = w.stride ? w.stride : w.in, outputs = std::min(dotted_outputs, w.out - first);
  const int8_t* from[dotted_outputs];
  for (size_t o = 0; o < dotted_outputs; ++o) from[o] = w.values + (first + std::min(o, outputs - 1)) * stride;
  __m512i sum[rows][dotted_outputs];
#pragma GCC unroll 4
  for (size_t r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (__m512i& lanes : sum[r]) lanes = _mm512_setzero_si512();
  for (size_t k = 0; k < w.in; k += step) {
    const __mmask64 inside = w.in - k < step ? (__mmask64{1} << (w.in - k)) - 1 : ~__mmask64{0};
    __m512i weights[dotted_outputs];
#pragma GCC unroll 4
    for (size_t o = 0; o < dotted_outputs; ++o) weights[o] = _mm512_maskz_loadu_epi8(inside, from[o] + k);
#pragma GCC unroll 4
    for (size_t r = 0; r < rows; ++r) {
      const __m512i values = _mm512_maskz_loadu_epi8(inside, x + r * w.in + k);
#pragma GCC unroll 4
      for (size_t o = 0; o < dotted_outputs; ++o) sum[r][o] = _mm512_dpbusd_epi32(sum[r][o], values, weights[o]);
    }
  }
  const auto stored = static_cast<__mmask8>((1U << outputs) - 1);
#pragma GCC unroll 4
  for (size_t r = 0; r < rows; ++r) _mm_mask_storeu_epi32(sums + r * w.out + first, stored, sum_lanes(sum[r]));
}

}  // namespace

void dot_bytes(const uint8_t* x, size_t rows, const Int8Weights& w, size_t begin, size_t end, int32_t* sums) {
  for (size_t first = begin; first < end; first += dotted_outputs)
    for (size_t r = 0; r < rows; r += dotted_rows) {
      const uint8_t* from = x + r * w.in;
      int32_t* to = sums + r * w.out;
      switch (rows - r) {
        case 1: dot<1>(from, w, first, to); break;
        case 2: dot<2>(from, w, first, to); break;
        case 3: dot<3>(from, w, first, to); break;
        default: dot<dotted_rows>(from, w, first, to);
      }
    }
}

#else

void dot_bytes(const uint8_t* /*x*/, size_t /*rows*/, const Int8Weights& /*w*/, size_t /*begin*/, size_t /*end*/,
               int32_t* /*sums*/) {}

#endif

}  // namespace hone
